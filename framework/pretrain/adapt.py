"""A tensor -> the same parameter in another shape.

`decide` looks at shapes alone and says what would be done; `apply` does it to the values. Nothing here knows
a key name or a module. Every change of size is a small matrix per axis, so one helper serves them all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from framework.pretrain.errors import SpecError

MODES = ("bicubic", "bilinear", "nearest", "nearest-exact", "area")
"""Ways to interpolate, named as torch names them; `rel_pos_bias` knows 'geometric' too."""

_USUAL_PREFIXES = (0, 1, 2, 5)  # none, class, class + distillation, class + four registers
_CLASS_ROWS = 3  # BEiT: class to token, token to class, class to class


@dataclass(frozen=True)
class TokenLayout:
    """How the rows of a table of positions are laid out.

    Attributes:
        grid: Rows and columns of the patches; of the attention window for a relative position bias. None: not
            known; then the other side's grid if it has as many cells, else a square.
        num_prefix: Class, distillation and register slots, which stand before the patches. None: not known.
            For a relative position bias any number above zero means the three class rows at its end.
        num_unused: Rows before the prefix that no token uses (BEiT-3 has two). Never carried over.
    """

    grid: tuple[int, ...] | None = None
    num_prefix: int | None = None
    num_unused: int = 0


@dataclass(frozen=True)
class Adaptation:
    """What `apply` will do to one tensor.

    Attributes:
        kind: One of `KINDS`, or 'identity'.
        note: The same in words for the report: '14x14 + 1 -> 16x16 + 1 tokens, bicubic'.
        source: Shape of the tensor that `apply` takes.
        target: Shape of the tensor that `apply` gives.
        source_layout: The source's layout with its gaps filled. For a relative position bias the grid is that
            of the offsets, `2 * window - 1`, and the prefix the number of class rows.
        target_layout: The target's, likewise.
        mode: How to interpolate.
    """

    kind: str
    note: str
    source: tuple[int, ...] = ()
    target: tuple[int, ...] = ()
    source_layout: TokenLayout = TokenLayout()
    target_layout: TokenLayout = TokenLayout()
    mode: str = "bicubic"


IDENTITY = Adaptation("identity", "as it is")
"""The answer of `decide` when the tensor fits as it stands."""


def decide(
    kind: str,
    source: tuple[int, ...],
    target: tuple[int, ...],
    *,
    source_layout: TokenLayout | None = None,
    target_layout: TokenLayout | None = None,
    mode: str = "bicubic",
) -> Adaptation | None:
    """Decide on shapes alone how a tensor becomes the same parameter in another shape.

    | kind | shapes | what is done |
    |---|---|---|
    | `pos_embed` | `[1, L, D]`, `[L, D]`, `[1, D, H, W]`, `[1, H, W, D]` | interpolation with antialias |
    | `rel_pos_bias` | `[(2h-1)(2w-1), heads]`, three class rows after it or not | interpolation |
    | `patch_embed` | `[D, C, ph, pw]` | pseudo-inverse resize (FlexiViT, arXiv 2212.08013), and channels |
    | `input_conv` | `[D, C, kh, kw]` | channels C to 1: the sum; C to C': repeated cyclically, times C / C' |
    | `class_head` | `[1001, ...]` to `[1000, ...]` | row 0, TensorFlow's background class, is dropped |

    Class and register slots are carried over in order. Slots that the target lacks are dropped. Slots that
    the source lacks become zeros: a source without a slot added nothing to that token, or has no such token.
    Zero is what the source computes; the target's own random row would be noise on top of a loaded token.
    The class rows of a relative position bias are treated alike: without them the source has no preference.

    The kernel of an `input_conv` must keep its size: its windows overlap, and the pseudo-inverse is made for
    patches that do not.

    Args:
        kind: One of `KINDS`.
        source: Shape of the tensor in the file.
        target: Shape of the parameter in the module.
        source_layout: What is known of the source's rows.
        target_layout: What is known of the target's rows. Tables of equal shape differ where both grids or
            both prefixes are known and differ. Where one is not known they are taken for equal, because the
            commonest file of that shape comes from the same model.
        mode: One of `MODES`; for `rel_pos_bias` also 'geometric', BEiT's denser sampling near offset zero.

    Returns:
        What to do, `IDENTITY` when there is nothing to do, None when there is no defined way.

    Raises:
        SpecError: `mode` is not one that this kind knows.
    """
    _check_mode(kind, mode)
    layouts = (source_layout or TokenLayout(), target_layout or TokenLayout())
    return _TABLE[kind][0](Adaptation(kind, "", tuple(source), tuple(target), *layouts, mode))


@torch.no_grad()
def apply(adaptation: Adaptation, tensor: Tensor) -> Tensor:
    """Do what was decided, in float32 (float64 stays), and cast back to the tensor's dtype.

    Args:
        adaptation: From `decide`.
        tensor: Of the shape that was announced to `decide`.

    Returns:
        A new tensor that shares no memory with `tensor`; for `IDENTITY` the tensor itself.
    """
    if adaptation is IDENTITY:
        return tensor
    assert tuple(tensor.shape) == adaptation.source, f"{tuple(tensor.shape)} is not {adaptation.source}"
    values = tensor.to(torch.promote_types(tensor.dtype, torch.float32))
    result = _TABLE[adaptation.kind][1](adaptation, values).to(tensor.dtype)
    assert tuple(result.shape) == adaptation.target, f"{tuple(result.shape)} is not {adaptation.target}"
    return result.contiguous()


def _check_mode(kind: str, mode: str) -> None:
    accepted = (*MODES, "geometric") if kind == "rel_pos_bias" else MODES
    if mode not in accepted:
        raise SpecError(f"{kind} cannot be interpolated by {mode!r}; known are {', '.join(accepted)}")


def _decide_pos_embed(request: Adaptation) -> Adaptation | None:
    source, target = request.source, request.target
    if len(source) == len(target) == 4:
        return _decide_pos_map(request)
    if not all(_is_pos_table(shape) for shape in (source, target)) or source[-1] != target[-1]:
        return None
    return _decide_table(request, source[-2], target[-2])


def _decide_pos_map(request: Adaptation) -> Adaptation | None:
    source, target = request.source, request.target
    if source == target:
        return IDENTITY
    channel_first, channel_last = source[1] == target[1], source[3] == target[3]
    if channel_first == channel_last or not source[0] == target[0] == 1:
        return None  # either no axis can be the channels, or two can
    sizes = [_by(shape[2:] if channel_first else shape[1:3]) for shape in (source, target)]
    return replace(request, note=f"{sizes[0]} -> {sizes[1]} tokens, {request.mode}")


def _decide_rel_pos_bias(request: Adaptation) -> Adaptation | None:
    source, target = request.source, request.target
    if not len(source) == len(target) == 2 or source[1] != target[1]:
        return None
    layouts = (_offsets(request.source_layout), _offsets(request.target_layout))
    request = replace(request, source_layout=layouts[0], target_layout=layouts[1])
    return _decide_table(request, source[0], target[0])


def _decide_patch_embed(request: Adaptation) -> Adaptation | None:
    source, target = request.source, request.target
    if source == target:
        return IDENTITY
    if not len(source) == len(target) == 4 or source[0] != target[0]:
        return None
    if request.kind == "input_conv" and source[2:] != target[2:]:
        return None
    notes = []
    if source[2:] != target[2:]:
        notes.append(f"patch {_by(source[2:])} -> {_by(target[2:])}, pseudo-inverse {request.mode}")
    if source[1] != target[1]:
        how = "summed" if target[1] == 1 else "repeated and rescaled"
        notes.append(f"{source[1]} -> {target[1]} input channels, {how}")
    return replace(request, note="; ".join(notes))


def _decide_class_head(request: Adaptation) -> Adaptation | None:
    source, target = request.source, request.target
    if source == target:
        return IDENTITY
    if source[:1] != (1001,) or target != (1000, *source[1:]):
        return None
    return replace(request, note="1001 -> 1000 classes, background (row 0) dropped")


def _decide_table(request: Adaptation, source_rows: int, target_rows: int) -> Adaptation | None:
    """Fill in both layouts of a table of positions and compare them."""
    if request.source == request.target and not _differ(request.source_layout, request.target_layout):
        return IDENTITY
    target = _resolve(request, target_rows, request.target_layout, request.source_layout)
    source = target and _resolve(request, source_rows, request.source_layout, target)
    if source is None or target is None or len(source.grid or ()) != len(target.grid or ()):
        return None
    note = _table_note(request, source, target)
    return replace(request, note=note, source_layout=source, target_layout=target)


def _differ(source: TokenLayout, target: TokenLayout) -> bool:
    pairs = ((source.grid, target.grid), (source.num_prefix, target.num_prefix))
    known = any(None not in pair and pair[0] != pair[1] for pair in pairs)
    return known or source.num_unused != target.num_unused


def _resolve(request: Adaptation, rows: int, layout: TokenLayout, other: TokenLayout) -> TokenLayout | None:
    """Fill the gaps of a layout so that it has this many rows; None where no way is plausible.

    The squares of two sides of 3 and more are at least 7 apart, so the usual prefixes cannot be confused.
    """
    bias = request.kind == "rel_pos_bias"
    usual = (0, _CLASS_ROWS) if bias else _USUAL_PREFIXES
    for prefix in _prefixes(rows, layout, other, usual):
        grid = _grid(rows - layout.num_unused - prefix, layout.grid, other.grid)
        if grid and not (bias and any(side % 2 == 0 for side in grid)):
            return TokenLayout(grid, prefix, layout.num_unused)
    return None


def _prefixes(rows: int, layout: TokenLayout, other: TokenLayout, usual: Sequence[int]) -> Sequence[int]:
    if layout.num_prefix is not None:
        return (layout.num_prefix,)
    if layout.grid is not None:
        rest = rows - layout.num_unused - math.prod(layout.grid)
        return (rest,) if rest >= 0 else ()
    return usual if other.num_prefix is None else (other.num_prefix, *usual)


def _grid(count: int, known: tuple[int, ...] | None, other: tuple[int, ...] | None) -> tuple[int, ...] | None:
    side = math.isqrt(max(count, 0))
    candidates = ((known,) if known else (other, (side, side))) if count > 0 else ()
    return next((grid for grid in candidates if grid and math.prod(grid) == count), None)


def _offsets(window: TokenLayout) -> TokenLayout:
    """The layout of a bias table, whose cells are the offsets within a window."""
    grid = window.grid and tuple(2 * side - 1 for side in window.grid)
    rows = None if window.num_prefix is None else _CLASS_ROWS * (window.num_prefix > 0)
    return TokenLayout(grid, rows, window.num_unused)


def _is_pos_table(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 or (len(shape) == 3 and shape[0] == 1)


def _table_note(request: Adaptation, source: TokenLayout, target: TokenLayout) -> str:
    bias = request.kind == "rel_pos_bias"
    sides = [_side_words(layout, bias) for layout in (source, target)]
    words = [f"{sides[0]} -> {sides[1]} {'offsets' if bias else 'tokens'}"]
    if source.grid != target.grid:
        words.append(request.mode)
    missing = (target.num_prefix or 0) - (source.num_prefix or 0)
    if missing:
        row = ("class" if bias else "prefix") + (" row" if abs(missing) == 1 else " rows")
        words.append(f"{abs(missing)} {row} {'dropped' if missing < 0 else 'set to zero'}")
    return ", ".join(words)


def _side_words(layout: TokenLayout, bias: bool) -> str:
    prefix = f" + {layout.num_prefix}" if layout.num_prefix or not bias else ""
    unused = f" + {layout.num_unused} unused" if layout.num_unused else ""
    return _by(layout.grid or ()) + prefix + unused


def _by(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))


def _apply_pos_embed(adaptation: Adaptation, values: Tensor) -> Tensor:
    source, target = adaptation.source, adaptation.target
    if len(source) == 4:
        return _resize(values, _axis_matrices(adaptation))
    old, new = adaptation.source_layout, adaptation.target_layout
    used = values.reshape(source[-2:])[old.num_unused :]
    prefix, patches = used.tensor_split([old.num_prefix or 0])
    unused, prefix = used.new_zeros(new.num_unused, target[-1]), _fit_rows(prefix, new.num_prefix or 0)
    return torch.cat((unused, prefix, _resize_grid(adaptation, patches, antialias=True))).reshape(target)


def _apply_rel_pos_bias(adaptation: Adaptation, values: Tensor) -> Tensor:
    rows = adaptation.source_layout.num_prefix or 0
    offsets, class_rows = values.split((len(values) - rows, rows))
    resized = _resize_grid(adaptation, offsets, antialias=False)  # neither do Swin's authors
    return torch.cat((resized, _fit_rows(class_rows, adaptation.target_layout.num_prefix or 0)))


def _apply_patch_embed(adaptation: Adaptation, values: Tensor) -> Tensor:
    """Resize so that the response to a resized patch is the old one: `<R x, w'> = <x, w>`, w' = pinv(R)^T w.

    R is a product of one matrix for each axis, and so is its pseudo-inverse.
    """
    matrices = _axis_matrices(adaptation, first=2)
    inverses = {axis: torch.linalg.pinv(matrix).T for axis, matrix in matrices.items()}
    return _change_channels(_resize(values, inverses), adaptation.target[1])


def _apply_class_head(adaptation: Adaptation, values: Tensor) -> Tensor:
    return values[1:].clone()


def _fit_rows(rows: Tensor, count: int) -> Tensor:
    """The first `count` rows, filled up with zeros."""
    return F.pad(rows[:count], (0, 0, 0, max(count - len(rows), 0)))


def _axis_matrices(adaptation: Adaptation, first: int = 1) -> dict[int, Tensor]:
    """The resize matrix of each axis, from `first` on, whose size changes."""
    pairs = list(enumerate(zip(adaptation.source, adaptation.target, strict=True)))[first:]
    return {axis: _resize_matrix(*pair, adaptation.mode) for axis, pair in pairs if pair[0] != pair[1]}


def _resize_grid(adaptation: Adaptation, rows: Tensor, antialias: bool) -> Tensor:
    old, new = adaptation.source_layout.grid, adaptation.target_layout.grid
    assert old is not None and new is not None
    sizes = {axis: pair for axis, pair in enumerate(zip(old, new, strict=True)) if pair[0] != pair[1]}
    if adaptation.mode == "geometric":
        matrices = {axis: _geometric_matrix(*pair) for axis, pair in sizes.items()}
    else:
        matrices = {axis: _resize_matrix(*pair, adaptation.mode, antialias) for axis, pair in sizes.items()}
    return _resize(rows.reshape(*old, -1), matrices).reshape(math.prod(new), -1)


def _resize(values: Tensor, matrices: dict[int, Tensor]) -> Tensor:
    """Apply to each named axis its `[new, old]` matrix."""
    for axis, matrix in matrices.items():
        values = torch.tensordot(values, matrix.to(values), dims=([axis], [1])).movedim(-1, axis)
    return values


def _resize_matrix(old: int, new: int, mode: str, antialias: bool = True) -> Tensor:
    """What `interpolate` makes of the unit vectors of one axis: its `[new, old]` matrix, in float64."""
    units = torch.eye(old, dtype=torch.float64)[
        :, None, None
    ]  # along the width: a width of 1 breaks antialias
    options = {"align_corners": False, "antialias": antialias} if mode in ("bicubic", "bilinear") else {}
    return F.interpolate(units, size=(1, new), mode=mode, **options)[:, 0, 0].T


def _geometric_matrix(old: int, new: int) -> Tensor:
    """A cubic spline through offsets whose distances grow geometrically, at the integer offsets (BEiT).

    The old offsets stand at 0, 1, 1 + q, 1 + q + q^2, ..., with q such that the last one meets the new last
    one: near zero, where it matters, an offset keeps its meaning in tokens. A smaller table is the middle.
    """
    from scipy.interpolate import make_interp_spline  # type: ignore[import-untyped]

    steps = _growth(old // 2, new // 2) ** torch.arange(old // 2, dtype=torch.float64)
    distances = steps.cumsum(0)
    positions = torch.cat((-distances.flip(0), distances.new_zeros(1), distances))
    units = torch.eye(old, dtype=torch.float64)
    spline = make_interp_spline(positions.numpy(), units.numpy(), k=min(3, old - 1))
    wanted = torch.arange(-(new // 2), new // 2 + 1).clamp(positions[0], positions[-1])
    return torch.from_numpy(spline(wanted.numpy()))


def _growth(count: int, total: int) -> float:
    """The q >= 1 for which 1 + q + ... + q^(count - 1) is `total`, by bisection."""
    low, high = 1.0, max(float(total), 1.0)
    for _ in range(100):
        middle = (low + high) / 2
        if sum(middle**power for power in range(count)) > total:
            high = middle
        else:
            low = middle
    return low


def _change_channels(weight: Tensor, channels: int) -> Tensor:
    """To one channel by the sum (grey is red = green = blue), else by repetition with the scale kept."""
    count = weight.shape[1]
    if channels == 1 != count:
        return weight.sum(1, keepdim=True)
    return weight[:, [channel % count for channel in range(channels)]] * (count / channels)


_Functions = tuple[Callable[[Adaptation], Adaptation | None], Callable[[Adaptation, Tensor], Tensor]]
_TABLE: dict[str, _Functions] = {
    "pos_embed": (_decide_pos_embed, _apply_pos_embed),
    "rel_pos_bias": (_decide_rel_pos_bias, _apply_rel_pos_bias),
    "patch_embed": (_decide_patch_embed, _apply_patch_embed),
    "input_conv": (_decide_patch_embed, _apply_patch_embed),
    "class_head": (_decide_class_head, _apply_class_head),
}
KINDS = tuple(_TABLE)
"""The kinds that `decide` knows."""
