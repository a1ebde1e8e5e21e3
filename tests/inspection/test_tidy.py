"""Published weights and averages, read by safetensors itself."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from torch import nn

from framework.apis.convert import convert
from framework.inspection.facts import inspect_file
from framework.inspection.tidy import average, publish
from framework.pretrain.errors import MismatchError, SpecError
from framework.pretrain.sources.digest import promised_by_name
from framework.registry import BACKBONES


def state(seed: int = 0, **more: torch.Tensor) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "conv.weight": torch.rand(4, 3, 3, 3, generator=generator),
        "norm.weight": torch.rand(5, generator=generator).half(),
        "norm.num_batches_tracked": torch.tensor(7 + seed),
        "scale": torch.rand((), generator=generator).double(),
        "flags": torch.tensor([True, False, True]),
        **more,
    }


def saved(tree: dict[str, Any], path: Path) -> Path:
    torch.save(tree, path)
    return path


def same(got: dict[str, torch.Tensor], want: dict[str, torch.Tensor]) -> None:
    assert got.keys() == want.keys()
    for name, tensor in want.items():
        assert got[name].dtype == tensor.dtype and torch.equal(got[name], tensor), name


def test_a_training_checkpoint_becomes_weights_alone(tmp_path: Path) -> None:
    wrapped = {f"module.{name}": tensor for name, tensor in state().items()}
    optimizer = {"state": {0: {"exp_avg": torch.ones(3)}}}
    path = saved({"state_dict": wrapped, "optimizer": optimizer, "epoch": 3}, tmp_path / "epoch_3.pth.tar")
    written = publish(path, tmp_path / "out")
    data = written.path.read_bytes()
    assert written.sha256 == sha256(data).hexdigest() and written.nbytes == len(data)
    assert written.path.name == f"epoch_3-{written.sha256[:8]}.safetensors"
    assert promised_by_name(written.path.name) == written.sha256[:8]
    same(safetensors.torch.load_file(written.path), state())
    with safetensors.safe_open(written.path, "pt") as file:
        assert file.metadata() == {"format": "pt"}
    assert written.left_out == ("optimizer.state.0.exp_avg",)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [written.path.name]


def test_views_are_written_whole(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    tree = {"a": base, "b": base.t(), "c": base[:, 1], "d": base[:0], "e": base}
    written = publish(saved(tree, tmp_path / "a.pth"), tmp_path)
    same(safetensors.torch.load_file(written.path), {n: t.contiguous() for n, t in tree.items()})


ENTRIES = [("state_dict_ema", "state_dict"), ("model_ema", "model"), ("state_dict", "ema_state_dict")]


@pytest.mark.parametrize(("averaged", "raw"), ENTRIES)
def test_averaged_weights_by_choice(averaged: str, raw: str, tmp_path: Path) -> None:
    path = saved({raw: state(1), averaged: state(2), "optimizer": {"a": torch.ones(1)}}, tmp_path / "a.pth")
    for choice, seed in (("ema", 2), ("raw", 1)):
        same(safetensors.torch.load_file(publish(path, tmp_path, choice).path), state(seed))


def test_without_averaged_weights(tmp_path: Path) -> None:
    path = saved({"state_dict": state(), "epoch": 1}, tmp_path / "a.pth")
    with pytest.raises(MismatchError, match=r"has no averaged weights\. Its entries: state_dict"):
        publish(path, tmp_path, "ema")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]
    same(safetensors.torch.load_file(publish(path, tmp_path, "raw").path), state())


def test_the_mean(tmp_path: Path) -> None:
    files = [saved({"model": state(seed)}, tmp_path / f"{seed}.pth") for seed in range(3)]
    written = average(files, tmp_path / "mean.safetensors")
    got = safetensors.torch.load_file(written.path)
    for name, tensor in state(0).items():
        if tensor.is_floating_point():
            wide = torch.float64 if tensor.dtype == torch.float64 else torch.float32
            mean = torch.stack([state(seed)[name].to(wide) for seed in range(3)]).sum(0) / 3
            assert got[name].dtype == tensor.dtype
            torch.testing.assert_close(got[name], mean.to(tensor.dtype), rtol=1e-6, atol=0)
        else:
            assert torch.equal(got[name], tensor), "what is no number with a fraction is the first file's"


def test_halves_are_added_in_single_precision(tmp_path: Path) -> None:
    values = [60000.0, 50016.0]  # whose sum has no half
    files = [saved({"a": torch.tensor([v]).half()}, tmp_path / f"{v}.pth") for v in values]
    got = safetensors.torch.load_file(average(files, tmp_path / "m.safetensors").path)
    assert got["a"].item() == torch.tensor(55008.0).half().item()


def test_files_that_do_not_go_together(tmp_path: Path) -> None:
    one = saved(state(), tmp_path / "a.pth")
    more = saved(state(extra=torch.ones(1)), tmp_path / "b.pth")
    wide = saved(state(scale=torch.ones(2).double()), tmp_path / "c.pth")
    with pytest.raises(MismatchError, match=r"a.pth lacks extra"):
        average([one, more], tmp_path / "m.safetensors")
    with pytest.raises(MismatchError, match=r"scale is \(\) in .*a.pth, \(2,\) in .*c.pth"):
        average([one, wide], tmp_path / "m.safetensors")
    with pytest.raises(SpecError, match="two files or more"):
        average([one], tmp_path / "m.safetensors")
    with pytest.raises(SpecError, match=r"must end in \.safetensors"):
        average([one, one], tmp_path / "m.pth")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pth", "b.pth", "c.pth"]


def test_an_average_replaces_a_file_only_on_request(tmp_path: Path) -> None:
    one, two = (
        saved({"a": torch.zeros(3)}, tmp_path / "a.pth"),
        saved({"a": torch.ones(3)}, tmp_path / "b.pth"),
    )
    out = average([one, two], tmp_path / "m.safetensors").path
    before = out.read_bytes()
    with pytest.raises(SpecError, match="is there already"):
        average([out, two], out)
    assert out.read_bytes() == before
    average([out, two], out, overwrite=True)
    assert safetensors.torch.load_file(out)["a"].tolist() == [0.75] * 3


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("how", ["script", "module"])
def test_a_whole_model_is_published_whole(how: str, tmp_path: Path) -> None:
    """Both hold the modules one in another; what is written are the names of the state dict."""
    module = nn.Sequential(
        OrderedDict(stem=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), head=nn.Sequential(nn.Linear(4, 2)))
    ).eval()
    if how == "script":
        torch.jit.save(torch.jit.script(module), tmp_path / "a.pt")
    else:
        torch.save(module, tmp_path / "a.pt")
    facts = inspect_file(tmp_path / "a.pt", sha256=False)
    assert [one.name for one in facts.parts] == ["stem", "norm", "head"] and facts.entry == ""
    assert not any("training" in name for name in facts.metadata)
    written = publish(tmp_path / "a.pt", tmp_path / "out")
    same(safetensors.torch.load_file(written.path), dict(module.state_dict()))
    assert not written.left_out


def test_eight_bits_are_averaged_and_become_arrays(tmp_path: Path) -> None:
    network = BACKBONES.build(dict(type="ResNet", depth=18, base_channels=8, stem_channels=8)).state_dict()
    small = {n: v.to(torch.float8_e4m3fn) if v.is_floating_point() else v for n, v in network.items()}
    path = saved(small, tmp_path / "a.pth")
    written = average([path, path], tmp_path / "mean.safetensors")
    values = safetensors.torch.load_file(written.path)
    assert all(
        values[n].dtype == v.dtype and torch.equal(values[n].float(), v.float()) for n, v in small.items()
    )
    convert(path, "timm", tmp_path / "a.npz")
    arrays = np.load(tmp_path / "a.npz")
    assert all(np.array_equal(arrays[name], value.float().numpy()) for name, value in small.items())
