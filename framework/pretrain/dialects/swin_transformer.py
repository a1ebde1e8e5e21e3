"""Swin Transformer (Liu et al., 2021, https://arxiv.org/abs/2103.14030) and V2 (arXiv 2111.09883)."""

from framework.pretrain.dialect import Column, Table, merge, query_value, row, view
from framework.pretrain.dialects import masked

#: mmpretrain merges 2 x 2 patches channel by channel, the others patch by patch, columns outside.
_UNFOLDED = "o (c y=2 x=2) -> o (x y c)"
_UNFOLDED_NORM = "(c y=2 x=2) -> (x y c)"

_V5 = (
    (".attention.self.query.", ".attention.q_proj."),
    (".attention.self.key.", ".attention.k_proj."),
    (".attention.self.value.", ".attention.v_proj."),
    (".attention.output.dense.", ".attention.o_proj."),
    (".self.relative_position_bias_table", ".relative_position_bias.relative_position_bias_table"),
    (".intermediate.dense.", ".mlp.fc1."),
    (".output.dense.", ".mlp.fc2."),
)


def _columns(prefix: str, version: str) -> dict[str, Column]:
    return {
        "timm": Column(
            producers="timm; framework",
            source=f"timm 1.0.31, models/swin_transformer{version}.py",
            head="head.fc.*",
            tested="timm 1.0.31",
        ),
        "official": Column(
            producers="official Swin, SimMIM, iBOT; timm before 0.9",
            source=f"microsoft/Swin-Transformer swin_transformer{version}.py; microsoft/SimMIM@d3e29bc",
            base="timm",
            changes=(("layers.{+1}.downsample.", "layers.{}.downsample."),),
            head="head.*",
            tested="timm 1.0.31, renamed",
        ),
        "mmpretrain": Column(
            producers="mmpretrain, mmdetection, mmsegmentation",
            source=f"mmpretrain 1.2.0, models/backbones/swin_transformer{version}.py",
            prefix="backbone.",
            head="^head.fc.*",
            tested="timm 1.0.31, rearranged",
        ),
        "torchvision": Column(
            producers="torchvision",
            source="torchvision 0.29, models/swin_transformer.py",
            head="head.*",
            tested="torchvision 0.29.2",
        ),
        "huggingface": Column(
            producers=f"transformers: {prefix.capitalize()}",
            source=f"transformers 5.23.0, models/{prefix}, as save_pretrained writes them",
            prefix=f"{prefix}.",
            head="^classifier.*",
            tested="transformers 5.23.0",
        ),
    }


_RUNNING = Column(
    producers="transformers 5: the names in a running Swin",
    source="transformers 5.23.0, models/swin/modeling_swin.py",
    base="huggingface",
    changes=_V5,
    prefix="swin.",
    head="^classifier.*",
    tested="transformers 5.23.0",
)

#: timm merges patches at the start of a stage, so never in the first; the index is the stage before.
_COMMON = (
    row(
        "absolute_pos_embed",
        kind="pos_embed",
        mmpretrain="absolute_pos_embed",
        huggingface="embeddings.position_embeddings",
    ),
    row(
        "patch_embed.proj.*",
        kind="patch_embed",
        mmpretrain="patch_embed.projection.*",
        torchvision="features.0.0.*",
        huggingface="embeddings.patch_embeddings.projection.*",
    ),
    row(
        "patch_embed.norm.*",
        mmpretrain="patch_embed.norm.*",
        torchvision="features.0.2.*",
        huggingface="embeddings.norm.*",
    ),
    row(
        "layers.{}.blocks.{}.norm1.*",
        mmpretrain="stages.{}.blocks.{}.norm1.*",
        torchvision="features.{2n+1}.{}.norm1.*",
        huggingface="encoder.layers.{}.blocks.{}.layernorm_before.*",
    ),
    row(
        "layers.{}.blocks.{}.attn.qkv.weight",
        mmpretrain="stages.{}.blocks.{}.attn.w_msa.qkv.weight",
        torchvision="features.{2n+1}.{}.attn.qkv.weight",
        huggingface=merge(
            "encoder.layers.{}.blocks.{}.attention.self.query.weight",
            "encoder.layers.{}.blocks.{}.attention.self.key.weight",
            "encoder.layers.{}.blocks.{}.attention.self.value.weight",
        ),
    ),
    row(
        "layers.{}.blocks.{}.attn.proj.*",
        mmpretrain="stages.{}.blocks.{}.attn.w_msa.proj.*",
        torchvision="features.{2n+1}.{}.attn.proj.*",
        huggingface="encoder.layers.{}.blocks.{}.attention.output.dense.*",
    ),
    row(
        "layers.{}.blocks.{}.norm2.*",
        mmpretrain="stages.{}.blocks.{}.norm2.*",
        torchvision="features.{2n+1}.{}.norm2.*",
        huggingface="encoder.layers.{}.blocks.{}.layernorm_after.*",
    ),
    row(
        "layers.{}.blocks.{}.mlp.fc1.*",
        mmpretrain="stages.{}.blocks.{}.ffn.layers.0.0.*",
        torchvision="features.{2n+1}.{}.mlp.0.*",
        huggingface="encoder.layers.{}.blocks.{}.intermediate.dense.*",
    ),
    row(
        "layers.{}.blocks.{}.mlp.fc2.*",
        mmpretrain="stages.{}.blocks.{}.ffn.layers.1.*",
        torchvision="features.{2n+1}.{}.mlp.3.*",
        huggingface="encoder.layers.{}.blocks.{}.output.dense.*",
    ),
    row(
        "layers.{+1}.downsample.reduction.weight",
        mmpretrain=view("stages.{}.downsample.reduction.weight", _UNFOLDED),
        torchvision="features.{2n+2}.reduction.weight",
        huggingface="encoder.layers.{}.downsample.reduction.weight",
    ),
    row("norm.*", mmpretrain="norm3.*", torchvision="norm.*", huggingface="layernorm.*"),
    row("norm{}.*", mmpretrain="norm{}.*"),
)

