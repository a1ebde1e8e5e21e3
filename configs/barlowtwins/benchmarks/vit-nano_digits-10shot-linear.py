"""A linear probe of a small ViT, pre-trained with Barlow Twins, on ten labelled digits of each class.

    python tools/train.py configs/barlowtwins/benchmarks/vit-nano_digits-10shot-linear.py

Expected: not measured here, and not published for this recipe.
"""

_base_ = "../../_base_/digits_10shot_linear.py"

model = dict(backbone=dict(pretrain="work_dirs/barlowtwins_vit-nano_digits/epoch_100.pth"))
