"""MoCo v2 on the unlabelled training digits.

    python tools/train.py configs/mocov2/mocov2_vit-nano_digits.py

Expected: test accuracy 0.830 by fine-tuning on ten labelled digits a class. Measured: 0.8302 ± 0.0376,
mean and deviation of 3 seeds (docs/selfsup.md).
"""

_base_ = [
    "../_base_/datasets/digits_two_mild_views.py",
    "../_base_/schedules/adamw_coslr_100e_digits.py",
    "../_base_/digits_runtime.py",
]

model = dict(
    type="MoCo",
    data_preprocessor=dict(mean=[77.93], std=[95.87]),
    backbone=dict(
        type="MoCoV3ViT",
        arch=dict(embed_dims=64, num_layers=4, num_heads=4, feedforward_channels=128),
        img_size=8,
        patch_size=2,
        in_channels=1,
        out_type="cls_token",
        stop_grad_conv1=True,  # as in MoCo v3: patches and positions that rest keep the start stable
    ),
    neck=dict(  # with batch normalisation, unlike MoCoV2Neck
        type="NonLinearNeck",
        in_channels=64,
        hid_channels=128,
        out_channels=64,
        with_avg_pool=False,
        norm_cfg=dict(type="BN1d"),
    ),
    head=dict(type="ContrastiveHead", loss=dict(type="CrossEntropyLoss"), temperature=0.2),
    queue_len=512,
    feat_dim=64,
    momentum=0.002,
)
train_dataloader = dict(batch_size=64)
