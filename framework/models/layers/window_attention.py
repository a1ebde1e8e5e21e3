"""Attention within windows of a feature map, and the bias for relative positions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from framework.models.layers.attention import check_num_heads

#: The largest factor of the cosine between query and key: https://arxiv.org/abs/2111.09883, section 3.3.
MAX_LOGIT_SCALE = 100.0


def relative_position_index(window_size: tuple[int, int]) -> Tensor:
    """Return where each pair of positions in a window finds its bias.

    Args:
        window_size: Rows and columns of the window.

    Returns:
        (rows * columns, rows * columns): the row in a table of (2 rows - 1) * (2 columns - 1)
        offsets, that of the query minus that of the key, counted row by row.
    """
    rows, columns = window_size
    row = torch.arange(rows).repeat_interleave(columns)
    column = torch.arange(columns).repeat(rows)
    row_offset = row[:, None] - row[None] + rows - 1
    column_offset = column[:, None] - column[None] + columns - 1
    return row_offset * (2 * columns - 1) + column_offset


class WindowAttention(nn.Module):
    """Multi-head self-attention in windows, with a learned bias for each offset.

    Source: Swin Transformer, https://arxiv.org/abs/2103.14030, section 3.2.

    Args:
        dim: Channels of input and output.
        num_heads: Number of heads; divides `dim`.
        window_size: Rows and columns of a window.
        qkv_bias: Whether queries, keys and values have a bias.
        attn_drop_rate: Dropout of the attention weights.
        drop_rate: Dropout of the output.

    Raises:
        ConfigError: `num_heads` does not divide `dim`.
    """

    relative_position_index: Tensor

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window_size: tuple[int, int],
        qkv_bias: bool = True,
        attn_drop_rate: float = 0.0,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        check_num_heads(dim, num_heads)
        self.num_heads, self.window_size, self.attn_drop_rate = num_heads, window_size, attn_drop_rate
        self.make_qkv(dim, qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(drop_rate)
        self.make_bias()
        index = relative_position_index(window_size)
        self.register_buffer("relative_position_index", index, persistent=False)

    def make_qkv(self, dim: int, bias: bool) -> None:
        """Create the projection to queries, keys and values."""
        self.qkv = nn.Linear(dim, 3 * dim, bias=bias)

    def make_bias(self) -> None:
        """Create what gives the bias for relative positions."""
        rows, columns = self.window_size
        offsets = (2 * rows - 1) * (2 * columns - 1)
        self.relative_position_bias_table = nn.Parameter(torch.empty(offsets, self.num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def bias(self) -> Tensor:
        """Return the bias of each pair of positions, (num_heads, positions, positions)."""
        return self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)

    def project(self, x: Tensor) -> Tensor:
        """Return queries, keys and values (..., 3 * dim) of `x` (..., dim)."""
        return self.qkv(x)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        """Return the attended values, (..., num_heads, positions, channels) as all three inputs."""
        drop = self.attn_drop_rate if self.training else 0.0
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=drop)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend within each window.

        Args:
            x: (batch, windows, positions, dim).
            mask: (windows, positions, positions), added to the logits.

        Returns:
            The shape of `x`.
        """
        qkv = self.project(x).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = qkv.permute(3, 0, 1, 4, 2, 5).unbind(0)
        bias = self.bias()
        if mask is not None:
            bias = bias + mask.unsqueeze(1)
        heads = self.attend(query, key, value, bias.to(query.dtype))
        return self.proj_drop(self.proj(heads.transpose(2, 3).flatten(-2)))


