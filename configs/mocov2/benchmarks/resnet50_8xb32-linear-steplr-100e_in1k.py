"""A linear probe of a ResNet-50, pre-trained with MoCo v2, on ImageNet.

    torchrun --nproc_per_node 8 tools/train.py \
        configs/mocov2/benchmarks/resnet50_8xb32-linear-steplr-100e_in1k.py --launcher pytorch

The backbone is frozen. `model.backbone.pretrain` takes any checkpoint of the method, ours or official.

Expected: top-1 0.675. Published, not measured here: 67.5 %
(mmpretrain 1.2.0, configs/mocov2/metafile.yml).
"""

_base_ = [
    "../../_base_/models/resnet50.py",
    "../../_base_/datasets/imagenet_224.py",
    "../../_base_/schedules/sgd_step_100e_bs256.py",
    "../../_base_/default_runtime.py",
]

model = dict(
    backbone=dict(frozen=True, pretrain="work_dirs/mocov2_resnet50_8xb32-coslr-200e_in1k/epoch_200.pth")
)
optim_wrapper = dict(optimizer=dict(lr=30.0, weight_decay=0.0))
param_scheduler = dict(type="MultiStepLR", by_epoch=True, milestones=[60, 80], gamma=0.1, _delete_=True)
