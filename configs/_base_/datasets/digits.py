"""Handwritten digits of 8 x 8 pixels, from scikit-learn; 30 % of them are held out for the test."""

train_pipeline = [
    dict(type="RandomAffine", degrees=12, translate=(0.12, 0.12), scale=(0.9, 1.1), interpolation="bilinear"),
]

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    drop_last=True,
    dataset=dict(type="Digits", split="train", pipeline=train_pipeline),
    sampler=dict(type="DefaultSampler", shuffle=True),
)
test_dataloader = dict(
    batch_size=256,
    num_workers=0,
    dataset=dict(type="Digits", split="test"),
    sampler=dict(type="DefaultSampler", shuffle=False),
)
test_evaluator = dict(type="Accuracy", topk=(1, 5))
test_cfg = {}
