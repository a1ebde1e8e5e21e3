"""LARS for 4096 images: 200 epochs with 10 of warm-up.

Normalisations and biases are not decayed and learn with the learning rate itself, as in BYOL
(https://arxiv.org/abs/2006.07733, section 3.3).
"""

excluded = dict(decay_mult=0.0, lars_exclude=True)
optim_wrapper = dict(
    optimizer=dict(type="LARS", lr=4.8, momentum=0.9, weight_decay=1e-6),
    paramwise_cfg=dict(custom_keys={"bn": excluded, "downsample.1": excluded, "bias": excluded}),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-4, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=10, end=200, eta_min=0.0, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=200)
