"""Two large and four small views of each CIFAR-10 image."""

large_view = [
    dict(type="RandomResizedCrop", size=32, scale=(0.2, 1.0), antialias=True),
    dict(type="RandomHorizontalFlip", p=0.5),
    dict(
        type="RandomApply",
        transforms=[dict(type="ColorJitter", brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)],
        p=0.8,
    ),
    dict(type="RandomGrayscale", p=0.2),
]
small_view = [
    dict(type="RandomResizedCrop", size=16, scale=(0.05, 0.4), antialias=True),
    dict(type="RandomHorizontalFlip", p=0.5),
    dict(
        type="RandomApply",
        transforms=[dict(type="ColorJitter", brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)],
        p=0.8,
    ),
    dict(type="RandomGrayscale", p=0.2),
]
train_dataloader = dict(
    batch_size=256,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    dataset=dict(
        type="CIFAR10",
        root="data/cifar10",
        split="train",
        download=True,
        pipeline=[dict(type="MultiView", transforms=[large_view, small_view], num_views=[2, 4])],
    ),
    sampler=dict(type="DefaultSampler", shuffle=True),
)
