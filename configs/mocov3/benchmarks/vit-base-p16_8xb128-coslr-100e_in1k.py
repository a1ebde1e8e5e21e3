"""Fine-tuning of ViT-B/16, pre-trained with MoCo v3, on ImageNet; 8 GPUs with 128 images each.

    torchrun --nproc_per_node 8 tools/train.py \
        configs/mocov3/benchmarks/vit-base-p16_8xb128-coslr-100e_in1k.py --launcher pytorch --amp

Expected: top-1 0.830. Published, not measured here: 83.0 %
(mmpretrain 1.2.0, configs/mocov3/metafile.yml), there with other schedules.
"""

_base_ = [
    "../../_base_/models/vit-base-p16.py",
    "../../_base_/datasets/imagenet_224_randaug.py",
    "../../_base_/default_runtime.py",
]

model = dict(
    backbone=dict(pretrain="work_dirs/mocov3_vit-base-p16_16xb256-amp-coslr-300e_in1k/epoch_300.pth"),
    head=dict(
        _delete_=True,
        type="LinearClsHead",
        num_classes=1000,
        in_channels=768,
        loss=dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original"),
    ),
)

optim_wrapper = dict(
    optimizer=dict(type="AdamW", lr=5e-4 * 1024 / 256, weight_decay=0.05),
    constructor="LearningRateDecayOptimWrapperConstructor",
    paramwise_cfg=dict(layer_decay_rate=0.65, flat_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-4, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=5, end=100, eta_min=1e-6, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=1)
auto_scale_lr = dict(base_batch_size=1024, enable=False)
