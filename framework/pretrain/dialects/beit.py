"""BEiT (Bao et al., 2022, https://arxiv.org/abs/2106.08254), and other ViTs with such layers."""

from framework.pretrain.dialect import Column, Table, merge, row
from framework.pretrain.dialects import masked

COLUMNS = {
    "timm": Column(
        producers="timm; official BEiT, BEiT v2, data2vec vision, EVA, fine-tuned; SimMIM's ViT; framework",
        source="timm 1.0.31, models/beit.py; microsoft/unilm@768a3c8 beit/modeling_finetune.py",
        head="head.*",
        tested="timm 1.0.31",
    ),
    "shared": Column(
        producers="official BEiT, BEiT v2, data2vec vision, pretrained: one bias table for all layers",
        source="microsoft/unilm@768a3c8 beit/modeling_pretrain.py",
        base="timm",
        tested="timm 1.0.31",
    ),
    "mmpretrain": Column(
        producers="mmpretrain: BEiT, BEiT v2, EVA",
        source="mmpretrain 1.2.0, models/backbones/beit.py",
        prefix="backbone.",
        head="^head.fc.*",
        tested="timm 1.0.31, renamed",
    ),
    "mmpretrain_shared": Column(
        producers="mmpretrain: BEiT pretrained, one bias table for all layers",
        source="mmpretrain 1.2.0, models/selfsup/beit.py",
        base="mmpretrain",
        prefix="backbone.",
        tested="timm 1.0.31, renamed",
    ),
    "huggingface": Column(
        producers="transformers: BEiT, data2vec vision",
        source="transformers 5.23.0, models/beit, as save_pretrained writes them",
        prefix="beit.",
        head="^classifier.*",
        tested="transformers 5.23.0",
    ),
    "huggingface_shared": Column(
        producers="transformers: BEiT pretrained, one bias table for all layers",
        source="transformers 5.23.0, models/beit, as save_pretrained writes them",
        base="huggingface",
        prefix="beit.",
        tested="transformers 5.23.0",
    ),
    "huggingface_v5": Column(
        producers="transformers 5: the names in a running BEiT, data2vec vision",
        source="transformers 5.23.0, models/beit/modeling_beit.py",
        prefix="beit.",
        head="^classifier.*",
        tested="transformers 5.23.0",
    ),
}

_LAYER = "encoder.layer.{}"

TABLE = Table(
    name="beit",
    title="BEiT",
    columns={**COLUMNS, **masked.BEIT_COLUMNS},
    rows=(
        *masked.SIMMIM_BEIT_ROWS,
        row(
            "cls_token",
            mmpretrain="cls_token",
            huggingface="embeddings.cls_token",
            huggingface_v5="embeddings.cls_token",
        ),
        row(
            "pos_embed",
            kind="pos_embed",
            mmpretrain="pos_embed",
            huggingface="embeddings.position_embeddings",
            huggingface_v5="embeddings.position_embeddings",
        ),
        row(
            "patch_embed.proj.*",
            kind="patch_embed",
            mmpretrain="patch_embed.projection.*",
            huggingface="embeddings.patch_embeddings.projection.*",
            huggingface_v5="embeddings.patch_embeddings.projection.*",
        ),
        row(
            "rel_pos_bias.relative_position_bias_table",
            kind="rel_pos_bias",
            mmpretrain="rel_pos_bias.relative_position_bias_table",
            huggingface="encoder.relative_position_bias.relative_position_bias_table",
            huggingface_v5="shared_position_bias.relative_position_bias_table",
        ),
        row(
            "blocks.{}.attn.relative_position_bias_table",
            kind="rel_pos_bias",
            shared="rel_pos_bias.relative_position_bias_table",
            mmpretrain="layers.{}.attn.relative_position_bias_table",
            mmpretrain_shared="rel_pos_bias.relative_position_bias_table",
            huggingface=f"{_LAYER}.attention.attention.relative_position_bias.relative_position_bias_table",
            huggingface_shared="encoder.relative_position_bias.relative_position_bias_table",
            huggingface_v5="layers.{}.relative_position_bias.relative_position_bias_table",
        ),
        row(
            "blocks.{}.gamma_1",
            mmpretrain="layers.{}.gamma_1",
            huggingface=f"{_LAYER}.lambda_1",
            huggingface_v5="layers.{}.lambda_1",
        ),
        row(
            "blocks.{}.gamma_2",
            mmpretrain="layers.{}.gamma_2",
            huggingface=f"{_LAYER}.lambda_2",
            huggingface_v5="layers.{}.lambda_2",
        ),
        row(
            "blocks.{}.norm1.*",
            mmpretrain="layers.{}.ln1.*",
            huggingface=f"{_LAYER}.layernorm_before.*",
            huggingface_v5="layers.{}.layernorm_before.*",
        ),
        row(
            "blocks.{}.attn.qkv.weight",
            mmpretrain="layers.{}.attn.qkv.weight",
            huggingface=merge(
                f"{_LAYER}.attention.attention.query.weight",
                f"{_LAYER}.attention.attention.key.weight",
                f"{_LAYER}.attention.attention.value.weight",
            ),
            huggingface_v5=merge(
                "layers.{}.attention.q_proj.weight",
                "layers.{}.attention.k_proj.weight",
                "layers.{}.attention.v_proj.weight",
            ),
        ),
        row("blocks.{}.attn.qkv.bias", mmpretrain="layers.{}.attn.qkv.bias"),
        row(
            "blocks.{}.attn.q_bias",
            mmpretrain="layers.{}.attn.q_bias",
            huggingface=f"{_LAYER}.attention.attention.query.bias",
            huggingface_v5="layers.{}.attention.q_proj.bias",
        ),
        row(
            "blocks.{}.attn.v_bias",
            mmpretrain="layers.{}.attn.v_bias",
            huggingface=f"{_LAYER}.attention.attention.value.bias",
            huggingface_v5="layers.{}.attention.v_proj.bias",
        ),
        row(
            "blocks.{}.attn.proj.*",
            mmpretrain="layers.{}.attn.proj.*",
            huggingface=f"{_LAYER}.attention.output.dense.*",
            huggingface_v5="layers.{}.attention.o_proj.*",
        ),
        row(
            "blocks.{}.norm2.*",
            mmpretrain="layers.{}.ln2.*",
            huggingface=f"{_LAYER}.layernorm_after.*",
            huggingface_v5="layers.{}.layernorm_after.*",
        ),
        row(
            "blocks.{}.mlp.fc1.*",
            mmpretrain="layers.{}.ffn.layers.0.0.*",
            huggingface=f"{_LAYER}.intermediate.dense.*",
            huggingface_v5="layers.{}.mlp.fc1.*",
        ),
        row(
            "blocks.{}.mlp.fc2.*",
            mmpretrain="layers.{}.ffn.layers.1.*",
            huggingface=f"{_LAYER}.output.dense.*",
            huggingface_v5="layers.{}.mlp.fc2.*",
        ),
        row("norm.*", mmpretrain="ln1.*", huggingface="layernorm.*", huggingface_v5="layernorm.*"),
        row(
            "fc_norm.*",
            mmpretrain="ln2.*",
            huggingface="pooler.layernorm.*",
            huggingface_v5="pooler.layernorm.*",
        ),
    ),
)
