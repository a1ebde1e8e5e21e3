"""A Vision Transformer of 5.4 M parameters for 32 x 32 pixels, in 64 patches."""

model = dict(
    type="Classifier",
    data_preprocessor=dict(mean=[125.31, 122.95, 113.87], std=[62.99, 62.09, 66.70]),
    backbone=dict(type="VisionTransformer", arch="deit-tiny", img_size=32, patch_size=4),
    neck=None,
    head=dict(type="LinearClsHead", num_classes=10, in_channels=192),
)
