"""From our names and shapes of a network to the arguments of the class that builds it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from framework.inspection.skeleton import unlike

Shapes = Mapping[str, tuple[int, ...]]

#: Channels of a transformer -> its attention heads, where they are not of 64 channels (ViT, table 1; Scaling
#: Vision Transformers, table 2: https://arxiv.org/abs/2010.11929, https://arxiv.org/abs/2106.04560).
USUAL_HEADS = {1280: 16, 1408: 16, 1664: 16}

#: Blocks of each stage, whether of three convolutions -> depth of the ResNet.
DEPTHS = {
    ((2, 2, 2, 2), False): 18,
    ((3, 4, 6, 3), False): 34,
    ((3, 4, 6, 3), True): 50,
    ((3, 4, 23, 3), True): 101,
    ((3, 8, 36, 3), True): 152,
}


@dataclass
class Guess:
    """What can be told of a network.

    Attributes:
        figures: Depth, width and the like, by name.
        arguments: `type` and arguments of the backbone that it fills; empty where no class here is like it.
        assumed: Names of the arguments that the file does not tell: their values are the usual ones.
        missing: Names that the class would miss, or find in another shape; then there are no arguments.
    """

    figures: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    assumed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def guess_arguments(family: str, shapes: Shapes, stored: Shapes) -> Guess:
    """Tell what can be told of a network.

    Args:
        family: Name of its table.
        shapes: Our name -> shape.
        stored: The file's names -> shape, of what our names do not tell.
    """
    guess = Guess()
    make = _FAMILIES.get(family)
    try:
        if make is not None:
            make(shapes, stored, guess)
            _check(shapes, guess)
    except (LookupError, ValueError, ZeroDivisionError):  # it lacks names or dimensions of its family
        guess.arguments, guess.assumed = {}, []
    if guess.figures and len(shapes.get("head.weight", ())) == 2:
        guess.figures["classes"] = shapes["head.weight"][0]
    return guess


def _check(shapes: Shapes, guess: Guess) -> None:
    """Take a guess back of which the file lacks layers, or has others."""
    if not guess.arguments:
        return
    guess.missing, mostly = unlike(guess.arguments, shapes)
    if guess.missing:
        guess.arguments, guess.assumed = {}, []
    if not mostly:
        guess.figures = {}


def _vision_transformer(shapes: Shapes, stored: Shapes, guess: Guess) -> None:
    patch, depth = shapes.get("patch_embed.proj.weight"), _count(shapes, r"blocks\.(\d+)\.")
    hidden = shapes.get("blocks.0.mlp.fc2.weight")
    if patch is None or hidden is None or not depth:
        return
    width, heads = patch[0], _stored_heads(stored)
    if "rope_embed.periods" in shapes:  # one for every four channels of a head
        heads = width // (4 * shapes["rope_embed.periods"][0])
    if heads is None:
        heads = _usual_heads(width)
        guess.assumed.append("num_heads")
    prefix = [name for name in ("cls_token", "dist_token", "reg_token") if name in shapes]
    distilled = "dist_token" in prefix
    guess.arguments = {
        "type": "DistilledVisionTransformer" if distilled else "VisionTransformer",
        **_transformer(guess, shapes, (width, depth, heads, hidden[1]), patch),
    }
    _positions(guess, shapes, sum(shapes[name][1] for name in prefix), patch)
    options = {
        "pre_norm": ("norm_pre.weight" in shapes, False),
        "qkv_bias": ("blocks.0.attn.qkv.bias" in shapes, True),
        "layer_scale_init_value": (1e-5 if "blocks.0.ls1.gamma" in shapes else 0.0, 0.0),
        "with_cls_token": ("cls_token" in shapes, True),
        "num_registers": (shapes.get("reg_token", (1, 0))[1], 0),
        "final_norm": ("norm.weight" in shapes, True),
    }
    guess.arguments.update({name: value for name, (value, usual) in options.items() if value != usual})
    if ("patch_embed.proj.bias" in shapes) == ("norm_pre.weight" in shapes):
        guess.arguments["patch_cfg"] = {"bias": "patch_embed.proj.bias" in shapes}
    if shapes["blocks.0.mlp.fc1.weight"][0] != hidden[1]:
        guess.arguments["layer_cfgs"] = {"ffn_type": "swiglu_fused"}
        guess.arguments["arch"]["feedforward_channels"] = -(-3 * hidden[1] // 2)  # of the ungated layer
    _output(guess, shapes, usual="cls_token")


def _beit(shapes: Shapes, stored: Shapes, guess: Guess) -> None:
    patch, depth = shapes.get("patch_embed.proj.weight"), _count(shapes, r"blocks\.(\d+)\.")
    hidden = shapes.get("blocks.0.mlp.fc2.weight")
    if patch is None or hidden is None or not depth:
        return
    shared = "rel_pos_bias.relative_position_bias_table"
    own = "blocks.0.attn.relative_position_bias_table"
    table = shapes.get(shared) or shapes.get(own)
    heads = table[1] if table else _usual_heads(patch[0])
    if table is None:
        guess.assumed.append("num_heads")
    sizes = (patch[0], depth, heads, hidden[1])
    guess.arguments = {"type": "BEiTViT", **_transformer(guess, shapes, sizes, patch)}
    if "pos_embed" in shapes:
        _positions(guess, shapes, int("cls_token" in shapes), patch)
        guess.arguments["use_abs_pos_emb"] = True
    elif table is not None:
        window = (math.isqrt(table[0] - 3) + 1) // 2
        _image_size(guess, (window * patch[2], window * patch[3]))
    bias = "qv_bias" if "blocks.0.attn.q_bias" in shapes else "blocks.0.attn.qkv.bias" in shapes
    options = {
        "bias": (bias, "qv_bias"),
        "use_rel_pos_bias": (own in shapes, True),
        "use_shared_rel_pos_bias": (shared in shapes, False),
        "layer_scale_init_value": (0.1 if "blocks.0.gamma_1" in shapes else 0.0, 0.1),
        "with_cls_token": ("cls_token" in shapes, True),
        "final_norm": ("norm.weight" in shapes, False),
    }
    guess.arguments.update({name: value for name, (value, usual) in options.items() if value != usual})
    _output(guess, shapes, usual="avg_featmap")


def _transformer(
    guess: Guess, shapes: Shapes, sizes: tuple[int, int, int, int], patch: tuple[int, ...]
) -> dict[str, Any]:
    """Note the figures of a transformer, and return the arguments for them."""
    width, depth, heads, hidden = sizes
    side: Any = patch[2] if patch[2] == patch[3] else tuple(patch[2:])
    guess.figures.update(depth=depth, width=width, heads=heads, patch_size=side)
    arch = dict(embed_dims=width, num_layers=depth, num_heads=heads, feedforward_channels=hidden)
    arguments = {"arch": arch, "patch_size": side}
    return {**arguments, "in_channels": patch[1]} if patch[1] != 3 else arguments


def _positions(guess: Guess, shapes: Shapes, prefix: int, patch: tuple[int, ...]) -> None:
    """Tell the image size from the positional embedding, and whether tokens before patches have places."""
    if "pos_embed" not in shapes:
        guess.arguments["rope"] = {}
        guess.assumed.append("rope")
        return
    tokens = shapes["pos_embed"][1]
    classes = int("cls_token" in shapes)
    for before in dict.fromkeys((prefix, classes, 0)):
        side = math.isqrt(max(tokens - before, 0))
        if side and side * side == tokens - before:
            _image_size(guess, (side * patch[2], side * patch[3]))
            if prefix and not before:
                guess.arguments["no_embed_class"] = True
            return
    guess.assumed.append("img_size")


def _image_size(guess: Guess, size: tuple[int, int]) -> None:
    """Note the size in pixels; of a square, one side."""
    said: Any = size[0] if size[0] == size[1] else size
    guess.figures["image_size"] = said
    guess.arguments["img_size"] = said


def _output(guess: Guess, shapes: Shapes, usual: str) -> None:
    """Choose the feature for which the network has the norms that the file has."""
    out_type = "cls_token" if "cls_token" in shapes else "featmap"
    if "fc_norm.weight" in shapes:
        out_type = "avg_featmap"
    if out_type != usual:
        guess.arguments["out_type"] = out_type


def _stored_heads(stored: Shapes) -> int | None:
    """Tell the number of heads where a scheme has an axis for it: (..., heads, channels of a head)."""
    kernels = (s for name, s in stored.items() if re.search(r"query[./]kernel$", name) and len(s) > 2)
    shape = next(kernels, None)
    return None if shape is None else shape[-2]


def _usual_heads(width: int) -> int:
    if width in USUAL_HEADS:
        return USUAL_HEADS[width]
    return width // 64 if width % 64 == 0 else 1


def _resnet(shapes: Shapes, stored: Shapes, guess: Guess) -> None:
    blocks = tuple(_count(shapes, rf"layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4))
    bottleneck = "layer1.0.conv3.weight" in shapes
    blocks = blocks[: blocks.index(0)] if 0 in blocks else blocks
    stem = shapes.get("conv1.weight") or shapes.get("conv1.0.weight")
    if not blocks or stem is None or "bn1.weight" not in shapes:
        return
    depth = next(
        (d for (b, three), d in DEPTHS.items() if b[: len(blocks)] == blocks and three == bottleneck), 0
    )
    guess.figures.update(blocks=blocks, block="bottleneck" if bottleneck else "basic")
    guess.figures["width"] = shapes[f"layer{len(blocks)}.0.conv{3 if bottleneck else 2}.weight"][0]
    gap = any(name.startswith(f"layer{stage}.") for name in shapes for stage in range(len(blocks) + 1, 5))
    if not depth or gap:
        return
    guess.figures = {"depth": depth, **guess.figures}
    first = shapes[f"layer1.0.conv{3 if bottleneck else 2}.weight"][0]
    base = first // 4 if bottleneck else first
    down = shapes.get("layer2.0.downsample.1.weight", ())
    squeeze = shapes.get(f"layer{len(blocks)}.0.se.fc1.weight")
    options = {
        "in_channels": (stem[1], 3),
        "stem_channels": (shapes["bn1.weight"][0], 64),
        "base_channels": (base, 64),
        **_stage_options(len(blocks)),
        "deep_stem": ("conv1.0.weight" in shapes, False),
        "avg_down": (len(down) == 4, False),
        "se_ratio": (squeeze[1] // squeeze[0] if squeeze else None, None),
        **(_groups(shapes, base) if bottleneck else {}),
    }
    guess.arguments = {"type": "ResNet", "depth": depth}
    guess.arguments.update({name: value for name, (value, usual) in options.items() if value != usual})
    if "bn1.running_mean" not in shapes:
        guess.arguments["norm_cfg"] = {"type": "GN", "num_groups": 32}
        guess.assumed.append("norm_cfg")


def _stage_options(count: int) -> dict[str, tuple[Any, Any]]:
    """Return the arguments that have one entry for each stage."""
    if count == 4:
        return {}
    options = {"num_stages": count, "strides": (1, 2, 2, 2)[:count], "dilations": (1,) * count}
    return {name: (value, None) for name, value in {**options, "out_indices": (count - 1,)}.items()}


def _groups(shapes: Shapes, base: int) -> dict[str, tuple[Any, Any]]:
    """Tell the groups of the 3x3 convolutions: ResNeXt's, or the wider ones of Wide ResNet."""
    out, inside = shapes["layer1.0.conv2.weight"][:2]
    groups = out // inside
    usual = groups == 1 and out == base
    return {"groups": (groups, 1), "width_per_group": (None if usual else out // groups, None)}


def _convnext(shapes: Shapes, stored: Shapes, guess: Guess) -> None:
    stem, stages = shapes.get("stem.0.weight"), _count(shapes, r"stages\.(\d+)\.")
    names = [f"stages.{stage}.blocks.0.conv_dw.weight" for stage in range(stages)]
    if stem is None or not stages or not all(name in shapes for name in names):
        return
    depths = tuple(_count(shapes, rf"stages\.{stage}\.blocks\.(\d+)\.") for stage in range(stages))
    channels = tuple(shapes[name][0] for name in names)
    guess.figures.update(depths=depths, widths=channels, patch_size=stem[2])
    options = {
        "in_channels": (stem[1], 3),
        "stem_patch_size": (stem[2], 4),
        "use_grn": ("stages.0.blocks.0.mlp.grn.weight" in shapes, False),
        "layer_scale_init_value": (1e-6 if "stages.0.blocks.0.gamma" in shapes else 0.0, 1e-6),
    }
    guess.arguments = {"type": "ConvNeXt", "arch": {"depths": depths, "channels": channels}}
    guess.arguments.update({name: value for name, (value, usual) in options.items() if value != usual})


def _swin(shapes: Shapes, stored: Shapes, guess: Guess) -> None:
    tables = [f"layers.{i}.blocks.0.attn.relative_position_bias_table" for i in range(_stages(shapes))]
    if not tables or not all(name in shapes for name in tables):
        return
    windows = tuple((math.isqrt(shapes[name][0]) + 1) // 2 for name in tables)
    heads = tuple(shapes[name][1] for name in tables)
    _swin_arguments("SwinTransformer", shapes, (heads, windows), guess)


def _swin_v2(shapes: Shapes, stored: Shapes, guess: Guess) -> None:
    scales = [f"layers.{i}.blocks.0.attn.logit_scale" for i in range(_stages(shapes))]
    if not scales or not all(name in shapes for name in scales):
        return
    heads = tuple(shapes[name][0] for name in scales)
    found = [shape for name, shape in stored.items() if name.endswith("relative_position_index")]
    sides = [math.isqrt(math.isqrt(math.prod(shape))) for shape in found]
    windows = (max(sides, default=8),) * len(heads)
    if not sides:
        guess.assumed.append("window_size")
    _swin_arguments("SwinTransformerV2", shapes, (heads, windows), guess)
    norms = [int(m[1]) for m in (re.match(r"layers\.2\.blocks\.(\d+)\.norm3\.", n) for n in shapes) if m]
    if guess.arguments:
        guess.arguments["arch"]["extra_norm_every_n_blocks"] = min(norms) + 1 if norms else 0


def _swin_arguments(
    name: str, shapes: Shapes, attention: tuple[tuple[int, ...], tuple[int, ...]], guess: Guess
) -> None:
    patch = shapes.get("patch_embed.proj.weight")
    if patch is None:
        return
    heads, windows = attention
    depths = tuple(_count(shapes, rf"layers\.{i}\.blocks\.(\d+)\.") for i in range(len(heads)))
    window: Any = windows[0] if len(set(windows)) == 1 else windows
    guess.figures.update(depths=depths, width=patch[0], heads=heads, patch_size=patch[2], window_size=window)
    arch = {"embed_dims": patch[0], "depths": depths, "num_heads": heads}
    guess.arguments = {"type": name, "arch": arch, "window_size": window}
    options = {
        "patch_size": (patch[2], 4),
        "in_channels": (patch[1], 3),
        "out_indices": ((len(depths) - 1,), (3,)),
    }
    guess.arguments.update({key: value for key, (value, usual) in options.items() if value != usual})
    if "norm.weight" not in shapes:
        guess.arguments["norm_cfg"] = None
    if "patch_embed.norm.weight" not in shapes:
        guess.arguments["patch_cfg"] = {"norm_cfg": None}
    if "absolute_pos_embed" in shapes:
        side = math.isqrt(shapes["absolute_pos_embed"][1]) * patch[2]
        guess.arguments["use_abs_pos_embed"] = True
        _image_size(guess, (side, side))


def _stages(shapes: Shapes) -> int:
    return _count(shapes, r"layers\.(\d+)\.")


def _count(shapes: Shapes, pattern: str) -> int:
    """Return one more than the largest number that a pattern finds at the start of a name."""
    compiled = re.compile(pattern)
    return max((int(m[1]) + 1 for m in map(compiled.match, shapes) if m), default=0)


_FAMILIES: Mapping[str, Callable[[Shapes, Shapes, Guess], None]] = {
    "vision_transformer": _vision_transformer,
    "beit": _beit,
    "resnet": _resnet,
    "resnet_d": _resnet,
    "convnext": _convnext,
    "swin_transformer": _swin,
    "swin_transformer_v2": _swin_v2,
}
