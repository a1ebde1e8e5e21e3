"""ConvNeXt (Liu et al., 2022, https://arxiv.org/abs/2201.03545) and V2 (https://arxiv.org/abs/2301.00808)."""

from framework.pretrain.dialect import Column, Table, row, view

_FLAT = "1 1 1 d -> d"

COLUMNS = {
    "timm": Column(
        producers="timm; framework",
        source="timm 1.0.31, models/convnext.py",
        head="head.fc.*",
        tested="timm 1.0.31",
    ),
    "timm_norm_first": Column(
        producers="timm, where the norm comes before pooling (CLIP towers)",
        source="timm 1.0.31, models/convnext.py, head_norm_first",
        base="timm",
        changes=(("head.norm.", "norm_pre."),),
        head="head.fc.*",
        tested="timm 1.0.31",
    ),
    "official": Column(
        producers="official ConvNeXt and ConvNeXt V2, DINOv3, SparK",
        source="facebookresearch/ConvNeXt-V2@2553895 models/convnextv2.py; facebookresearch/ConvNeXt",
        head="head.*",
        tested="timm 1.0.31, renamed",
    ),
    "fcmae": Column(
        producers="official ConvNeXt V2, sparse pretraining",
        source="facebookresearch/ConvNeXt-V2@2553895 models/convnextv2_sparse.py, utils.py",
        base="official",
        prefix="encoder.",
        tested="timm 1.0.31, rearranged",
    ),
    "mmpretrain": Column(
        producers="mmpretrain, mmdetection, mmsegmentation",
        source="mmpretrain 1.2.0, models/backbones/convnext.py",
        prefix="backbone.",
        head="^head.fc.*",
        tested="timm 1.0.31, renamed",
    ),
    "torchvision": Column(
        producers="torchvision",
        source="torchvision 0.29, models/convnext.py",
        head="classifier.2.*",
        tested="torchvision 0.29.2",
    ),
    "huggingface": Column(
        producers="transformers: ConvNeXt, ConvNeXt V2",
        source="transformers 5.23.0, models/convnext, models/convnextv2",
        prefix="convnext.",
        head="^classifier.*",
        tested="transformers 5.23.0",
    ),
    "huggingface_v2": Column(
        producers="transformers: ConvNeXt V2, prefix convnextv2",
        source="transformers 5.23.0, models/convnextv2",
        base="huggingface",
        prefix="convnextv2.",
        head="^classifier.*",
        tested="transformers 5.23.0",
    ),
}

_BLOCK = "stages.{}.{}"
_SPARSE_DEPTHWISE = "(s t) d -> d 1 t s"
_SPARSE_DENSE = "(s t) i o -> o i t s"

TABLE = Table(
    name="convnext",
    title="ConvNeXt",
    columns=COLUMNS,
    rows=(
        row(
            "stem.0.*",
            kind="patch_embed",
            official="downsample_layers.0.0.*",
            mmpretrain="downsample_layers.0.0.*",
            torchvision="features.0.0.*",
            huggingface="embeddings.patch_embeddings.*",
        ),
        row(
            "stem.1.*",
            official="downsample_layers.0.1.*",
            mmpretrain="downsample_layers.0.1.*",
            torchvision="features.0.1.*",
            huggingface="embeddings.layernorm.*",
        ),
        row(
            "stages.{}.downsample.0.*",
            official="downsample_layers.{}.0.*",
            fcmae="downsample_layers.{}.0.ln.*",
            mmpretrain="downsample_layers.{}.0.*",
            torchvision="features.{2n}.0.*",
            huggingface="encoder.stages.{}.downsampling_layer.0.*",
        ),
        row(
            "stages.{}.downsample.1.*",
            official="downsample_layers.{}.1.*",
            fcmae={
                "weight": view("downsample_layers.{}.1.kernel", _SPARSE_DENSE),
                "bias": view("downsample_layers.{}.1.bias", "1 d -> d"),
            },
            mmpretrain="downsample_layers.{}.1.*",
            torchvision="features.{2n}.1.*",
            huggingface="encoder.stages.{}.downsampling_layer.1.*",
        ),
        row(
            "stages.{}.blocks.{}.conv_dw.*",
            official="stages.{}.{}.dwconv.*",
            fcmae={
                "weight": view(f"{_BLOCK}.dwconv.kernel", _SPARSE_DEPTHWISE),
                "bias": view(f"{_BLOCK}.dwconv.bias", "1 d -> d"),
            },
            mmpretrain="stages.{}.{}.depthwise_conv.*",
            torchvision="features.{2n+1}.{}.block.0.*",
            huggingface="encoder.stages.{}.layers.{}.dwconv.*",
        ),
        row(
            "stages.{}.blocks.{}.norm.*",
            official="stages.{}.{}.norm.*",
            fcmae="stages.{}.{}.norm.ln.*",
            mmpretrain="stages.{}.{}.norm.*",
            torchvision="features.{2n+1}.{}.block.2.*",
            huggingface="encoder.stages.{}.layers.{}.layernorm.*",
        ),
        row(
            "stages.{}.blocks.{}.mlp.fc1.*",
            official="stages.{}.{}.pwconv1.*",
            fcmae="stages.{}.{}.pwconv1.linear.*",
            mmpretrain="stages.{}.{}.pointwise_conv1.*",
            torchvision="features.{2n+1}.{}.block.3.*",
            huggingface="encoder.stages.{}.layers.{}.pwconv1.*",
        ),
        row(
            "stages.{}.blocks.{}.mlp.grn.weight",
            official=view(f"{_BLOCK}.grn.gamma", _FLAT),
            fcmae=view(f"{_BLOCK}.grn.gamma", "1 d -> d"),
            mmpretrain=f"{_BLOCK}.grn.gamma",
            huggingface=view("encoder.stages.{}.layers.{}.grn.weight", _FLAT),
        ),
        row(
            "stages.{}.blocks.{}.mlp.grn.bias",
            official=view(f"{_BLOCK}.grn.beta", _FLAT),
            fcmae=view(f"{_BLOCK}.grn.beta", "1 d -> d"),
            mmpretrain=f"{_BLOCK}.grn.beta",
            huggingface=view("encoder.stages.{}.layers.{}.grn.bias", _FLAT),
        ),
        row(
            "stages.{}.blocks.{}.mlp.fc2.*",
            official="stages.{}.{}.pwconv2.*",
            fcmae="stages.{}.{}.pwconv2.linear.*",
            mmpretrain="stages.{}.{}.pointwise_conv2.*",
            torchvision="features.{2n+1}.{}.block.5.*",
            huggingface="encoder.stages.{}.layers.{}.pwconv2.*",
        ),
        row(
            "stages.{}.blocks.{}.gamma",
            official="stages.{}.{}.gamma",
            mmpretrain="stages.{}.{}.gamma",
            torchvision=view("features.{2n+1}.{}.layer_scale", "d 1 1 -> d"),
            huggingface="encoder.stages.{}.layers.{}.layer_scale_parameter",
        ),
        row(
            "head.norm.*",
            official="norm.*",
            mmpretrain="norm3.*",
            torchvision="classifier.0.*",
            huggingface="layernorm.*",
        ),
        row("norm{}.*", official="norm{}.*", mmpretrain="norm{}.*"),
    ),
)
