"""What a class must find in a file: the tensors of its layers by our names, as its arguments say.

Many architectures name their layers like one of the families here and compute something else. A guess whose
layers are not all there, in these shapes, is a guess at another network. The layers are written down here
and not taken from the classes, because `inspect` imports no torch; the tests compare them with the classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import Any

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

#: A guess of which less than this share of the elements is there is no network of the family at all.
HALF = 0.5


def unlike(arguments: Mapping[str, Any], shapes: Shapes) -> tuple[list[str], bool]:
    """Tell what a class would miss.

    Args:
        arguments: `type` and arguments of a backbone.
        shapes: Our name -> shape, of what the file has.

    Returns:
        Names of layers that are not there or have another shape, and whether most of the network is.
    """
    wanted = dict(_LAYERS[arguments["type"]](arguments, shapes))
    missing = [name for name, shape in wanted.items() if _squeezed(shapes.get(name)) != _squeezed(shape)]
    lost = sum(prod(wanted[name]) for name in missing)
    wider = any(name in shapes and name.endswith(".norm1.weight") for name in missing)  # as stages are
    return missing, not wider and lost < HALF * sum(prod(shape) for shape in wanted.values())


def _squeezed(shape: Shape | None) -> Shape | None:
    """Return the shape of a linear layer for a convolution of one pixel: one fills the other."""
    return shape[:2] if shape is not None and len(shape) == 4 and shape[2:] == (1, 1) else shape


def _transformer(arguments: Mapping[str, Any], shapes: Shapes) -> Iterator[tuple[str, Shape]]:
    arch, patch = arguments["arch"], arguments["patch_size"]
    width, hidden = arch["embed_dims"], shapes["blocks.0.mlp.fc2.weight"][1]
    gated = arguments.get("layer_cfgs", {}).get("ffn_type") == "swiglu_fused"
    sides = (patch, patch) if isinstance(patch, int) else patch
    yield "patch_embed.proj.weight", (width, arguments.get("in_channels", 3), *sides[:2])
    yield from _if_there(shapes, {"cls_token": (1, 1, width), "norm.weight": (width,)})
    if "pos_embed" in shapes:
        yield "pos_embed", (1, shapes["pos_embed"][1], width)
    extra = [name for name in shapes if name.startswith("blocks.0.")]
    for block in range(arch["num_layers"]):
        for name in extra:  # layer scales, biases, tables: in every layer, or in none
            yield f"blocks.{block}.{name.removeprefix('blocks.0.')}", shapes[name]
        yield from _block(f"blocks.{block}", width, hidden, gated)


def _if_there(shapes: Shapes, wanted: Shapes) -> Iterator[tuple[str, Shape]]:
    yield from ((name, shape) for name, shape in wanted.items() if name in shapes)


def _block(name: str, width: int, hidden: int, gated: bool = False) -> Iterator[tuple[str, Shape]]:
    """Yield the layers of a transformer's block: two norms, attention, and two layers of features."""
    inner = 2 * hidden if gated else hidden
    for norm in ("norm1", "norm2"):
        yield from _with_bias(f"{name}.{norm}", (width,))
    yield f"{name}.attn.qkv.weight", (3 * width, width)
    yield from _with_bias(f"{name}.attn.proj", (width, width))
    yield from _with_bias(f"{name}.mlp.fc1", (inner, width))
    yield from _with_bias(f"{name}.mlp.fc2", (width, hidden))


