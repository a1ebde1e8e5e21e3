"""Two large and two small views of each training digit, without labels."""

large_view = [
    dict(
        type="RandomAffine",
        degrees=15,
        translate=(0.2, 0.2),
        scale=(0.8, 1.2),
        shear=(-10, 10),
        interpolation="bilinear",
    ),
    dict(type="ColorJitter", brightness=0.4, contrast=0.4),
]
small_view = [*large_view, dict(type="RandomCrop", size=6)]

train_dataloader = dict(
    batch_size=128,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    dataset=dict(
        type="Digits",
        split="train",
        pipeline=[dict(type="MultiView", transforms=[large_view, small_view], num_views=[2, 2])],
    ),
    sampler=dict(type="DefaultSampler", shuffle=True),
)
