"""SimCLR (https://arxiv.org/abs/2002.05709) on ImageNet; 16 GPUs with 256 images each.

    torchrun --nnodes 2 --nproc_per_node 8 tools/train.py \
        configs/simclr/simclr_resnet50_16xb256-coslr-200e_in1k.py --launcher pytorch

Expected: top-1 0.669 by a linear probe. Published, not measured here: 66.9 %
(mmpretrain 1.2.0, configs/simclr/metafile.yml, 16 GPUs; 69.2 % after 800 epochs).
"""

_base_ = [
    "../_base_/datasets/imagenet_two_distorted_views.py",
    "../_base_/schedules/lars_coslr_200e_bs4096.py",
    "../_base_/default_runtime.py",
]

model = dict(
    type="SimCLR",
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(type="ResNet", depth=50, norm_cfg=dict(type="SyncBN"), zero_init_residual=True),
    neck=dict(type="NonLinearNeck", in_channels=2048, hid_channels=2048, out_channels=128),
    head=dict(type="ContrastiveHead", loss=dict(type="CrossEntropyLoss"), temperature=0.1),
)
