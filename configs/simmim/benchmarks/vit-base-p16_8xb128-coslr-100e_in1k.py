"""Fine-tuning of ViT-B/16, pre-trained with SimMIM, on ImageNet; 8 GPUs with 128 images each.

    torchrun --nproc_per_node 8 tools/train.py \
        configs/simmim/benchmarks/vit-base-p16_8xb128-coslr-100e_in1k.py --launcher pytorch --amp

Expected: top-1 0.838. Published, not measured here: 83.8 % (https://arxiv.org/abs/2111.09886, section 4.2;
https://github.com/microsoft/SimMIM, README; the recipe is that of its configs/vit_base__800ep, with half the
batch and half the learning rate).
"""

_base_ = [
    "../../_base_/models/vit-base-p16.py",
    "../../_base_/datasets/imagenet_224_randaug.py",
    "../../_base_/default_runtime.py",
]

model = dict(
    backbone=dict(
        _delete_=True,
        type="BEiTViT",
        arch="base",
        img_size=224,
        patch_size=16,
        out_type="avg_featmap",
        pretrain="work_dirs/simmim_vit-base-p16_8xb256-amp-coslr-800e_in1k/epoch_800.pth",
    ),
    head=dict(
        _delete_=True,
        type="LinearClsHead",
        num_classes=1000,
        in_channels=768,
        loss=dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original"),
    ),
)

optim_wrapper = dict(
    optimizer=dict(type="AdamW", lr=1.25e-3 * 1024 / 512, weight_decay=0.05),
    constructor="LearningRateDecayOptimWrapperConstructor",
    paramwise_cfg=dict(layer_decay_rate=0.65, flat_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=2e-4, by_epoch=True, begin=0, end=20, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR", by_epoch=True, begin=20, end=100, eta_min=5e-7, convert_to_iter_based=True
    ),
]
train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=1)
auto_scale_lr = dict(base_batch_size=1024, enable=False)
