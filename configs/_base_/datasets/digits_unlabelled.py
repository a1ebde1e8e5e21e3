"""The training digits for methods that learn from single images without labels."""

train_pipeline = [
    dict(type="RandomAffine", degrees=12, translate=(0.12, 0.12), scale=(0.9, 1.1), interpolation="bilinear"),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    dataset=dict(type="Digits", split="train", pipeline=train_pipeline),
    sampler=dict(type="DefaultSampler", shuffle=True),
)
