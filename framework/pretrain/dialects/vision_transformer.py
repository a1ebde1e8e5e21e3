"""Vision Transformer (Dosovitskiy et al., 2021, https://arxiv.org/abs/2010.11929)."""

from framework.pretrain.dialect import Column, Table, merge, row

TABLE = Table(
    name="vision_transformer",
    title="Vision Transformer",
    columns={
        "timm": Column(
            producers="timm; official MAE, DINO, iBOT, MoCo v3, DeiT, DINOv2, I-JEPA, MSN; framework",
            source="timm 1.0.31, models/vision_transformer.py; facebookresearch/mae@efb2a80 models_vit.py",
        ),
        "mmpretrain": Column(
            producers="mmpretrain 1.x, mmselfsup 1.x, mmcls 0.x",
            source="mmpretrain 1.2.0, models/backbones/vision_transformer.py",
        ),
        "huggingface": Column(
            producers="transformers: ViT, ViTMAE, DeiT, ViTMSN",
            source="transformers 5.23.0, models/vit, as save_pretrained writes them",
        ),
        "huggingface_v5": Column(
            producers="transformers 5: the names in a running ViT model",
            source="transformers 5.23.0, models/vit/modeling_vit.py",
        ),
        "torchvision": Column(
            producers="torchvision >= 0.13",
            source="torchvision 0.29, models/vision_transformer.py",
        ),
    },
    rows=(
        row(
            "cls_token",
            mmpretrain="cls_token",
            huggingface="embeddings.cls_token",
            huggingface_v5="embeddings.cls_token",
            torchvision="class_token",
        ),
        row(
            "pos_embed",
            kind="pos_embed",
            mmpretrain="pos_embed",
            huggingface="embeddings.position_embeddings",
            huggingface_v5="embeddings.position_embeddings",
            torchvision="encoder.pos_embedding",
        ),
        row("reg_token", huggingface="embeddings.register_tokens"),
        row(
            "patch_embed.proj.*",
            kind="patch_embed",
            mmpretrain="patch_embed.projection.*",
            huggingface="embeddings.patch_embeddings.projection.*",
            huggingface_v5="embeddings.patch_embeddings.projection.*",
            torchvision="conv_proj.*",
        ),
        row("norm_pre.*", mmpretrain="pre_norm.*"),
        row(
            "blocks.{}.norm1.*",
            mmpretrain="layers.{}.ln1.*",
            huggingface="encoder.layer.{}.layernorm_before.*",
            huggingface_v5="layers.{}.layernorm_before.*",
            torchvision="encoder.layers.encoder_layer_{}.ln_1.*",
        ),
        row(
            "blocks.{}.attn.qkv.weight",
            mmpretrain="layers.{}.attn.qkv.weight",
            huggingface=merge(
                "encoder.layer.{}.attention.attention.query.weight",
                "encoder.layer.{}.attention.attention.key.weight",
                "encoder.layer.{}.attention.attention.value.weight",
            ),
            huggingface_v5=merge(
                "layers.{}.attention.q_proj.weight",
                "layers.{}.attention.k_proj.weight",
                "layers.{}.attention.v_proj.weight",
            ),
            torchvision="encoder.layers.encoder_layer_{}.self_attention.in_proj_weight",
        ),
        row(
            "blocks.{}.attn.qkv.bias",
            mmpretrain="layers.{}.attn.qkv.bias",
            huggingface=merge(
                "encoder.layer.{}.attention.attention.query.bias",
                "encoder.layer.{}.attention.attention.key.bias",
                "encoder.layer.{}.attention.attention.value.bias",
            ),
            huggingface_v5=merge(
                "layers.{}.attention.q_proj.bias",
                "layers.{}.attention.k_proj.bias",
                "layers.{}.attention.v_proj.bias",
            ),
            torchvision="encoder.layers.encoder_layer_{}.self_attention.in_proj_bias",
        ),
        row(
            "blocks.{}.attn.proj.*",
            mmpretrain="layers.{}.attn.proj.*",
            huggingface="encoder.layer.{}.attention.output.dense.*",
            huggingface_v5="layers.{}.attention.o_proj.*",
            torchvision="encoder.layers.encoder_layer_{}.self_attention.out_proj.*",
        ),
        row("blocks.{}.ls1.gamma", mmpretrain="layers.{}.attn.gamma1.weight"),
        row(
            "blocks.{}.norm2.*",
            mmpretrain="layers.{}.ln2.*",
            huggingface="encoder.layer.{}.layernorm_after.*",
            huggingface_v5="layers.{}.layernorm_after.*",
            torchvision="encoder.layers.encoder_layer_{}.ln_2.*",
        ),
        row(
            "blocks.{}.mlp.fc1.*",
            mmpretrain="layers.{}.ffn.layers.0.0.*",
            huggingface="encoder.layer.{}.intermediate.dense.*",
            huggingface_v5="layers.{}.mlp.fc1.*",
            torchvision="encoder.layers.encoder_layer_{}.mlp.0.*",
        ),
        row(
            "blocks.{}.mlp.fc2.*",
            mmpretrain="layers.{}.ffn.layers.1.*",
            huggingface="encoder.layer.{}.output.dense.*",
            huggingface_v5="layers.{}.mlp.fc2.*",
            torchvision="encoder.layers.encoder_layer_{}.mlp.3.*",
        ),
        row("blocks.{}.ls2.gamma", mmpretrain="layers.{}.ffn.gamma2.weight"),
        row(
            "norm.*",
            mmpretrain="ln1.*",
            huggingface="layernorm.*",
            huggingface_v5="layernorm.*",
            torchvision="encoder.ln.*",
        ),
        row("fc_norm.*", mmpretrain="ln2.*"),
    ),
)
