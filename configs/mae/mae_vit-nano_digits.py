"""A masked autoencoder on the unlabelled training digits.

    python tools/train.py configs/mae/mae_vit-nano_digits.py

Expected: test accuracy 0.895 by fine-tuning on ten labelled digits a class. Measured: 0.8948 ± 0.0127,
mean and deviation of 5 seeds (docs/selfsup.md).
"""

_base_ = ["../_base_/datasets/digits_unlabelled.py", "../_base_/digits_runtime.py"]

model = dict(
    type="MAE",
    data_preprocessor=dict(mean=[77.93], std=[95.87]),
    backbone=dict(
        type="MAEViT",
        arch=dict(embed_dims=64, num_layers=4, num_heads=4, feedforward_channels=128),
        img_size=8,
        patch_size=2,
        in_channels=1,
        mask_ratio=0.75,
    ),
    neck=dict(
        type="MAEPretrainDecoder",
        num_patches=16,
        patch_size=2,
        in_chans=1,
        embed_dim=64,
        decoder_embed_dim=32,
        decoder_depth=2,
        decoder_num_heads=4,
        mlp_ratio=2,
    ),
    head=dict(
        type="MAEPretrainHead",
        norm_pix=False,
        patch_size=2,
        loss=dict(type="PixelReconstructionLoss", criterion="L2"),
    ),
)

optim_wrapper = dict(optimizer=dict(type="AdamW", lr=2e-3, weight_decay=0.05, betas=(0.9, 0.95)))
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-2, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR", by_epoch=True, begin=10, end=200, eta_min=1e-6, convert_to_iter_based=True
    ),
]
train_cfg = dict(by_epoch=True, max_epochs=200)
