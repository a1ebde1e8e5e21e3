"""Fine-tuning with SGD for 256 images: 20 epochs, the head ten times as fast as the backbone."""

optim_wrapper = dict(
    optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys={"head": dict(lr_mult=10.0)}),
)
param_scheduler = [
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=20, eta_min=0.0, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=20, val_interval=1)
