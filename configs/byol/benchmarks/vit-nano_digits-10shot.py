"""Fine-tuning of a small ViT, pre-trained with BYOL, on ten labelled digits of each class.

    python tools/train.py configs/byol/benchmarks/vit-nano_digits-10shot.py

Expected: test accuracy 0.399. Measured: 0.3994 ± 0.0242,
mean and deviation of 3 seeds (docs/selfsup.md).
"""

_base_ = "../../_base_/digits_10shot.py"

model = dict(backbone=dict(pretrain="work_dirs/byol_vit-nano_digits/epoch_100.pth"))
