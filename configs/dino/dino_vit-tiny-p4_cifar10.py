"""DINO on CIFAR-10, on one GPU.

    python tools/train.py configs/dino/dino_vit-tiny-p4_cifar10.py --amp

Expected: not measured here, and not published for this recipe. It is a start for experiments of one's own.
"""

_base_ = [
    "../_base_/datasets/cifar10_crops.py",
    "../_base_/schedules/adamw_coslr_200e_cifar10.py",
    "../_base_/default_runtime.py",
]

model = dict(
    type="DINO",
    data_preprocessor=dict(mean=[125.31, 122.95, 113.87], std=[62.99, 62.09, 66.70]),
    backbone=dict(type="VisionTransformer", arch="deit-tiny", img_size=32, patch_size=4),
    neck=dict(
        type="DINONeck", in_channels=192, hidden_channels=512, bottleneck_channels=128, out_channels=4096
    ),
    head=dict(
        type="DINOHead",
        out_channels=4096,
        num_crops=6,
        student_temp=0.1,
        teacher_temp=0.07,
        center_momentum=0.9,
    ),
    base_momentum=0.01,
)
