"""SimMIM on CIFAR-10, on one GPU.

    python tools/train.py configs/simmim/simmim_vit-tiny-p4_cifar10.py --amp

Expected: not measured here, and not published for this recipe. It is a start for experiments of one's own.
"""

_base_ = [
    "../_base_/datasets/cifar10_unlabelled.py",
    "../_base_/schedules/adamw_coslr_200e_cifar10.py",
    "../_base_/default_runtime.py",
]

model = dict(
    type="SimMIM",
    data_preprocessor=dict(mean=[125.31, 122.95, 113.87], std=[62.99, 62.09, 66.70]),
    backbone=dict(type="SimMIMViT", arch="deit-tiny", img_size=32, patch_size=4, out_type="featmap"),
    neck=dict(type="SimMIMLinearDecoder", in_channels=192, encoder_stride=4),
    head=dict(type="SimMIMHead", patch_size=4, loss=dict(type="PixelReconstructionLoss", criterion="L1")),
    mask_patch_size=4,
    mask_ratio=0.6,
)
