"""A linear probe of ViT-B/16, pre-trained with DINO, on ImageNet; 8 GPUs with 128 images each.

    torchrun --nproc_per_node 8 tools/train.py \
        configs/dino/benchmarks/vit-base-p16_8xb128-linear-coslr-90e_in1k.py --launcher pytorch --amp

The backbone is frozen. `model.backbone.pretrain` takes any checkpoint of the method, ours or official.

Expected: top-1 0.782. Published, not measured here: 78.2 %
(https://arxiv.org/abs/2104.14294, tables 2 and 6), there with another schedule and with
the averaged patch tokens beside the class token.
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
        pretrain="work_dirs/dino_vit-base-p16_16xb64-amp-coslr-400e_in1k/epoch_400.pth",
    ),
    head=dict(_delete_=True, type="LinearClsHead", num_classes=1000, in_channels=768),
    train_cfg=None,  # neither Mixup nor CutMix
)
train_dataloader = dict(batch_size=128)