class WindowAttentionV2(WindowAttention):
    """Cosine attention in windows, with a bias that a small network gives for each offset.

    Source: Swin Transformer V2, https://arxiv.org/abs/2111.09883, sections 3.3 and 3.4.

    Args:
        dim: Channels of input and output.
        num_heads: Number of heads; divides `dim`.
        window_size: Rows and columns of a window.
        qkv_bias: Whether queries and values have a bias.
        attn_drop_rate: Dropout of the attention weights.
        drop_rate: Dropout of the output.
        pretrained_window_size: Rows and columns of the window in pre-training, by which offsets are scaled;
            0 for those of this window.
    """

    relative_coords_table: Tensor

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window_size: tuple[int, int],
        qkv_bias: bool = True,
        attn_drop_rate: float = 0.0,
        drop_rate: float = 0.0,
        pretrained_window_size: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__(dim, num_heads, window_size, qkv_bias, attn_drop_rate, drop_rate)
        self.logit_scale = nn.Parameter(torch.full((num_heads, 1, 1), math.log(10)))
        table = log_offsets(window_size, pretrained_window_size)
        self.register_buffer("relative_coords_table", table, persistent=False)

    def make_qkv(self, dim: int, bias: bool) -> None:
        """Create the projection; keys have no bias, as the cosine would make it a shift of the query."""
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(dim)) if bias else None
        self.v_bias = nn.Parameter(torch.zeros(dim)) if bias else None

    def make_bias(self) -> None:
        """Create the network from offsets to biases."""
        self.cpb_mlp = nn.Sequential(
            nn.Linear(2, 512), nn.ReLU(inplace=True), nn.Linear(512, self.num_heads, bias=False)
        )

    def bias(self) -> Tensor:
        """Return the bias of each pair of positions, (num_heads, positions, positions)."""
        table = self.cpb_mlp(self.relative_coords_table)
        return 16 * table[self.relative_position_index].permute(2, 0, 1).sigmoid()

    def project(self, x: Tensor) -> Tensor:
        """Return queries, keys and values (..., 3 * dim) of `x` (..., dim)."""
        if self.q_bias is None or self.v_bias is None:
            return self.qkv(x)
        bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        return functional.linear(x, self.qkv.weight, bias)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        """Return the attended values, (..., num_heads, positions, channels) as all three inputs."""
        scale = self.logit_scale.clamp(max=math.log(MAX_LOGIT_SCALE)).exp()
        query = functional.normalize(query, dim=-1) * scale
        key = functional.normalize(key, dim=-1)
        drop = self.attn_drop_rate if self.training else 0.0
        return functional.scaled_dot_product_attention(
            query.to(value.dtype), key.to(value.dtype), value, attn_mask=bias, dropout_p=drop, scale=1.0
        )


def log_offsets(window_size: tuple[int, int], pretrained_window_size: tuple[int, int]) -> Tensor:
    """Return the offsets in a window on a logarithmic scale (https://arxiv.org/abs/2111.09883, equation 4).

    Args:
        window_size: Rows and columns of the window.
        pretrained_window_size: Those whose largest offsets become 1 and -1 before the logarithm; 0 for the
            window itself.

    Returns:
        ((2 rows - 1) * (2 columns - 1), 2): rows and columns of each offset.
    """
    axes = []
    for size, pretrained in zip(window_size, pretrained_window_size, strict=True):
        offsets = torch.arange(1 - size, size, dtype=torch.float32)
        offsets = 8 * offsets / max((pretrained or size) - 1, 1)
        axes.append(offsets.sign() * torch.log2(offsets.abs() + 1) / 3)
    return torch.cartesian_prod(*axes)


def to_windows(x: Tensor, window_size: tuple[int, int]) -> Tensor:
    """Cut maps (batch, rows, columns, channels) into windows (batch, windows, positions, channels)."""
    batch, rows, columns, channels = x.shape
    height, width = window_size
    x = x.view(batch, rows // height, height, columns // width, width, channels)
    return x.transpose(2, 3).reshape(batch, -1, height * width, channels)


def from_windows(windows: Tensor, window_size: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Put windows (batch, windows, positions, channels) together to maps (batch, *size, channels)."""
    height, width = window_size
    x = windows.view(len(windows), size[0] // height, size[1] // width, height, width, -1)
    return x.transpose(2, 3).reshape(len(windows), *size, -1)


def shift_mask(
    size: tuple[int, int], window_size: tuple[int, int], shift: tuple[int, int], device: torch.device
) -> Tensor:
    """Return what keeps positions apart that a cyclic shift brought into one window.

    Source: Swin Transformer, https://arxiv.org/abs/2103.14030, figure 4; -100 is the authors' value.

    Args:
        size: Rows and columns of the map.
        window_size: Rows and columns of a window.
        shift: Rows and columns by which the map was shifted up and left.
        device: Where to put it.

    Returns:
        (windows, positions, positions): -100 for pairs from different regions, else 0.
    """
    rows, columns = (_came_around(*axis, device) for axis in zip(size, shift, strict=True))
    regions = (2 * rows[:, None] + columns[None])[None, :, :, None]
    labels = to_windows(regions, window_size)[0, :, :, 0]
    return -100.0 * (labels[:, :, None] != labels[:, None, :])


def _came_around(size: int, shift: int, device: torch.device) -> Tensor:
    """Return 1 for the positions of one axis that came from its other end, which the last window holds."""
    return (torch.arange(size, device=device) >= size - shift).long()
