"""LARS for 4096 images: 200 epochs with 10 of warm-up."""

optim_wrapper = dict(
    optimizer=dict(type="LARS", lr=4.8, momentum=0.9, weight_decay=1e-6),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-4, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=10, end=200, eta_min=0.0, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=200)
