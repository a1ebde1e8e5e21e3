"""Fine-tuning of a small ViT, pre-trained with SimSiam, on ten labelled digits of each class.

    python tools/train.py configs/simsiam/benchmarks/vit-nano_digits-10shot.py

Expected: test accuracy 0.249. Measured: 0.2494 ± 0.0070,
mean and deviation of 3 seeds (docs/selfsup.md).
"""

_base_ = "../../_base_/digits_10shot.py"

model = dict(backbone=dict(pretrain="work_dirs/simsiam_vit-nano_digits/epoch_100.pth"))
