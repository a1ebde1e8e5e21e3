"""Two views of each CIFAR-10 image, as in SimCLR (https://arxiv.org/abs/2002.05709, appendix B.9)."""

view = [
    dict(type="RandomResizedCrop", size=32, scale=(0.2, 1.0), antialias=True),
    dict(type="RandomHorizontalFlip", p=0.5),
    dict(
        type="RandomApply",
        transforms=[dict(type="ColorJitter", brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)],
        p=0.8,
    ),
    dict(type="RandomGrayscale", p=0.2),
]
train_dataloader = dict(
    batch_size=512,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    dataset=dict(
        type="CIFAR10",
        root="data/cifar10",
        split="train",
        download=True,
        pipeline=[dict(type="MultiView", transforms=[view], num_views=2)],
    ),
    sampler=dict(type="DefaultSampler", shuffle=True),
)
