"""A linear probe of a small ViT, pre-trained with MoCo v3, on ten labelled digits of each class.

    python tools/train.py configs/mocov3/benchmarks/vit-nano_digits-10shot-linear.py

Expected: not measured here, and not published for this recipe.
"""

_base_ = "../../_base_/digits_10shot_linear.py"

model = dict(backbone=dict(out_type="cls_token", pretrain="work_dirs/mocov3_vit-nano_digits/epoch_100.pth"))
