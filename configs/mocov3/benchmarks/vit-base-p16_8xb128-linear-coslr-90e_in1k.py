"""A linear probe of ViT-B/16, pre-trained with MoCo v3, on ImageNet; 8 GPUs with 128 images each.

    torchrun --nproc_per_node 8 tools/train.py \
        configs/mocov3/benchmarks/vit-base-p16_8xb128-linear-coslr-90e_in1k.py --launcher pytorch --amp

The backbone is frozen. `model.backbone.pretrain` takes any checkpoint of the method, ours or official.

Expected: top-1 0.769. Published, not measured here: 76.9 %
(mmpretrain 1.2.0, configs/mocov3/metafile.yml).
"""

_base_ = [
    "../../_base_/models/vit-base-p16.py",
    "../../_base_/datasets/imagenet_224.py",
    "../../_base_/schedules/sgd_linear_90e_bs1024.py",
    "../../_base_/default_runtime.py",
]

model = dict(
    backbone=dict(
        frozen=True,
        drop_path_rate=0.0,
        pretrain="work_dirs/mocov3_vit-base-p16_16xb256-amp-coslr-300e_in1k/epoch_300.pth",
    ),
    head=dict(_delete_=True, type="LinearClsHead", num_classes=1000, in_channels=768),
    train_cfg=None,  # neither Mixup nor CutMix
)
train_dataloader = dict(batch_size=128)
