"""Fine-tuning of a small ViT, pre-trained with MAE, on ten labelled digits of each class.

    python tools/train.py configs/mae/benchmarks/vit-nano_digits-10shot.py

Expected: test accuracy 0.895. Measured: 0.8948 ± 0.0127,
mean and deviation of 5 seeds (docs/selfsup.md).
"""

_base_ = "../../_base_/digits_10shot.py"

model = dict(backbone=dict(pretrain="{{ fileDirname }}/../weights/mae_vit-nano_digits-f4ce4543.safetensors"))
