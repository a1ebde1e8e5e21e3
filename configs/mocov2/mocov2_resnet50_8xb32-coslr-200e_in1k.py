"""MoCo v2 (https://arxiv.org/abs/2003.04297) on ImageNet; 8 GPUs with 32 images each.

    torchrun --nproc_per_node 8 tools/train.py \
        configs/mocov2/mocov2_resnet50_8xb32-coslr-200e_in1k.py --launcher pytorch

Expected: top-1 0.675 by a linear probe. Published, not measured here: 67.5 %
(mmpretrain 1.2.0, configs/mocov2/metafile.yml).
"""

_base_ = [
    "../_base_/datasets/imagenet_two_views.py",
    "../_base_/schedules/sgd_coslr_200e_bs256.py",
    "../_base_/default_runtime.py",
]

model = dict(
    type="MoCo",
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(type="ResNet", depth=50),
    neck=dict(type="MoCoV2Neck", in_channels=2048, hid_channels=2048, out_channels=128),
    head=dict(type="ContrastiveHead", loss=dict(type="CrossEntropyLoss"), temperature=0.2),
    queue_len=65536,
    feat_dim=128,
    momentum=0.001,
)
