"""CIFAR-10 with labels; torchvision downloads it to data/cifar10."""

train_pipeline = [
    dict(type="RandomCrop", size=32, padding=4),
    dict(type="RandomHorizontalFlip", p=0.5),
]

train_dataloader = dict(
    batch_size=256,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    dataset=dict(type="CIFAR10", root="data/cifar10", split="train", download=True, pipeline=train_pipeline),
    sampler=dict(type="DefaultSampler", shuffle=True),
)
val_dataloader = dict(
    batch_size=512,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    dataset=dict(type="CIFAR10", root="data/cifar10", split="test", download=True),
    sampler=dict(type="DefaultSampler", shuffle=False),
)
val_evaluator = dict(type="Accuracy", topk=(1, 5))
val_cfg = {}

test_dataloader = val_dataloader
test_evaluator = val_evaluator
test_cfg = {}
