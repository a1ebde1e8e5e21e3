"""SimMIM (https://arxiv.org/abs/2111.09886) on ImageNet: ViT-B/16 with relative positions, 800 epochs.

8 GPUs with 256 images each.

    torchrun --nproc_per_node 8 tools/train.py \
        configs/simmim/simmim_vit-base-p16_8xb256-amp-coslr-800e_in1k.py --launcher pytorch --amp

Expected: top-1 0.838 by fine-tuning. Published, not measured here: 83.8 % by fine-tuning
(https://github.com/microsoft/SimMIM, README), there with a step instead of the cosine.
"""

_base_ = [
    "../_base_/datasets/imagenet_unlabelled.py",
    "../_base_/default_runtime.py",
]

model = dict(
    type="SimMIM",
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(type="SimMIMBEiTViT", arch="base", img_size=224, patch_size=16, out_type="featmap"),
    neck=dict(type="SimMIMLinearDecoder", in_channels=768, encoder_stride=16),
    head=dict(type="SimMIMHead", patch_size=16, loss=dict(type="PixelReconstructionLoss", criterion="L1")),
    mask_patch_size=32,
    mask_ratio=0.6,
)

train_dataloader = dict(batch_size=256)

optim_wrapper = dict(
    optimizer=dict(type="AdamW", lr=1e-4 * 2048 / 512, weight_decay=0.05, betas=(0.9, 0.999)),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={"mask_token": dict(decay_mult=0.0), "cls_token": dict(decay_mult=0.0)},
    ),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-4, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=10, end=800, eta_min=0.0, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=800)
auto_scale_lr = dict(base_batch_size=2048, enable=False)
