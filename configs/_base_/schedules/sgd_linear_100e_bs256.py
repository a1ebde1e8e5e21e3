"""A linear probe with SGD for 256 images: 100 epochs with a cosine."""

optim_wrapper = dict(
    optimizer=dict(type="SGD", lr=0.3, momentum=0.9, weight_decay=1e-6),
)
param_scheduler = [
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=100, eta_min=0.0, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=1)
