"""SwAV (https://arxiv.org/abs/2006.09882) on ImageNet; 8 GPUs with 32 images each.

    torchrun --nproc_per_node 8 tools/train.py \
        configs/swav/swav_resnet50_8xb32-mcrop-coslr-200e_in1k-224px-96px.py --launcher pytorch

Expected: top-1 0.705 by a linear probe. Published, not measured here: 70.5 %
(mmpretrain 1.2.0, configs/swav/metafile.yml).
"""

_base_ = [
    "../_base_/datasets/imagenet_crops.py",
    "../_base_/schedules/lars_coslr_200e_bs4096.py",
    "../_base_/default_runtime.py",
]

model = dict(
    type="SwAV",
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(type="ResNet", depth=50, norm_cfg=dict(type="SyncBN"), zero_init_residual=True),
    neck=dict(type="SwAVNeck", in_channels=2048, hid_channels=2048, out_channels=128),
    head=dict(
        type="SwAVHead",
        loss=dict(type="SwAVLoss", feat_dim=128, epsilon=0.05, temperature=0.1, num_crops=[2, 6]),
    ),
)

optim_wrapper = dict(optimizer=dict(lr=0.6), paramwise_cfg=None)  # nothing is excluded
param_scheduler = [
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=200, eta_min=6e-4, convert_to_iter_based=True)
]
custom_hooks = [
    dict(
        type="SwAVHook",
        batch_size=32,
        epoch_queue_starts=15,
        crops_for_assign=[0, 1],
        feat_dim=128,
        queue_length=3840,
        frozen_layers_cfg=dict(prototypes=5005),
    )
]
find_unused_parameters = True
