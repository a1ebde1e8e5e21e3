"""ViT-B/16 on ImageNet, supervised, from scratch, 32 GPUs with 128 images each.

    torchrun --nnodes 4 --nproc_per_node 8 ... tools/train.py \
        configs/vision_transformer/vit-base-p16_32xb128-mae_in1k.py --launcher pytorch --amp

The recipe is that of the supervised baseline in He et al., "Masked Autoencoders Are Scalable Vision Learners"
(https://arxiv.org/abs/2111.06377), table 11.

Expected: top-1 0.823. Published, not measured here: 82.3 % in the paper (table 3), 82.37 % in mmpretrain
(configs/vision_transformer/metafile.yml, vit-base-p16_32xb128-mae_in1k). Not the same here: RandAugment has
no noise on its strength.
"""

_base_ = [
    "../_base_/models/vit-base-p16.py",
    "../_base_/datasets/imagenet_224_randaug.py",
    "../_base_/default_runtime.py",
]

optim_wrapper = dict(
    optimizer=dict(type="AdamW", lr=1e-4 * 4096 / 256, weight_decay=0.3, eps=1e-8, betas=(0.9, 0.95)),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={".cls_token": dict(decay_mult=0.0), ".pos_embed": dict(decay_mult=0.0)},
    ),
)

param_scheduler = [
    dict(type="LinearLR", start_factor=1e-4, by_epoch=True, begin=0, end=20, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=20, end=300, eta_min=0, convert_to_iter_based=True),
]

train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=1)
custom_hooks = [dict(type="EMAHook", momentum=1e-4)]
auto_scale_lr = dict(base_batch_size=4096, enable=False)