TABLE = Table(
    name="swin_transformer",
    title="Swin Transformer",
    columns={**_columns("swin", ""), "huggingface_v5": _RUNNING},
    rows=(
        *_COMMON,
        *masked.SIMMIM_SWIN_ROWS,
        row(
            "layers.{}.blocks.{}.attn.relative_position_bias_table",
            kind="rel_pos_bias",
            mmpretrain="stages.{}.blocks.{}.attn.w_msa.relative_position_bias_table",
            torchvision="features.{2n+1}.{}.attn.relative_position_bias_table",
            huggingface="encoder.layers.{}.blocks.{}.attention.self.relative_position_bias_table",
        ),
        row(
            "layers.{}.blocks.{}.attn.qkv.bias",
            mmpretrain="stages.{}.blocks.{}.attn.w_msa.qkv.bias",
            torchvision="features.{2n+1}.{}.attn.qkv.bias",
            huggingface=merge(
                "encoder.layers.{}.blocks.{}.attention.self.query.bias",
                "encoder.layers.{}.blocks.{}.attention.self.key.bias",
                "encoder.layers.{}.blocks.{}.attention.self.value.bias",
            ),
        ),
        row(
            "layers.{+1}.downsample.norm.*",
            mmpretrain={
                leaf: view(f"stages.{{}}.downsample.norm.{leaf}", _UNFOLDED_NORM)
                for leaf in ("weight", "bias")
            },
            torchvision="features.{2n+2}.norm.*",
            huggingface="encoder.layers.{}.downsample.norm.*",
        ),
    ),
)

TABLE_V2 = Table(
    name="swin_transformer_v2",
    title="Swin Transformer V2",
    columns=_columns("swinv2", "_v2"),
    rows=(
        *_COMMON,
        *masked.SIMMIM_SWIN_ROWS,
        row(
            query_value("layers.{}.blocks.{}.attn.q_bias", "layers.{}.blocks.{}.attn.v_bias"),
            mmpretrain=query_value(
                "stages.{}.blocks.{}.attn.w_msa.q_bias", "stages.{}.blocks.{}.attn.w_msa.v_bias"
            ),
            torchvision="features.{2n+1}.{}.attn.qkv.bias",
            huggingface=query_value(
                "encoder.layers.{}.blocks.{}.attention.self.query.bias",
                "encoder.layers.{}.blocks.{}.attention.self.value.bias",
            ),
        ),
        row(
            "layers.{}.blocks.{}.attn.logit_scale",
            mmpretrain="stages.{}.blocks.{}.attn.w_msa.logit_scale",
            torchvision="features.{2n+1}.{}.attn.logit_scale",
            huggingface="encoder.layers.{}.blocks.{}.attention.self.logit_scale",
        ),
        *(
            row(
                f"layers.{{}}.blocks.{{}}.attn.cpb_mlp.{i}.*",
                mmpretrain=f"stages.{{}}.blocks.{{}}.attn.w_msa.cpb_mlp.{i}.*",
                torchvision=f"features.{{2n+1}}.{{}}.attn.cpb_mlp.{i}.*",
                huggingface=f"encoder.layers.{{}}.blocks.{{}}.attention.self.continuous_position_bias_mlp.{i}.*",
            )
            for i in (0, 2)
        ),
        row(
            "layers.{+1}.downsample.norm.*",
            mmpretrain="stages.{}.downsample.norm.*",
            torchvision="features.{2n+2}.norm.*",
            huggingface="encoder.layers.{}.downsample.norm.*",
        ),
    ),
)
