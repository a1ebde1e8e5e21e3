"""Masked autoencoder (https://arxiv.org/abs/2111.06377) on ImageNet: ViT-B/16, 800 epochs.

8 GPUs with 512 images each.

    torchrun --nproc_per_node 8 tools/train.py \
        configs/mae/mae_vit-base-p16_8xb512-amp-coslr-800e_in1k.py --launcher pytorch --amp

Expected: top-1 0.833 by fine-tuning. Published, not measured here: 83.3 % by fine-tuning, 65.1 % by a
linear probe (mmpretrain 1.2.0, configs/mae/metafile.yml).
"""

_base_ = [
    "../_base_/datasets/imagenet_unlabelled.py",
    "../_base_/default_runtime.py",
]

model = dict(
    type="MAE",
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(type="MAEViT", arch="base", img_size=224, patch_size=16, mask_ratio=0.75),
    neck=dict(
        type="MAEPretrainDecoder",
        patch_size=16,
        in_chans=3,
        embed_dim=768,
        decoder_embed_dim=512,
        decoder_depth=8,
        decoder_num_heads=16,
        mlp_ratio=4.0,
    ),
    head=dict(
        type="MAEPretrainHead",
        norm_pix=True,
        patch_size=16,
        loss=dict(type="PixelReconstructionLoss", criterion="L2"),
    ),
)

# 1.5e-4 per 256 images (appendix A.1 of the paper)
optim_wrapper = dict(
    optimizer=dict(type="AdamW", lr=1.5e-4 * 4096 / 256, weight_decay=0.05, betas=(0.9, 0.95)),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={
            "mask_token": dict(decay_mult=0.0),
            "cls_token": dict(decay_mult=0.0),
        },
    ),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-4, by_epoch=True, begin=0, end=40, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=40, end=800, eta_min=0.0, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=800)
auto_scale_lr = dict(base_batch_size=4096, enable=False)
