"""Handwritten digits in about a minute on two cores: a small Vision Transformer, fine-tuned.

    python tools/train.py configs/quickstart.py

The backbone starts from weights that were pre-trained without labels on the training images (see
tools/make_quickstart_weights.py). Without them, `--cfg-options model.backbone.pretrain=None`.

Expected: test accuracy 0.989. Measured: 0.9889, 0.9852 and 0.9907 with the seeds 0, 1 and 2; 0.8481 with seed
0 and without the pre-training.
"""

_base_ = [
    "./_base_/models/vit-digits.py",
    "./_base_/datasets/digits.py",
    "./_base_/default_runtime.py",
]

model = dict(
    backbone=dict(pretrain="{{ fileDirname }}/quickstart_weights/vit-digits_simmim.safetensors"),
)

optim_wrapper = dict(
    optimizer=dict(type="AdamW", lr=2e-3, weight_decay=0.05),
    constructor="LearningRateDecayOptimWrapperConstructor",
    paramwise_cfg=dict(layer_decay_rate=0.8, flat_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-2, by_epoch=True, begin=0, end=2, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=2, end=40, eta_min=1e-6, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=40)

env_cfg = dict(num_threads=1)  # more threads cost more than they gain at this size
default_hooks = dict(
    logger=dict(interval=19),
    checkpoint=dict(interval=10),
)
