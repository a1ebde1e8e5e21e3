"""Fine-tuning of a small ViT, pre-trained with MAE, on ten labelled digits of each class.

    python tools/train.py configs/mae/benchmarks/vit-nano_digits-10shot.py

Expected: test accuracy 0.0. Measured: see docs/selfsup.md.
"""

_base_ = "../../_base_/digits_10shot.py"

model = dict(backbone=dict(pretrain="{{ fileDirname }}/../weights/mae_vit-nano_digits-f4ce4543.safetensors"))
