"""Barlow Twins on the unlabelled training digits.

    python tools/train.py configs/barlowtwins/barlowtwins_vit-nano_digits.py

Expected: test accuracy 0.791 by fine-tuning on ten labelled digits a class. Measured: 0.7914 ± 0.0242,
mean and deviation of 3 seeds (docs/selfsup.md).
"""

_base_ = [
    "../_base_/datasets/digits_two_views.py",
    "../_base_/schedules/adamw_coslr_100e_digits.py",
    "../_base_/digits_runtime.py",
]

model = dict(
    type="BarlowTwins",
    data_preprocessor=dict(mean=[77.93], std=[95.87]),
    backbone=dict(
        type="VisionTransformer",
        arch=dict(embed_dims=64, num_layers=4, num_heads=4, feedforward_channels=128),
        img_size=8,
        patch_size=2,
        in_channels=1,
        out_type="avg_featmap",
    ),
    neck=dict(
        type="NonLinearNeck",
        in_channels=64,
        hid_channels=256,
        out_channels=256,
        with_avg_pool=False,
        norm_cfg=dict(type="BN1d"),
        num_layers=3,
        with_last_bn=False,
    ),
    head=dict(
        type="LatentCrossCorrelationHead", in_channels=256, loss=dict(type="CrossCorrelationLoss", lambd=0.01)
    ),
)
