"""A linear probe of a ResNet-50, pre-trained with Barlow Twins, on ImageNet.

    torchrun --nproc_per_node 8 tools/train.py \
        configs/barlowtwins/benchmarks/resnet50_8xb32-linear-coslr-100e_in1k.py --launcher pytorch

The backbone is frozen. `model.backbone.pretrain` takes any checkpoint of the method, ours or official.

Expected: top-1 0.718. Published, not measured here: 71.8 %
(mmpretrain 1.2.0, configs/barlowtwins/metafile.yml).
"""

_base_ = [
    "../../_base_/models/resnet50.py",
    "../../_base_/datasets/imagenet_224.py",
    "../../_base_/schedules/sgd_linear_100e_bs256.py",
    "../../_base_/default_runtime.py",
]

model = dict(
    backbone=dict(frozen=True, pretrain="work_dirs/barlowtwins_resnet50_8xb256-coslr-300e_in1k/epoch_300.pth")
)
