"""What masked image modelling adds to a backbone: mask tokens, and decoders beside it.

Our models keep the decoder in `neck`, beside `backbone`; the names here are whole, so that they are found
beside whatever prefix the backbone has. Masked Autoencoders (He et al., https://arxiv.org/abs/2111.06377),
SimMIM (Xie et al., https://arxiv.org/abs/2111.09886).
"""

from framework.pretrain.dialect import Column, Row, merge, row

#: Columns for files of a whole masked autoencoder, in the table of Vision Transformers.
COLUMNS = {
    "mae": Column(
        producers="official MAE with the decoder",
        source="facebookresearch/mae@efb2a80 models_mae.py",
        base="timm",
        changes=(("neck.", ""),),
        tested="timm 1.0.31, renamed",
    ),
}

_SAVED = "decoder.decoder_layers.{}.attention.attention"
_RUNNING = "decoder.decoder_layers.{}.attention"


def _attention(leaf: str) -> Row:
    return row(
        f"neck.decoder_blocks.{{}}.attn.qkv.{leaf}",
        mmpretrain=f"neck.decoder_blocks.{{}}.attn.qkv.{leaf}",
        huggingface=merge(*(f"{_SAVED}.{part}.{leaf}" for part in ("query", "key", "value"))),
        huggingface_v5=merge(*(f"{_RUNNING}.{part}_proj.{leaf}" for part in "qkv")),
    )


MAE_ROWS = (
    row(
        "neck.mask_token",
        mmpretrain="neck.mask_token",
        huggingface="decoder.mask_token",
        huggingface_v5="decoder.mask_token",
    ),
    row(
        "neck.decoder_pos_embed",
        mmpretrain="neck.decoder_pos_embed",
        huggingface="decoder.decoder_pos_embed",
        huggingface_v5="decoder.decoder_pos_embed",
    ),
    row(
        "neck.decoder_embed.*",
        mmpretrain="neck.decoder_embed.*",
        huggingface="decoder.decoder_embed.*",
        huggingface_v5="decoder.decoder_embed.*",
    ),
    row(
        "neck.decoder_blocks.{}.norm1.*",
        mmpretrain="neck.decoder_blocks.{}.ln1.*",
        huggingface="decoder.decoder_layers.{}.layernorm_before.*",
        huggingface_v5="decoder.decoder_layers.{}.layernorm_before.*",
    ),
    _attention("weight"),
    _attention("bias"),
    row(
        "neck.decoder_blocks.{}.attn.proj.*",
        mmpretrain="neck.decoder_blocks.{}.attn.proj.*",
        huggingface="decoder.decoder_layers.{}.attention.output.dense.*",
        huggingface_v5="decoder.decoder_layers.{}.attention.o_proj.*",
    ),
    row(
        "neck.decoder_blocks.{}.norm2.*",
        mmpretrain="neck.decoder_blocks.{}.ln2.*",
        huggingface="decoder.decoder_layers.{}.layernorm_after.*",
        huggingface_v5="decoder.decoder_layers.{}.layernorm_after.*",
    ),
    row(
        "neck.decoder_blocks.{}.mlp.fc1.*",
        mmpretrain="neck.decoder_blocks.{}.ffn.layers.0.0.*",
        huggingface="decoder.decoder_layers.{}.intermediate.dense.*",
        huggingface_v5="decoder.decoder_layers.{}.mlp.fc1.*",
    ),
    row(
        "neck.decoder_blocks.{}.mlp.fc2.*",
        mmpretrain="neck.decoder_blocks.{}.ffn.layers.1.*",
        huggingface="decoder.decoder_layers.{}.output.dense.*",
        huggingface_v5="decoder.decoder_layers.{}.mlp.fc2.*",
    ),
    row(
        "neck.decoder_norm.*",
        mmpretrain="neck.ln1.*",
        huggingface="decoder.decoder_norm.*",
        huggingface_v5="decoder.decoder_norm.*",
    ),
    row(
        "neck.decoder_pred.*",
        mmpretrain="neck.decoder_pred.*",
        huggingface="decoder.decoder_pred.*",
        huggingface_v5="decoder.decoder_pred.*",
    ),
)

#: SimMIM on any backbone: `mask_token` is in the backbone, the linear decoder beside it.
SIMMIM_VIT_ROWS = (
    row(
        "mask_token",
        mae=None,
        mmpretrain="mask_token",
        huggingface="embeddings.mask_token",
        huggingface_v5="embeddings.mask_token",
    ),
    row(
        "neck.decoder.0.*",
        mae=None,
        mmpretrain="neck.decoder.0.*",
        huggingface="decoder.0.*",
        huggingface_v5="decoder.0.*",
    ),
)
SIMMIM_SWIN_ROWS = (
    row("mask_token", mmpretrain="mask_token", huggingface="embeddings.mask_token"),
    row(
        "neck.decoder.0.*",
        official="decoder.0.*",
        mmpretrain="neck.decoder.0.*",
        huggingface="decoder.0.*",
    ),
)

#: The same for the Vision Transformers of the official code, which are BEiT's.
BEIT_COLUMNS = {
    "simmim": Column(
        producers="official SimMIM with the decoder",
        source="microsoft/SimMIM@d3e29bc models/vision_transformer.py, models/simmim.py",
        base="timm",
        changes=(("neck.", ""),),
        tested="timm 1.0.31, renamed",
    ),
}
SIMMIM_BEIT_ROWS = (row("neck.decoder.0.*", mmpretrain="neck.decoder.0.*"),)
