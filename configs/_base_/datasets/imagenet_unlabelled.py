"""ImageNet at 224 pixels without labels: random crops and flips.

Expected is `data/imagenet/train/<class>/`; the classes play no part.
"""

train_pipeline = [
    dict(type="RandomResizedCrop", size=224, scale=(0.2, 1.0), interpolation="bicubic", antialias=True),
    dict(type="RandomHorizontalFlip", p=0.5),
]
train_dataloader = dict(
    batch_size=512,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    dataset=dict(type="ImageFolder", root="data/imagenet/train", pipeline=train_pipeline),
    sampler=dict(type="DefaultSampler", shuffle=True),
)
