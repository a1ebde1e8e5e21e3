"""BYOL on CIFAR-10, on one GPU.

    python tools/train.py configs/byol/byol_resnet18_cifar10.py --amp

Expected: not measured here, and not published for this recipe. It is a start for experiments of one's own.
"""

_base_ = [
    "../_base_/datasets/cifar10_two_views.py",
    "../_base_/schedules/adamw_coslr_200e_cifar10.py",
    "../_base_/default_runtime.py",
]

model = dict(
    type="BYOL",
    data_preprocessor=dict(mean=[125.31, 122.95, 113.87], std=[62.99, 62.09, 66.70]),
    backbone=dict(type="ResNet_CIFAR", depth=18),
    neck=dict(
        type="NonLinearNeck",
        in_channels=512,
        hid_channels=1024,
        out_channels=128,
        with_last_bn=False,
        with_last_bias=True,
    ),
    head=dict(
        type="LatentPredictHead",
        loss=dict(type="CosineSimilarityLoss"),
        predictor=dict(
            type="NonLinearNeck",
            in_channels=128,
            hid_channels=512,
            out_channels=128,
            with_avg_pool=False,
            with_last_bn=False,
            with_last_bias=True,
        ),
    ),
    base_momentum=0.01,
)
