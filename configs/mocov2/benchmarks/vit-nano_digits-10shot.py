"""Fine-tuning of a small ViT, pre-trained with MoCo v2, on ten labelled digits of each class.

    python tools/train.py configs/mocov2/benchmarks/vit-nano_digits-10shot.py

Expected: test accuracy 0.830. Measured: 0.8302 ± 0.0376,
mean and deviation of 3 seeds (docs/selfsup.md).
"""

_base_ = "../../_base_/digits_10shot.py"

model = dict(backbone=dict(out_type="cls_token", pretrain="work_dirs/mocov2_vit-nano_digits/epoch_100.pth"))
