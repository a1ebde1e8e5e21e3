"""Linear probing of ViT-B/16, pre-trained as a masked autoencoder, on ImageNet; 8 GPUs with 2048 images each.

    torchrun --nproc_per_node 8 tools/train.py \
        configs/mae/benchmarks/vit-base-p16_8xb2048-linear-coslr-90e_in1k.py --launcher pytorch --amp

The backbone is frozen: only the linear layer learns, behind a batch normalisation without weights.

Expected: top-1 0.678. Published, not measured here: 67.8 % with the official weights after 1600 epochs
(https://github.com/facebookresearch/mae, FINETUNE.md, linear probing). The recipe is table 10 of
https://arxiv.org/abs/2111.06377.
"""

_base_ = [
    "../../_base_/models/vit-base-p16.py",
    "../../_base_/datasets/imagenet_224.py",
    "../../_base_/default_runtime.py",
]

model = dict(
    backbone=dict(
        frozen=True,
        drop_path_rate=0.0,
        pretrain="https://dl.fbaipublicfiles.com/mae/pretrain/mae_pretrain_vit_base.pth",
    ),
    neck=dict(_delete_=True, type="ClsBatchNormNeck", num_features=768),
    head=dict(
        _delete_=True,
        type="LinearClsHead",
        num_classes=1000,
        in_channels=768,
        init_cfg=[dict(type="TruncNormal", layer="Linear", std=0.01)],
    ),
    train_cfg=None,  # neither Mixup nor CutMix
)

train_dataloader = dict(batch_size=2048)

# 0.1 per 256 images
optim_wrapper = dict(
    optimizer=dict(type="LARS", lr=0.1 * 16384 / 256, momentum=0.9, weight_decay=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-4, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=10, end=90, eta_min=0.0, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=90)
auto_scale_lr = dict(base_batch_size=16384, enable=False)
