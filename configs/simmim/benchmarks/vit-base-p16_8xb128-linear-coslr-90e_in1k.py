"""A linear probe of ViT-B/16, pre-trained with SimMIM, on ImageNet; 8 GPUs with 128 images each.

    torchrun --nproc_per_node 8 tools/train.py \
        configs/simmim/benchmarks/vit-base-p16_8xb128-linear-coslr-90e_in1k.py --launcher pytorch --amp

The backbone is frozen. `model.backbone.pretrain` takes any checkpoint of the method, ours or official.

Expected: top-1 0.567. Published, not measured here: 56.7 %
(https://arxiv.org/abs/2111.09886, section 4.2; https://github.com/microsoft/SimMIM), there with another
schedule.
"""

_base_ = [
    "../../_base_/models/vit-base-p16.py",
    "../../_base_/datasets/imagenet_224.py",
    "../../_base_/schedules/sgd_linear_90e_bs1024.py",
    "../../_base_/default_runtime.py",
]

model = dict(
    backbone=dict(
        _delete_=True,
        type="BEiTViT",
        arch="base",
        img_size=224,
        patch_size=16,
        frozen=True,
        drop_path_rate=0.0,
        out_type="avg_featmap",
        pretrain="work_dirs/simmim_vit-base-p16_8xb256-amp-coslr-800e_in1k/epoch_800.pth",
    ),
    head=dict(_delete_=True, type="LinearClsHead", num_classes=1000, in_channels=768),
    train_cfg=None,  # neither Mixup nor CutMix
)
train_dataloader = dict(batch_size=128)