def _with_bias(name: str, shape: Shape) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def _resnet(arguments: Mapping[str, Any], shapes: Shapes) -> Iterator[tuple[str, Shape]]:
    three, stem = arguments["depth"] >= 50, arguments.get("stem_channels", 64)
    image = arguments.get("in_channels", 3)
    if arguments.get("deep_stem"):
        convolutions = {0: (stem // 2, image), 3: (stem // 2, stem // 2), 6: (stem, stem // 2)}
        yield from ((f"conv1.{at}.weight", (*io, 3, 3)) for at, io in convolutions.items())
    else:
        yield "conv1.weight", (stem, image, 7, 7)
    channels, inputs = arguments.get("base_channels", 64), stem
    inside = shapes["layer1.0.conv1.weight"][0]
    for stage in range(1, arguments.get("num_stages", 4) + 1):
        for block in range(_count(shapes, f"layer{stage}.")):
            name = f"layer{stage}.{block}"
            if three:
                yield from _bottleneck(name, (inputs, inside, 4 * channels), arguments.get("groups", 1))
            else:
                yield from _convolution(name, 1, (channels, inputs, 3, 3))
                yield from _convolution(name, 2, (channels, channels, 3, 3))
            inputs = 4 * channels if three else channels
        channels, inside = 2 * channels, 2 * inside


def _bottleneck(name: str, channels: tuple[int, int, int], groups: int) -> Iterator[tuple[str, Shape]]:
    inputs, inside, outputs = channels
    yield from _convolution(name, 1, (inside, inputs, 1, 1))
    yield from _convolution(name, 2, (inside, inside // groups, 3, 3))
    yield from _convolution(name, 3, (outputs, inside, 1, 1))


def _convolution(block: str, number: int, shape: Shape) -> Iterator[tuple[str, Shape]]:
    """Yield a convolution and its norm."""
    yield f"{block}.conv{number}.weight", shape
    yield from _with_bias(f"{block}.bn{number}", shape[:1])


def _count(shapes: Shapes, prefix: str) -> int:
    """Return how many children with a number a prefix has."""
    numbers = (name[len(prefix) :].partition(".")[0] for name in shapes if name.startswith(prefix))
    return max((int(number) + 1 for number in numbers if number.isdigit()), default=0)


def _convnext(arguments: Mapping[str, Any], shapes: Shapes) -> Iterator[tuple[str, Shape]]:
    arch, patch = arguments["arch"], arguments.get("stem_patch_size", 4)
    channels = arch["channels"]
    yield from _with_bias("stem.0", (channels[0], arguments.get("in_channels", 3), patch, patch))
    yield from _with_bias("stem.1", (channels[0],))
    for stage, (depth, width) in enumerate(zip(arch["depths"], channels, strict=True)):
        if stage:
            yield from _with_bias(f"stages.{stage}.downsample.1", (width, channels[stage - 1], 2, 2))
        for block in range(depth):
            name = f"stages.{stage}.blocks.{block}"
            yield from _with_bias(f"{name}.conv_dw", (width, 1, 7, 7))
            yield from _with_bias(f"{name}.norm", (width,))
            yield from _with_bias(f"{name}.mlp.fc1", (4 * width, width))
            yield from _with_bias(f"{name}.mlp.fc2", (width, 4 * width))


def _swin(arguments: Mapping[str, Any], shapes: Shapes) -> Iterator[tuple[str, Shape]]:
    arch, patch = arguments["arch"], arguments.get("patch_size", 4)
    width, first = arch["embed_dims"], arguments["type"] == "SwinTransformer"
    yield "patch_embed.proj.weight", (width, arguments.get("in_channels", 3), patch, patch)
    for stage, (depth, heads) in enumerate(zip(arch["depths"], arch["num_heads"], strict=True)):
        if stage:
            yield f"layers.{stage}.downsample.reduction.weight", (2 * width, 4 * width)
            width *= 2
        for block in range(depth):
            name = f"layers.{stage}.blocks.{block}"
            yield from _block(name, width, 4 * width)
            table = f"{name}.attn.relative_position_bias_table"
            if not first:
                yield f"{name}.attn.logit_scale", (heads, 1, 1)
            elif table in shapes:
                yield table, (shapes[table][0], heads)


_LAYERS: Mapping[str, Callable[[Mapping[str, Any], Shapes], Iterator[tuple[str, Shape]]]] = {
    "VisionTransformer": _transformer,
    "DistilledVisionTransformer": _transformer,
    "BEiTViT": _transformer,
    "ResNet": _resnet,
    "ConvNeXt": _convnext,
    "SwinTransformer": _swin,
    "SwinTransformerV2": _swin,
}
