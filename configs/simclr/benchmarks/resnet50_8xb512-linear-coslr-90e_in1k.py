"""A linear probe of a ResNet-50, pre-trained with SimCLR, on ImageNet.

    torchrun --nproc_per_node 8 tools/train.py \
        configs/simclr/benchmarks/resnet50_8xb512-linear-coslr-90e_in1k.py --launcher pytorch

The backbone is frozen. `model.backbone.pretrain` takes any checkpoint of the method, ours or official.

Expected: top-1 0.669. Published, not measured here: 66.9 %
(mmpretrain 1.2.0, configs/simclr/metafile.yml).
"""

_base_ = [
    "../../_base_/models/resnet50.py",
    "../../_base_/datasets/imagenet_224.py",
    "../../_base_/schedules/lars_linear_90e_bs4096.py",
    "../../_base_/default_runtime.py",
]

model = dict(
    backbone=dict(frozen=True, pretrain="work_dirs/simclr_resnet50_16xb256-coslr-200e_in1k/epoch_200.pth")
)
train_dataloader = dict(batch_size=512)
