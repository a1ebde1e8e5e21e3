"""MoCo v2 on the unlabelled training digits.

    python tools/train.py configs/mocov2/mocov2_vit-nano_digits.py

Expected: test accuracy 0.358 by fine-tuning on ten labelled digits a class. Measured: 0.3580 ± 0.0460,
mean and deviation of 3 seeds (docs/selfsup.md).
"""

_base_ = [
    "../_base_/datasets/digits_two_views.py",
    "../_base_/schedules/adamw_coslr_100e_digits.py",
    "../_base_/digits_runtime.py",
]

model = dict(
    type="MoCo",
    data_preprocessor=dict(mean=[77.93], std=[95.87]),
    backbone=dict(
        type="VisionTransformer",
        arch=dict(embed_dims=64, num_layers=4, num_heads=4, feedforward_channels=128),
        img_size=8,
        patch_size=2,
        in_channels=1,
        out_type="avg_featmap",
    ),
    neck=dict(type="MoCoV2Neck", in_channels=64, hid_channels=128, out_channels=64, with_avg_pool=False),
    head=dict(type="ContrastiveHead", loss=dict(type="CrossEntropyLoss"), temperature=0.2),
    queue_len=1024,
    feat_dim=64,
    momentum=0.01,
)
