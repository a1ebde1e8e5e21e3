"""ResNet (He et al., 2016, https://arxiv.org/abs/1512.03385), its deep stems and its averaging shortcuts."""

from framework.pretrain.dialect import Column, Table, row

COLUMNS = {
    "timm": Column(
        producers="torchvision, timm, framework; MoCo, SimSiam, SwAV, DINO, Barlow Twins, VICReg, SparK "
        "and VISSL",
        source="torchvision 0.29, models/resnet.py; timm 1.0.31, models/resnet.py (deep stem, SE)",
        head="fc.*",
        tested="torchvision 0.29.2, timm 1.0.31",
    ),
    "mmpretrain": Column(
        producers="mmpretrain, mmdetection, mmsegmentation: ResNet, ResNeXt",
        source="mmpretrain 1.2.0, models/backbones/resnet.py, seresnet.py",
        base="timm",
        changes=(
            (".se.fc1.", ".se_layer.conv1.conv."),
            (".se.fc2.", ".se_layer.conv2.conv."),
        ),
        prefix="backbone.",
        head="^head.fc.*",
        tested="timm 1.0.31, renamed",
    ),
    "mmpretrain_deep": Column(
        producers="mmpretrain, mmdetection, mmsegmentation: ResNetV1c, deep stem",
        source="mmpretrain 1.2.0, models/backbones/resnet.py, _make_stem_layer",
        base="mmpretrain",
        prefix="backbone.",
        head="^head.fc.*",
        tested="timm 1.0.31, renamed",
    ),
    "huggingface": Column(
        producers="transformers: ResNet",
        source="transformers 5.23.0, models/resnet/modeling_resnet.py",
        prefix="resnet.",
        head="^classifier.1.*",
        tested="transformers 5.23.0",
    ),
    "detectron2": Column(
        producers="detectron2 (.pkl and .pth)",
        source="facebookresearch/detectron2@02b5c4e2 modeling/backbone/resnet.py",
        prefix="backbone.bottom_up.",
        head="linear.*",
        tested="torchvision 0.29.2, renamed",
    ),
    "caffe2": Column(
        producers="Caffe2: Detectron, MSRA (`R-50.pkl`)",
        source="facebookresearch/detectron2@02b5c4e2 checkpoint/c2_model_loading.py",
        head={"weight": "fc1000_w", "bias": "fc1000_b"},
        tested="torchvision 0.29.2, renamed",
    ),
    "sequential": Column(
        producers="nn.Sequential of a ResNet's children, as in lightly's examples",
        source="lightly-ai/lightly@e8d317fc examples; torchvision 0.29, models/resnet.py",
        tested="torchvision 0.29.2, renamed",
    ),
}


def _caffe2(name: str) -> dict[str, str]:
    """Write the leaves of a normalisation layer as Caffe2 does: scale, bias, running mean and variance."""
    leaves = {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"}
    return {leaf: f"{name}_{short}" for leaf, short in leaves.items()}


def _stem() -> tuple:
    return tuple(row(f"conv1.{i}.*", mmpretrain=None, mmpretrain_deep=f"stem.{i}.*") for i in (0, 1, 3, 4, 6))


def _block(number: int) -> tuple:
    return (
        row(
            f"layer{{}}.{{}}.conv{number}.*",
            huggingface=f"encoder.stages.{{-1}}.layers.{{}}.layer.{number - 1}.convolution.*",
            detectron2=f"res{{+1}}.{{}}.conv{number}.*",
            caffe2={"weight": f"res{{+1}}_{{}}_branch2{'abc'[number - 1]}_w"},
            sequential=f"{{+3}}.{{}}.conv{number}.*",
        ),
        row(
            f"layer{{}}.{{}}.bn{number}.*",
            huggingface=f"encoder.stages.{{-1}}.layers.{{}}.layer.{number - 1}.normalization.*",
            detectron2=f"res{{+1}}.{{}}.conv{number}.norm.*",
            caffe2=_caffe2(f"res{{+1}}_{{}}_branch2{'abc'[number - 1]}_bn"),
            sequential=f"{{+3}}.{{}}.bn{number}.*",
        ),
    )


_SQUEEZE = (row("layer{}.{}.se.fc1.*"), row("layer{}.{}.se.fc2.*"))

TABLE = Table(
    name="resnet",
    title="ResNet",
    columns=COLUMNS,
    rows=(
        *_stem(),
        row(
            "conv1.*",
            huggingface="embedder.embedder.convolution.*",
            detectron2="stem.conv1.*",
            caffe2={"weight": "conv1_w"},
            sequential="0.*",
        ),
        row(
            "bn1.*",
            mmpretrain_deep="stem.7.*",
            huggingface="embedder.embedder.normalization.*",
            detectron2="stem.conv1.norm.*",
            caffe2=_caffe2("res_conv1_bn"),
            sequential="1.*",
        ),
        *_block(1),
        *_block(2),
        *_block(3),
        *_SQUEEZE,
        row(
            "layer{}.{}.downsample.0.*",
            huggingface="encoder.stages.{-1}.layers.{}.shortcut.convolution.*",
            detectron2="res{+1}.{}.shortcut.*",
            caffe2={"weight": "res{+1}_{}_branch1_w"},
            sequential="{+3}.{}.downsample.0.*",
        ),
        row(
            "layer{}.{}.downsample.1.*",
            huggingface="encoder.stages.{-1}.layers.{}.shortcut.normalization.*",
            detectron2="res{+1}.{}.shortcut.norm.*",
            caffe2=_caffe2("res{+1}_{}_branch1_bn"),
            sequential="{+3}.{}.downsample.1.*",
        ),
    ),
)

#: ResNet-D's shortcut has a pooling layer before its convolution. mmpretrain leaves it out where there is
#: nothing to pool, in the first stage, and so counts from 0 there.
TABLE_D = Table(
    name="resnet_d",
    title="ResNet-D",
    columns={
        "timm": Column(
            producers="timm: resnet50d and its kin; framework",
            source="timm 1.0.31, models/resnet.py, downsample_avg",
            head="fc.*",
            tested="timm 1.0.31",
        ),
        "mmpretrain": Column(
            producers="mmpretrain, mmdetection, mmsegmentation: ResNetV1d",
            source="mmpretrain 1.2.0, models/backbones/resnet.py, ResLayer",
            base="timm",
            changes=COLUMNS["mmpretrain"].changes,
            prefix="backbone.",
            head="^head.fc.*",
            tested="timm 1.0.31, renamed",
        ),
    },
    rows=(
        *(row(f"conv1.{i}.*", mmpretrain=f"stem.{i}.*") for i in (0, 1, 3, 4, 6)),
        row("conv1.*", mmpretrain=None),
        row("bn1.*", mmpretrain="stem.7.*"),
        *(row(f"layer{{}}.{{}}.{kind}{i}.*") for kind in ("conv", "bn") for i in (1, 2, 3)),
        *_SQUEEZE,
        row("layer1.{}.downsample.1.*", mmpretrain="layer1.{}.downsample.0.*"),
        row("layer1.{}.downsample.2.*", mmpretrain="layer1.{}.downsample.1.*"),
        row("layer{}.{}.downsample.1.*"),
        row("layer{}.{}.downsample.2.*"),
    ),
)
