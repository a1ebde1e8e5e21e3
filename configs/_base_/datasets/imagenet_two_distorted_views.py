"""Two views of each ImageNet image with strong colours, as in SimCLR (https://arxiv.org/abs/2002.05709, A).

Expected is `data/imagenet/train/<class>/`; the classes play no part.
"""

_base_ = ["imagenet_two_views.py"]

view = [
    dict(type="RandomResizedCrop", size=224, scale=(0.08, 1.0), interpolation="bicubic", antialias=True),
    dict(type="RandomHorizontalFlip", p=0.5),
    dict(
        type="RandomApply",
        transforms=[dict(type="ColorJitter", brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2)],
        p=0.8,
    ),
    dict(type="RandomGrayscale", p=0.2),
    dict(type="RandomApply", transforms=[dict(type="GaussianBlur", kernel_size=23, sigma=(0.1, 2.0))], p=0.5),
]
train_dataloader = dict(
    batch_size=256,
    dataset=dict(pipeline=[dict(type="MultiView", transforms=[view], num_views=2)]),
)
