"""CIFAR-10 without labels: random crops and flips."""

train_pipeline = [
    dict(type="RandomResizedCrop", size=32, scale=(0.2, 1.0), antialias=True),
    dict(type="RandomHorizontalFlip", p=0.5),
]
train_dataloader = dict(
    batch_size=512,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    dataset=dict(type="CIFAR10", root="data/cifar10", split="train", download=True, pipeline=train_pipeline),
    sampler=dict(type="DefaultSampler", shuffle=True),
)
