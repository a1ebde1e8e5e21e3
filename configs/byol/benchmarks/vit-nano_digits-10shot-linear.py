"""A linear probe of a small ViT, pre-trained with BYOL, on ten labelled digits of each class.

    python tools/train.py configs/byol/benchmarks/vit-nano_digits-10shot-linear.py

Expected: test accuracy 0.757. Measured: 0.7568 ± 0.0093,
mean and deviation of 3 seeds (docs/selfsup.md).
"""

_base_ = "../../_base_/digits_10shot_linear.py"

model = dict(backbone=dict(out_type="cls_token", pretrain="work_dirs/byol_vit-nano_digits/epoch_100.pth"))
