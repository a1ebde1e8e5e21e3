"""A Vision Transformer of 0.14 M parameters for grey images of 8 x 8 pixels, in 16 patches."""

model = dict(
    type="Classifier",
    data_preprocessor=dict(mean=[77.93], std=[95.87]),  # of the digits' training split
    backbone=dict(
        type="VisionTransformer",
        arch=dict(embed_dims=64, num_layers=4, num_heads=4, feedforward_channels=128),
        img_size=8,
        patch_size=2,
        in_channels=1,
    ),
    neck=None,
    head=dict(type="LinearClsHead", num_classes=10, in_channels=64),
)
