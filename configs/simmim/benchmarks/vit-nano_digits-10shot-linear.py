"""A linear probe of a small ViT, pre-trained with SimMIM, on ten labelled digits of each class.

    python tools/train.py configs/simmim/benchmarks/vit-nano_digits-10shot-linear.py

Expected: test accuracy 0.504. Measured: 0.5037 ± 0.0019,
mean and deviation of 3 seeds (docs/selfsup.md).
"""

_base_ = "../../_base_/digits_10shot_linear.py"

model = dict(backbone=dict(pretrain="work_dirs/simmim_vit-nano_digits/epoch_100.pth"))
