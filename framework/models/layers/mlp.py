"""Feed-forward layers of transformers."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class Mlp(nn.Module):
    """Two linear layers with an activation between them.

    Args:
        dim: Channels of input and output.
        hidden_dim: Channels between the layers.
        activation: The activation. Default GELU.
        drop_rate: Dropout after each linear layer.
    """

    def __init__(
        self, dim: int, hidden_dim: int, activation: nn.Module | None = None, drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = activation or nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., dim) to (..., dim)."""
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))


class SwiGLUMlp(nn.Module):
    """A gated feed-forward layer: fc2(silu(a) * b), where (a, b) are the two halves of fc1(x).

    Source: GLU Variants Improve Transformer, https://arxiv.org/abs/2002.05202. The hidden width is two thirds
    of what an ungated layer would have, rounded up to a multiple of 8, as DINOv2 does
    (https://arxiv.org/abs/2304.07193).

    Args:
        dim: Channels of input and output.
        hidden_dim: Hidden channels of the ungated layer that this one replaces.
        drop_rate: Dropout after the gate and after the last linear layer.
    """

    def __init__(self, dim: int, hidden_dim: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        width = -(-(2 * hidden_dim // 3) // 8) * 8
        self.fc1 = nn.Linear(dim, 2 * width)
        self.fc2 = nn.Linear(width, dim)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., dim) to (..., dim)."""
        gate, value = self.fc1(x).chunk(2, dim=-1)
        return self.drop(self.fc2(self.drop(functional.silu(gate) * value)))
