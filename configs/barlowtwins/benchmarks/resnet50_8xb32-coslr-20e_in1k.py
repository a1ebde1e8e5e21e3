"""Fine-tuning of a ResNet-50, pre-trained with Barlow Twins, on ImageNet; 8 GPUs with 32 images each.

    torchrun --nproc_per_node 8 tools/train.py \
        configs/barlowtwins/benchmarks/resnet50_8xb32-coslr-20e_in1k.py --launcher pytorch --amp

Expected: no score of this recipe is published, and none was measured here.
"""

_base_ = [
    "../../_base_/models/resnet50.py",
    "../../_base_/datasets/imagenet_224.py",
    "../../_base_/schedules/sgd_finetune_20e_bs256.py",
    "../../_base_/default_runtime.py",
]

model = dict(backbone=dict(pretrain="work_dirs/barlowtwins_resnet50_8xb256-coslr-300e_in1k/epoch_300.pth"))
