"""A linear probe of a ResNet-18, pre-trained on CIFAR-10 by simsiam_resnet18_cifar10.py, on one GPU.

    python tools/train.py configs/simsiam/benchmarks/resnet18_linear_cifar10.py --amp

Expected: not measured here, and not published for this recipe.
"""

_base_ = [
    "../../_base_/models/resnet18_cifar10.py",
    "../../_base_/datasets/cifar10.py",
    "../../_base_/schedules/adamw_finetune_50e_cifar10.py",
    "../../_base_/default_runtime.py",
]

model = dict(backbone=dict(frozen=True, pretrain="work_dirs/simsiam_resnet18_cifar10/epoch_200.pth"))
