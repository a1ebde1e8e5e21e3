"""BYOL on the unlabelled training digits.

    python tools/train.py configs/byol/byol_vit-nano_digits.py

Expected: test accuracy 0.775 by fine-tuning on ten labelled digits a class. Measured: 0.7747 ± 0.0308,
mean and deviation of 3 seeds (docs/selfsup.md).
"""

_base_ = [
    "../_base_/datasets/digits_two_mild_views.py",
    "../_base_/schedules/adamw_coslr_100e_digits.py",
    "../_base_/digits_runtime.py",
]

model = dict(
    type="BYOL",
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
        type="LatentPredictHead",
        loss=dict(type="CosineSimilarityLoss"),
        predictor=dict(
            type="NonLinearNeck",
            in_channels=64,
            hid_channels=128,
            out_channels=64,
            with_avg_pool=False,
            norm_cfg=dict(type="BN1d"),
            with_last_bn_affine=False,
        ),
    ),
    base_momentum=0.002,
)
train_dataloader = dict(batch_size=64)
