"""A linear probe of a small ViT, pre-trained with MAE, on ten labelled digits of each class.

    python tools/train.py configs/mae/benchmarks/vit-nano_digits-10shot-linear.py

Expected: test accuracy 0.820. Measured: 0.8200 ± 0.0137,
mean and deviation of 5 seeds (docs/selfsup.md).
"""

_base_ = "../../_base_/digits_10shot_linear.py"

model = dict(backbone=dict(pretrain="{{ fileDirname }}/../weights/mae_vit-nano_digits-f4ce4543.safetensors"))
