"""BYOL (https://arxiv.org/abs/2006.07733) on ImageNet; 16 GPUs with 256 images each.

    torchrun --nnodes 2 --nproc_per_node 8 tools/train.py \
        configs/byol/byol_resnet50_16xb256-coslr-200e_in1k.py --launcher pytorch

Expected: top-1 0.718 by a linear probe. Published, not measured here: 71.8 %
(mmpretrain 1.2.0, configs/byol/metafile.yml).
"""

_base_ = [
    "../_base_/datasets/imagenet_two_unlike_views.py",
    "../_base_/schedules/lars_coslr_200e_bs4096.py",
    "../_base_/default_runtime.py",
]

model = dict(
    type="BYOL",
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(type="ResNet", depth=50, norm_cfg=dict(type="SyncBN"), zero_init_residual=True),
    neck=dict(
        type="NonLinearNeck",
        in_channels=2048,
        hid_channels=4096,
        out_channels=256,
        with_bias=True,
        with_last_bn=False,
    ),
    head=dict(
        type="LatentPredictHead",
        loss=dict(type="CosineSimilarityLoss"),
        predictor=dict(
            type="NonLinearNeck",
            in_channels=256,
            hid_channels=4096,
            out_channels=256,
            with_avg_pool=False,
            with_last_bn=False,
            with_bias=True,
        ),
    ),
    base_momentum=0.01,
)
