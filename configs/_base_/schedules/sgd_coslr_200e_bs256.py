"""SGD for 256 images: 200 epochs with a cosine."""

optim_wrapper = dict(
    optimizer=dict(type="SGD", lr=0.03, momentum=0.9, weight_decay=1e-4),
)
param_scheduler = [
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=200, eta_min=0.0, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=200)
