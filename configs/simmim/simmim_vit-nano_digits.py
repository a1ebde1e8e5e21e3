"""SimMIM on the unlabelled training digits.

    python tools/train.py configs/simmim/simmim_vit-nano_digits.py

Expected: test accuracy 0.828 by fine-tuning on ten labelled digits a class. Measured: 0.8278 ± 0.0404,
mean and deviation of 3 seeds (docs/selfsup.md).
"""

_base_ = [
    "../_base_/datasets/digits_unlabelled.py",
    "../_base_/schedules/adamw_coslr_100e_digits.py",
    "../_base_/digits_runtime.py",
]

model = dict(
    type="SimMIM",
    data_preprocessor=dict(mean=[77.93], std=[95.87]),
    backbone=dict(
        type="SimMIMViT",
        arch=dict(embed_dims=64, num_layers=4, num_heads=4, feedforward_channels=128),
        img_size=8,
        patch_size=2,
        in_channels=1,
        out_type="featmap",
    ),
    neck=dict(type="SimMIMLinearDecoder", in_channels=64, encoder_stride=2, target_channels=1),
    head=dict(type="SimMIMHead", patch_size=2, loss=dict(type="PixelReconstructionLoss", criterion="L1")),
    mask_patch_size=2,
    mask_ratio=0.6,
)
