"""SwAV on CIFAR-10, on one GPU.

    python tools/train.py configs/swav/swav_resnet18_cifar10.py --amp

Expected: not measured here, and not published for this recipe. It is a start for experiments of one's own.
"""

_base_ = [
    "../_base_/datasets/cifar10_crops.py",
    "../_base_/schedules/adamw_coslr_200e_cifar10.py",
    "../_base_/default_runtime.py",
]

model = dict(
    type="SwAV",
    data_preprocessor=dict(mean=[125.31, 122.95, 113.87], std=[62.99, 62.09, 66.70]),
    backbone=dict(type="ResNet_CIFAR", depth=18),
    neck=dict(type="SwAVNeck", in_channels=512, hid_channels=512, out_channels=128),
    head=dict(
        type="SwAVHead", loss=dict(type="SwAVLoss", feat_dim=128, num_prototypes=300, num_crops=[2, 4])
    ),
)
