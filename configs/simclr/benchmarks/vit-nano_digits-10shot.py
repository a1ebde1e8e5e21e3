"""Fine-tuning of a small ViT, pre-trained with SimCLR, on ten labelled digits of each class.

    python tools/train.py configs/simclr/benchmarks/vit-nano_digits-10shot.py

Expected: test accuracy 0.922. Measured: 0.9222 ± 0.0111,
mean and deviation of 5 seeds (docs/selfsup.md).
"""

_base_ = "../../_base_/digits_10shot.py"

model = dict(
    backbone=dict(pretrain="{{ fileDirname }}/../weights/simclr_vit-nano_digits-051f6416.safetensors")
)
