"""Fine-tuning of a small ViT, pre-trained with DINO, on ten labelled digits of each class.

    python tools/train.py configs/dino/benchmarks/vit-nano_digits-10shot.py

Expected: test accuracy 0.616. Measured: 0.6160 ± 0.0503,
mean and deviation of 3 seeds (docs/selfsup.md).
"""

_base_ = "../../_base_/digits_10shot.py"

model = dict(backbone=dict(pretrain="work_dirs/dino_vit-nano_digits/epoch_100.pth"))
