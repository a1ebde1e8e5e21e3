"""SimMIM (https://arxiv.org/abs/2111.09886) on ImageNet: ViT-B/16 with relative positions, 800 epochs.

8 GPUs with 256 images each.

    torchrun --nproc_per_node 8 tools/train.py \
        configs/simmim/simmim_vit-base-p16_8xb256-amp-coslr-800e_in1k.py --launcher pytorch --amp

Expected: top-1 0.838 by fine-tuning. Published, not measured here: 83.8 % by fine-tuning
(https://github.com/microsoft/SimMIM, README; the recipe is that of its configs/vit_base__800ep).
"""

_base_ = [
    "../_base_/datasets/imagenet_unlabelled.py",
    "../_base_/default_runtime.py",
]

model = dict(
    type="SimMIM",
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        type="SimMIMBEiTViT",
        arch="base",
        img_size=224,
        patch_size=16,
        drop_path_rate=0.1,
        final_norm=True,
        use_rel_pos_bias=False,
        use_shared_rel_pos_bias=True,
        out_type="featmap",
    ),
    neck=dict(type="SimMIMLinearDecoder", in_channels=768, encoder_stride=16),
    head=dict(type="SimMIMHead", patch_size=16, loss=dict(type="PixelReconstructionLoss", criterion="L1")),
    mask_patch_size=32,
    mask_ratio=0.6,
)

train_pipeline = [
    dict(type="RandomResizedCrop", size=224, scale=(0.67, 1.0), antialias=True),
    dict(type="RandomHorizontalFlip", p=0.5),
]
train_dataloader = dict(batch_size=256, dataset=dict(pipeline=train_pipeline))

optim_wrapper = dict(
    optimizer=dict(type="AdamW", lr=1e-4 * 2048 / 512, weight_decay=0.05, betas=(0.9, 0.999)),
    paramwise_cfg=dict(
        flat_decay_mult=0.0,
        custom_keys={"mask_token": dict(decay_mult=0.0), "cls_token": dict(decay_mult=0.0)},
    ),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=5e-3, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type="MultiStepLR", by_epoch=True, milestones=[700], gamma=0.1),
]
train_cfg = dict(by_epoch=True, max_epochs=800)
auto_scale_lr = dict(base_batch_size=2048, enable=False)
