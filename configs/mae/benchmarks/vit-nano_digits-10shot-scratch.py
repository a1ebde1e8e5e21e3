"""The same training as in vit-nano_digits-10shot.py without pre-trained weights.

    python tools/train.py configs/mae/benchmarks/vit-nano_digits-10shot-scratch.py

Expected: test accuracy 0.0. Measured: see docs/selfsup.md.
"""

_base_ = "../../_base_/digits_10shot.py"

optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0))
