"""AdamW for pre-training on the digits: 100 epochs."""

optim_wrapper = dict(
    optimizer=dict(type="AdamW", lr=2e-3, weight_decay=0.05, betas=(0.9, 0.95)),
    paramwise_cfg=dict(flat_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-2, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(
        type="CosineAnnealingLR", by_epoch=True, begin=10, end=100, eta_min=1e-6, convert_to_iter_based=True
    ),
]
train_cfg = dict(by_epoch=True, max_epochs=100)
