"""Barlow Twins (https://arxiv.org/abs/2103.03230) on ImageNet; 8 GPUs with 256 images each.

    torchrun --nproc_per_node 8 tools/train.py \
        configs/barlowtwins/barlowtwins_resnet50_8xb256-coslr-300e_in1k.py --launcher pytorch

Expected: top-1 0.718 by a linear probe. Published, not measured here: 71.8 %
(mmpretrain 1.2.0, configs/barlowtwins/metafile.yml); 73.2 % after 1000 epochs in the paper.
"""

_base_ = [
    "../_base_/datasets/imagenet_two_unlike_views.py",
    "../_base_/schedules/lars_coslr_200e_bs4096.py",
    "../_base_/default_runtime.py",
]

model = dict(
    type="BarlowTwins",
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(type="ResNet", depth=50, norm_cfg=dict(type="SyncBN"), zero_init_residual=True),
    neck=dict(
        type="NonLinearNeck",
        in_channels=2048,
        hid_channels=8192,
        out_channels=8192,
        num_layers=3,
        with_last_bn=False,
        with_last_bn_affine=False,
    ),
    head=dict(type="LatentCrossCorrelationHead", in_channels=8192, loss=dict(type="CrossCorrelationLoss")),
)

# 0.2 per 256 images, and 0.0048 for normalisations and biases (section 2.2 of the paper)
slower = dict(lr_mult=0.024)
optim_wrapper = dict(
    optimizer=dict(lr=1.6),
    paramwise_cfg=dict(custom_keys={"bn": slower, "downsample.1": slower, "bias": slower}),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-4, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR", by_epoch=True, begin=10, end=300, eta_min=0.0016, convert_to_iter_based=True
    ),
]
train_cfg = dict(by_epoch=True, max_epochs=300)
