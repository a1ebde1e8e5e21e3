"""DINO (https://arxiv.org/abs/2104.14294) on ImageNet: ViT-B/16, 400 epochs; 16 GPUs with 64 images each.

    torchrun --nnodes 2 --nproc_per_node 8 tools/train.py \
        configs/dino/dino_vit-base-p16_16xb64-amp-coslr-400e_in1k.py --launcher pytorch --amp

Expected: top-1 0.782 by a linear probe. Published, not measured here: 78.2 % by a linear probe, 76.1 % by
nearest neighbours (https://github.com/facebookresearch/dino, README), there with gradients that are clipped
parameter by parameter, here all together. Learning rate and weight decay were not compared with the authors'
list of arguments, which the README links to.
"""

_base_ = [
    "../_base_/datasets/imagenet_dino_crops.py",
    "../_base_/default_runtime.py",
]

model = dict(
    type="DINO",
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(type="VisionTransformer", arch="base", img_size=224, patch_size=16, drop_path_rate=0.1),
    neck=dict(
        type="DINONeck", in_channels=768, hidden_channels=2048, bottleneck_channels=256, out_channels=65536
    ),
    head=dict(
        type="DINOHead",
        out_channels=65536,
        num_crops=12,
        student_temp=0.1,
        teacher_temp=0.07,
        center_momentum=0.9,
    ),
    base_momentum=0.004,
)

# 7.5e-4 per 256 images; what has one dimension is not decayed
optim_wrapper = dict(
    optimizer=dict(type="AdamW", lr=7.5e-4 * 1024 / 256, weight_decay=0.04, betas=(0.9, 0.999)),
    paramwise_cfg=dict(flat_decay_mult=0.0),
    clip_grad=dict(max_norm=0.3),
)
# the weight decay grows to ten times its first value
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-4, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR", by_epoch=True, begin=10, end=400, eta_min=2e-6, convert_to_iter_based=True
    ),
    dict(
        type="CosineAnnealingParamScheduler",
        param_name="weight_decay",
        by_epoch=True,
        begin=0,
        end=400,
        eta_min_ratio=10.0,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(by_epoch=True, max_epochs=400)
auto_scale_lr = dict(base_batch_size=1024, enable=False)
custom_hooks = [
    dict(
        type="DINOTeacherTempWarmupHook",
        warmup_teacher_temp=0.04,
        teacher_temp=0.07,
        teacher_temp_warmup_epochs=50,
        max_epochs=400,
    ),
    dict(type="DINOFreezeLastLayerHook", epochs=3),
]
