"""A linear probe with SGD for 1024 images: 90 epochs with a cosine."""

optim_wrapper = dict(
    optimizer=dict(type="SGD", lr=12.0, momentum=0.9, weight_decay=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-4, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=10, end=90, eta_min=0.0, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=90, val_interval=1)
