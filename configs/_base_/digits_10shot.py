"""Fine-tuning of a small ViT on ten labelled digits of each class."""

_base_ = ["./models/vit-nano.py", "./datasets/digits.py", "./digits_runtime.py"]

model = dict(backbone=dict(out_type="avg_featmap"))
train_dataloader = dict(batch_size=50, dataset=dict(shots=10))

optim_wrapper = dict(
    optimizer=dict(type="AdamW", lr=2e-3, weight_decay=0.05),
    constructor="LearningRateDecayOptimWrapperConstructor",
    paramwise_cfg=dict(layer_decay_rate=0.75, flat_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-2, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR", by_epoch=True, begin=10, end=100, eta_min=1e-6, convert_to_iter_based=True
    ),
]
train_cfg = dict(by_epoch=True, max_epochs=100)
