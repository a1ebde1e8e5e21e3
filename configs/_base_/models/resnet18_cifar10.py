"""ResNet-18 for 32 x 32 pixels: no stride and no pooling at the entrance."""

model = dict(
    type="Classifier",
    data_preprocessor=dict(mean=[125.31, 122.95, 113.87], std=[62.99, 62.09, 66.70]),
    backbone=dict(type="ResNet_CIFAR", depth=18),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(type="LinearClsHead", num_classes=10, in_channels=512),
)
