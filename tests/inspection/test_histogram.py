"""Figures of a tensor's values, compared with numpy's on the same values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from framework.inspection import histogram
from framework.inspection.histogram import BINS, Summary, summarise
from framework.pretrain.checkpoint import open_checkpoint


def summary_of(values: Tensor, tmp_path: Path) -> Summary:
    torch.save({"x": values}, tmp_path / "x.pth")
    return summarise(open_checkpoint(tmp_path / "x.pth").tree["x"])  # type: ignore[arg-type]


def compare(got: Summary, want: np.ndarray) -> None:
    want = want.ravel().astype(np.float64)
    finite = want[np.isfinite(want)]
    assert (got.elements, got.finite, got.nan) == (want.size, finite.size, np.isnan(want).sum())
    assert got.zeros == (finite == 0).sum()
    assert (got.low, got.high) == (finite.min(), finite.max())
    np.testing.assert_allclose((got.mean, got.std), (finite.mean(), finite.std()), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("chunk", [64, 1000, 1 << 18])
def test_figures_are_those_of_numpy(chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histogram, "CHUNK", chunk)
    values = torch.randn(50, 37, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 3
    values[::5, 3] = 0
    got = summary_of(values, tmp_path)
    compare(got, values.numpy())
    want, _ = np.histogram(values.numpy(), BINS)
    assert np.abs(np.array(got.bars) - want).sum() <= 2  # a value on an edge may fall to either side
    assert sum(got.bars) == 1850


@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.int64, torch.uint8, torch.bool],
)
def test_every_kind_of_numbers(dtype: torch.dtype, tmp_path: Path) -> None:
    values = (torch.arange(600) % 7).reshape(20, 30).to(dtype)
    compare(summary_of(values, tmp_path), values.float().numpy())


def test_complex_numbers_count_twice(tmp_path: Path) -> None:
    values = torch.complex(torch.tensor([1.0, 2.0]), torch.tensor([-3.0, 0.0]))
    compare(summary_of(values, tmp_path), np.array([1.0, 2.0, -3.0, 0.0]))


def test_values_that_are_no_numbers_are_counted_and_left_out(tmp_path: Path) -> None:
    values = torch.tensor([1.0, float("nan"), -2.0, float("inf"), 0.0, float("-inf"), float("nan")])
    got = summary_of(values, tmp_path)
    compare(got, values.numpy())
    assert sum(got.bars) == 3
    nothing = summary_of(torch.full((4,), float("nan")), tmp_path)
    assert nothing == Summary(4, 0, 4, 0, 0.0, 0.0, 0.0, 0.0, ())


def test_equal_values_are_one_bar_and_no_values_are_none(tmp_path: Path) -> None:
    assert summary_of(torch.full((5, 2), 2.5), tmp_path) == Summary(10, 10, 0, 0, 2.5, 2.5, 2.5, 0.0, (10,))
    assert summary_of(torch.empty(0, 3), tmp_path) == Summary(0, 0, 0, 0, 0.0, 0.0, 0.0, 0.0, ())


def test_squares_of_large_values_do_not_overflow(tmp_path: Path) -> None:
    assert summary_of(torch.tensor([3e38, -3e38]), tmp_path).std == pytest.approx(3e38)


def test_a_strided_view_is_read_in_its_own_order(tmp_path: Path) -> None:
    values = torch.randn(8, 6, generator=torch.Generator().manual_seed(1)).t()[1:4]
    compare(summary_of(values, tmp_path), values.numpy())
