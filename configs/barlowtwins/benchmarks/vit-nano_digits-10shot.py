"""Fine-tuning of a small ViT, pre-trained with Barlow Twins, on ten labelled digits of each class.

    python tools/train.py configs/barlowtwins/benchmarks/vit-nano_digits-10shot.py

Expected: test accuracy 0.791. Measured: 0.7914 ± 0.0242,
mean and deviation of 3 seeds (docs/selfsup.md).
"""

_base_ = "../../_base_/digits_10shot.py"

model = dict(backbone=dict(pretrain="work_dirs/barlowtwins_vit-nano_digits/epoch_100.pth"))
