"""Masked autoencoder on CIFAR-10, on one GPU.

    python tools/train.py configs/mae/mae_vit-tiny-p4_cifar10.py --amp

Expected: not measured here, and not published for this recipe. It is a start for experiments of one's own.
"""

_base_ = [
    "../_base_/datasets/cifar10_unlabelled.py",
    "../_base_/schedules/adamw_coslr_200e_cifar10.py",
    "../_base_/default_runtime.py",
]

model = dict(
    type="MAE",
    data_preprocessor=dict(mean=[125.31, 122.95, 113.87], std=[62.99, 62.09, 66.70]),
    backbone=dict(type="MAEViT", arch="deit-tiny", img_size=32, patch_size=4, mask_ratio=0.75),
    neck=dict(
        type="MAEPretrainDecoder",
        num_patches=64,
        patch_size=4,
        in_chans=3,
        embed_dim=192,
        decoder_embed_dim=128,
        decoder_depth=4,
        decoder_num_heads=4,
        mlp_ratio=4.0,
    ),
    head=dict(
        type="MAEPretrainHead",
        norm_pix=True,
        patch_size=4,
        loss=dict(type="PixelReconstructionLoss", criterion="L2"),
    ),
)
