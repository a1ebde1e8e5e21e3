"""A linear probe of a small ViT, pre-trained with Barlow Twins, on ten labelled digits of each class.

    python tools/train.py configs/barlowtwins/benchmarks/vit-nano_digits-10shot-linear.py

Expected: test accuracy 0.746. Measured: 0.7463 ± 0.0273,
mean and deviation of 3 seeds (docs/selfsup.md).
"""

_base_ = "../../_base_/digits_10shot_linear.py"

model = dict(backbone=dict(pretrain="work_dirs/barlowtwins_vit-nano_digits/epoch_100.pth"))
