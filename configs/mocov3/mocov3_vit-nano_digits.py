"""MoCo v3 on the unlabelled training digits.

    python tools/train.py configs/mocov3/mocov3_vit-nano_digits.py

Expected: test accuracy 0.849 by fine-tuning on ten labelled digits a class. Measured: 0.8488 ± 0.0287,
mean and deviation of 3 seeds (docs/selfsup.md).
"""

_base_ = [
    "../_base_/datasets/digits_two_views.py",
    "../_base_/schedules/adamw_coslr_100e_digits.py",
    "../_base_/digits_runtime.py",
]

model = dict(
    type="MoCoV3",
    data_preprocessor=dict(mean=[77.93], std=[95.87]),
    backbone=dict(
        type="MoCoV3ViT",
        arch=dict(embed_dims=64, num_layers=4, num_heads=4, feedforward_channels=128),
        img_size=8,
        patch_size=2,
        in_channels=1,
        out_type="cls_token",
        stop_grad_conv1=True,
    ),
    neck=dict(
        type="NonLinearNeck",
        in_channels=64,
        hid_channels=128,
        out_channels=64,
        with_avg_pool=False,
        norm_cfg=dict(type="BN1d"),
        with_last_bn_affine=False,
    ),
    head=dict(
        type="MoCoV3Head",
        predictor=dict(
            type="NonLinearNeck",
            in_channels=64,
            hid_channels=128,
            out_channels=64,
            with_avg_pool=False,
            norm_cfg=dict(type="BN1d"),
            with_last_bn_affine=False,
        ),
        loss=dict(type="CrossEntropyLoss", loss_weight=0.4),
        temperature=0.2,
    ),
    base_momentum=0.01,
)
