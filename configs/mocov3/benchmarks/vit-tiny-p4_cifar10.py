"""Fine-tuning of a ViT, pre-trained on CIFAR-10 by mocov3_vit-tiny-p4_cifar10.py, on one GPU.

    python tools/train.py configs/mocov3/benchmarks/vit-tiny-p4_cifar10.py --amp

Expected: not measured here, and not published for this recipe.
"""

_base_ = [
    "../../_base_/models/vit-tiny-p4_cifar10.py",
    "../../_base_/datasets/cifar10.py",
    "../../_base_/schedules/adamw_finetune_50e_cifar10.py",
    "../../_base_/default_runtime.py",
]

model = dict(backbone=dict(pretrain="work_dirs/mocov3_vit-tiny-p4_cifar10/epoch_200.pth"))
