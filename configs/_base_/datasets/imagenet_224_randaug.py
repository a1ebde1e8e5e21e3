"""ImageNet folders at 224 pixels with RandAugment and random erasing, for Vision Transformers.

Expected are `data/imagenet/train/<class>/` and `data/imagenet/val/<class>/`. RandAugment applies two
operations at 9 of 10 of their strength, as in timm's `rand-m9`, but without noise on the strength.
"""

_base_ = "./imagenet_224.py"

train_pipeline = [
    dict(type="RandomResizedCrop", size=224, interpolation="bicubic", antialias=True),
    dict(type="RandomHorizontalFlip", p=0.5),
    dict(
        type="RandAugment",
        num_ops=2,
        magnitude=9,
        num_magnitude_bins=11,
        interpolation="bilinear",
        fill=[124, 116, 104],
    ),
    dict(type="RandomErasingPixels", p=0.25),
]
test_pipeline = [
    dict(type="Resize", size=256, interpolation="bicubic", antialias=True),
    dict(type="CenterCrop", size=224),
]

train_dataloader = dict(batch_size=128, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=128, dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(batch_size=128, dataset=dict(pipeline=test_pipeline))
