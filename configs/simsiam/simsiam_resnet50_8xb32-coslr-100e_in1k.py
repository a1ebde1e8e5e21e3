"""SimSiam (https://arxiv.org/abs/2011.10566) on ImageNet; 8 GPUs with 32 images each.

    torchrun --nproc_per_node 8 tools/train.py \
        configs/simsiam/simsiam_resnet50_8xb32-coslr-100e_in1k.py --launcher pytorch

Expected: top-1 0.683 by a linear probe. Published, not measured here: 68.3 %
(mmpretrain 1.2.0, configs/simsiam/metafile.yml); 68.1 % in the paper.
"""

_base_ = [
    "../_base_/datasets/imagenet_two_views.py",
    "../_base_/schedules/sgd_coslr_200e_bs256.py",
    "../_base_/default_runtime.py",
]

model = dict(
    type="SimSiam",
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(type="ResNet", depth=50, norm_cfg=dict(type="SyncBN"), zero_init_residual=True),
    neck=dict(
        type="NonLinearNeck",
        in_channels=2048,
        hid_channels=2048,
        out_channels=2048,
        num_layers=3,
        with_last_bn_affine=False,
    ),
    head=dict(
        type="LatentPredictHead",
        loss=dict(type="CosineSimilarityLoss"),
        predictor=dict(
            type="NonLinearNeck",
            in_channels=2048,
            hid_channels=512,
            out_channels=2048,
            with_avg_pool=False,
            with_last_bn=False,
            with_last_bias=True,
        ),
    ),
)

# the predictor learns without decay of the learning rate (section 4.2 of the paper)
optim_wrapper = dict(
    optimizer=dict(lr=0.05), paramwise_cfg=dict(custom_keys={"predictor": dict(fix_lr=True)})
)
param_scheduler = [
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=100, eta_min=0.0, convert_to_iter_based=True)
]
train_cfg = dict(by_epoch=True, max_epochs=100)
custom_hooks = [dict(type="SimSiamHook", fix_pred_lr=True, lr=0.05, adjust_by_epoch=False)]
