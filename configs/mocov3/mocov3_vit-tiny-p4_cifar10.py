"""MoCo v3 on CIFAR-10, on one GPU.

    python tools/train.py configs/mocov3/mocov3_vit-tiny-p4_cifar10.py --amp

Expected: not measured here, and not published for this recipe. It is a start for experiments of one's own.
"""

_base_ = [
    "../_base_/datasets/cifar10_two_views.py",
    "../_base_/schedules/adamw_coslr_200e_cifar10.py",
    "../_base_/default_runtime.py",
]

model = dict(
    type="MoCoV3",
    data_preprocessor=dict(mean=[125.31, 122.95, 113.87], std=[62.99, 62.09, 66.70]),
    backbone=dict(type="MoCoV3ViT", arch="deit-tiny", img_size=32, patch_size=4, stop_grad_conv1=True),
    neck=dict(
        type="NonLinearNeck",
        in_channels=192,
        hid_channels=1024,
        out_channels=128,
        num_layers=3,
        with_bias=False,
        with_last_bn=True,
        with_last_bn_affine=False,
        with_last_bias=False,
        with_avg_pool=False,
    ),
    head=dict(
        type="MoCoV3Head",
        predictor=dict(
            type="NonLinearNeck",
            in_channels=128,
            hid_channels=1024,
            out_channels=128,
            num_layers=2,
            with_bias=False,
            with_last_bn=True,
            with_last_bn_affine=False,
            with_last_bias=False,
            with_avg_pool=False,
        ),
        loss=dict(type="CrossEntropyLoss", loss_weight=0.4),
        temperature=0.2,
    ),
    base_momentum=0.01,
)
