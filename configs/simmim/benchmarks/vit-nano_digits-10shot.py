"""Fine-tuning of a small ViT, pre-trained with SimMIM, on ten labelled digits of each class.

    python tools/train.py configs/simmim/benchmarks/vit-nano_digits-10shot.py

Expected: test accuracy 0.828. Measured: 0.8278 ± 0.0404,
mean and deviation of 3 seeds (docs/selfsup.md).
"""

_base_ = "../../_base_/digits_10shot.py"

model = dict(backbone=dict(pretrain="work_dirs/simmim_vit-nano_digits/epoch_100.pth"))
