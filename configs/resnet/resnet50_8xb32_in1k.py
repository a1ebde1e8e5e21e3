"""ResNet-50 on ImageNet, from scratch, 8 GPUs with 32 images each.

    torchrun --nproc_per_node 8 tools/train.py configs/resnet/resnet50_8xb32_in1k.py --launcher pytorch

Expected: top-1 0.7655, top-5 0.9306. Published, not measured here: mmpretrain reports 76.55 % and 93.06 % for
this schedule and these augmentations (its configs/resnet/README.md, resnet50_8xb32_in1k).
"""

_base_ = [
    "../_base_/models/resnet50.py",
    "../_base_/datasets/imagenet_224.py",
    "../_base_/schedules/sgd_step_100e_bs256.py",
    "../_base_/default_runtime.py",
]
