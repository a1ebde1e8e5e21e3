"""A linear probe of a ResNet-50, pre-trained with SwAV, on ImageNet.

    torchrun --nproc_per_node 8 tools/train.py \
        configs/swav/benchmarks/resnet50_8xb32-linear-coslr-100e_in1k.py --launcher pytorch

The backbone is frozen. `model.backbone.pretrain` takes any checkpoint of the method, ours or official.

Expected: top-1 0.705. Published, not measured here: 70.5 %
(mmpretrain 1.2.0, configs/swav/metafile.yml).
"""

_base_ = [
    "../../_base_/models/resnet50.py",
    "../../_base_/datasets/imagenet_224.py",
    "../../_base_/schedules/sgd_linear_100e_bs256.py",
    "../../_base_/default_runtime.py",
]

model = dict(
    backbone=dict(
        frozen=True, pretrain="work_dirs/swav_resnet50_8xb32-mcrop-coslr-200e_in1k-224px-96px/epoch_200.pth"
    )
)
