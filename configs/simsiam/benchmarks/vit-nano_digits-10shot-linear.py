"""A linear probe of a small ViT, pre-trained with SimSiam, on ten labelled digits of each class.

    python tools/train.py configs/simsiam/benchmarks/vit-nano_digits-10shot-linear.py

Expected: test accuracy 0.240. Measured: 0.2395 ± 0.0130,
mean and deviation of 3 seeds (docs/selfsup.md).
"""

_base_ = "../../_base_/digits_10shot_linear.py"

model = dict(backbone=dict(pretrain="work_dirs/simsiam_vit-nano_digits/epoch_100.pth"))
