"""A linear probe of a ViT, pre-trained on CIFAR-10 by simmim_vit-tiny-p4_cifar10.py, on one GPU.

    python tools/train.py configs/simmim/benchmarks/vit-tiny-p4_linear_cifar10.py --amp

Expected: not measured here, and not published for this recipe.
"""

_base_ = [
    "../../_base_/models/vit-tiny-p4_cifar10.py",
    "../../_base_/datasets/cifar10.py",
    "../../_base_/schedules/adamw_finetune_50e_cifar10.py",
    "../../_base_/default_runtime.py",
]

model = dict(
    backbone=dict(
        frozen=True, out_type="avg_featmap", pretrain="work_dirs/simmim_vit-tiny-p4_cifar10/epoch_200.pth"
    )
)
