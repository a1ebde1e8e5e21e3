"""ImageNet folders at 224 pixels: random crops and flips for training, the centre for the test.

Expected are `data/imagenet/train/<class>/` and `data/imagenet/val/<class>/`.
"""

train_pipeline = [
    dict(type="RandomResizedCrop", size=224, antialias=True),
    dict(type="RandomHorizontalFlip", p=0.5),
]
test_pipeline = [
    dict(type="Resize", size=256, antialias=True),
    dict(type="CenterCrop", size=224),
]

train_dataloader = dict(
    batch_size=32,
    num_workers=5,
    pin_memory=True,
    dataset=dict(type="ImageFolder", root="data/imagenet/train", pipeline=train_pipeline),
    sampler=dict(type="DefaultSampler", shuffle=True),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=5,
    pin_memory=True,
    dataset=dict(type="ImageFolder", root="data/imagenet/val", pipeline=test_pipeline),
    sampler=dict(type="DefaultSampler", shuffle=False),
)
val_evaluator = dict(type="Accuracy", topk=(1, 5))
val_cfg = {}

test_dataloader = val_dataloader
test_evaluator = val_evaluator
test_cfg = {}
