"""DINO on the unlabelled training digits.

    python tools/train.py configs/dino/dino_vit-nano_digits.py

Expected: test accuracy 0.616 by fine-tuning on ten labelled digits a class. Measured: 0.6160 ± 0.0503,
mean and deviation of 3 seeds (docs/selfsup.md).
"""

_base_ = [
    "../_base_/datasets/digits_two_views.py",
    "../_base_/schedules/adamw_coslr_100e_digits.py",
    "../_base_/digits_runtime.py",
]

model = dict(
    type="DINO",
    data_preprocessor=dict(mean=[77.93], std=[95.87]),
    backbone=dict(
        type="VisionTransformer",
        arch=dict(embed_dims=64, num_layers=4, num_heads=4, feedforward_channels=128),
        img_size=8,
        patch_size=2,
        in_channels=1,
        out_type="avg_featmap",
    ),
    neck=dict(type="DINONeck", in_channels=64, hidden_channels=128, bottleneck_channels=64, out_channels=256),
    head=dict(type="DINOHead", out_channels=256, num_crops=2, student_temp=0.1, teacher_temp=0.04),
    base_momentum=0.01,
)

optim_wrapper = dict(optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=1.0))
custom_hooks = [dict(type="DINOFreezeLastLayerHook", epochs=5)]
