"""Two views of each ImageNet image: one always blurred, one sometimes solarised.

As in BYOL (https://arxiv.org/abs/2006.07733, appendix B). Expected is `data/imagenet/train/<class>/`; the
classes play no part.
"""

first_view = [
    dict(type="RandomResizedCrop", size=224, scale=(0.08, 1.0), interpolation="bicubic", antialias=True),
    dict(type="RandomHorizontalFlip", p=0.5),
    dict(
        type="RandomApply",
        transforms=[dict(type="ColorJitter", brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)],
        p=0.8,
    ),
    dict(type="RandomGrayscale", p=0.2),
    dict(type="RandomApply", transforms=[dict(type="GaussianBlur", kernel_size=23, sigma=(0.1, 2.0))], p=1.0),
]
second_view = [
    dict(type="RandomResizedCrop", size=224, scale=(0.08, 1.0), interpolation="bicubic", antialias=True),
    dict(type="RandomHorizontalFlip", p=0.5),
    dict(
        type="RandomApply",
        transforms=[dict(type="ColorJitter", brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)],
        p=0.8,
    ),
    dict(type="RandomGrayscale", p=0.2),
    dict(type="RandomApply", transforms=[dict(type="GaussianBlur", kernel_size=23, sigma=(0.1, 2.0))], p=0.1),
    dict(type="RandomSolarize", threshold=128, p=0.2),
]
train_dataloader = dict(
    batch_size=256,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    dataset=dict(
        type="ImageFolder",
        root="data/imagenet/train",
        pipeline=[dict(type="MultiView", transforms=[first_view, second_view], num_views=[1, 1])],
    ),
    sampler=dict(type="DefaultSampler", shuffle=True),
)
