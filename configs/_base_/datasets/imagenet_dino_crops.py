"""Two large and ten small views of each ImageNet image, as in DINO (https://arxiv.org/abs/2104.14294, E).

Expected is `data/imagenet/train/<class>/`; the classes play no part.
"""

first_view = [
    dict(type="RandomResizedCrop", size=224, scale=(0.25, 1.0), interpolation="bicubic", antialias=True),
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
    dict(type="RandomResizedCrop", size=224, scale=(0.25, 1.0), interpolation="bicubic", antialias=True),
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
small_view = [
    dict(type="RandomResizedCrop", size=96, scale=(0.05, 0.25), interpolation="bicubic", antialias=True),
    dict(type="RandomHorizontalFlip", p=0.5),
    dict(
        type="RandomApply",
        transforms=[dict(type="ColorJitter", brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)],
        p=0.8,
    ),
    dict(type="RandomGrayscale", p=0.2),
    dict(type="RandomApply", transforms=[dict(type="GaussianBlur", kernel_size=9, sigma=(0.1, 2.0))], p=0.5),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    dataset=dict(
        type="ImageFolder",
        root="data/imagenet/train",
        pipeline=[
            dict(type="MultiView", transforms=[first_view, second_view, small_view], num_views=[1, 1, 10])
        ],
    ),
    sampler=dict(type="DefaultSampler", shuffle=True),
)
