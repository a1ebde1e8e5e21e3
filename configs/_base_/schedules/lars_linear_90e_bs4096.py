"""A linear probe with LARS for 4096 images: 90 epochs."""

optim_wrapper = dict(
    optimizer=dict(type="LARS", lr=1.6, momentum=0.9, weight_decay=0.0),
)
param_scheduler = [
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=90, eta_min=0.0, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=90, val_interval=1)
