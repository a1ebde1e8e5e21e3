"""MoCo v3 (https://arxiv.org/abs/2104.02057) on ImageNet: ViT-B/16, 300 epochs; 16 GPUs with 256 images each.

    torchrun --nnodes 2 --nproc_per_node 8 tools/train.py \
        configs/mocov3/mocov3_vit-base-p16_16xb256-amp-coslr-300e_in1k.py --launcher pytorch --amp

Expected: top-1 0.769 by a linear probe. Published, not measured here: 76.9 % by a linear probe, 83.0 % by
fine-tuning (mmpretrain 1.2.0, configs/mocov3/metafile.yml); 76.7 % and 83.2 % in the paper.
"""

_base_ = [
    "../_base_/datasets/imagenet_two_unlike_views.py",
    "../_base_/default_runtime.py",
]

model = dict(
    type="MoCoV3",
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(type="MoCoV3ViT", arch="base", img_size=224, patch_size=16, stop_grad_conv1=True),
    neck=dict(
        type="NonLinearNeck",
        in_channels=768,
        hid_channels=4096,
        out_channels=256,
        num_layers=3,
        with_bias=False,
        with_last_bn=True,
        with_last_bn_affine=False,
        with_last_bias=False,
        with_avg_pool=False,
    ),
    head=dict(
        type="MoCoV3Head",
        predictor=dict(
            type="NonLinearNeck",
            in_channels=256,
            hid_channels=4096,
            out_channels=256,
            num_layers=2,
            with_bias=False,
            with_last_bn=True,
            with_last_bn_affine=False,
            with_last_bias=False,
            with_avg_pool=False,
        ),
        loss=dict(type="CrossEntropyLoss", loss_weight=0.4),
        temperature=0.2,
    ),
    base_momentum=0.01,
)

# 1.5e-4 per 256 images; all parameters are decayed (https://github.com/facebookresearch/moco-v3, CONFIG.md)
optim_wrapper = dict(optimizer=dict(type="AdamW", lr=2.4e-3, weight_decay=0.1, betas=(0.9, 0.999)))
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-4, by_epoch=True, begin=0, end=40, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=40, end=300, eta_min=0.0, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=300)
auto_scale_lr = dict(base_batch_size=4096, enable=False)
