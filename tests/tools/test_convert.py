"""The tool that writes weights in another library's names."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from framework import BACKBONES
from framework.apis.convert import convert as run
from framework.pretrain.errors import SpecError

TOOL = Path(__file__).parents[2] / "tools" / "convert.py"
ARCH = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
VIT = dict(type="VisionTransformer", arch=ARCH, img_size=32, patch_size=8)


def convert(monkeypatch, capsys, *arguments) -> str:
    monkeypatch.setattr(sys, "argv", ["convert.py", *map(str, arguments)])
    runpy.run_path(str(TOOL), run_name="__main__")
    return capsys.readouterr().out


@pytest.fixture
def file(tmp_path):
    model = BACKBONES.build(VIT)
    torch.save(dict(model=model.state_dict(), optimizer=dict(lr=torch.ones(1))), tmp_path / "file.pth")
    return tmp_path / "file.pth", model.state_dict()


@pytest.mark.parametrize("dialect", ["timm", "huggingface", "torchvision", "mmpretrain", "clip"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_there_and_back_bit_by_bit(dialect, suffix, file, tmp_path, monkeypatch, capsys) -> None:
    path, weights = file
    there, back = tmp_path / f"there{suffix}", tmp_path / "back.safetensors"
    said = convert(monkeypatch, capsys, path, "--to", dialect, "-o", there)
    assert (
        f"{len(torch.load(there) if suffix == '.pth' else safetensors.torch.load_file(there))} tensors"
        in said
    )
    assert "optimizer.lr" in said
    convert(monkeypatch, capsys, there, "--to", "timm", "-o", back)
    again = safetensors.torch.load_file(back)
    assert set(again) == set(weights)
    assert all(torch.equal(again[name], tensor) for name, tensor in weights.items())


def test_heads_are_taken_from_the_config(file, tmp_path, monkeypatch, capsys) -> None:
    path, weights = file
    (tmp_path / "vit.py").write_text(f"model = {VIT!r}\n")
    out = tmp_path / "out.npz"
    convert(monkeypatch, capsys, path, "--to", "jax", "-o", out, "--config", tmp_path / "vit.py")
    written = np.load(out)
    key = "Transformer/encoderblock_1/MultiHeadDotProductAttention_1/query/kernel"
    want = weights["blocks.1.attn.qkv.weight"][:32].T.reshape(32, 4, 8)
    assert np.array_equal(written[key], want.numpy())
    model = BACKBONES.build(dict(VIT, pretrain=str(out)))
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--to", "jax", "-o", "x.npz"], "a config tells it"),
        (["--to", "tim", "-o", "x.pth"], "did you mean timm"),
        (["--to", "timm", "-o", "x.txt"], "the ending says the format"),
    ],
)
def test_errors_are_one_line(arguments, words, file, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=words):
        convert(monkeypatch, capsys, file[0], *arguments)
    assert not list(tmp_path.glob("x.*"))


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pth"])
def test_what_is_there_is_replaced_only_on_request_and_as_a_whole(suffix, file, tmp_path) -> None:
    out = tmp_path / "new" / f"out{suffix}"
    run(file[0], "timm", out)
    before = out.read_bytes()
    with pytest.raises(SpecError, match=r"is there already.*--overwrite"):
        run(file[0], "huggingface", out)
    assert out.read_bytes() == before
    run(out, "huggingface", out, overwrite=True)  # onto the very file that is read
    assert out.read_bytes() != before
    again = BACKBONES.build(dict(VIT, pretrain=str(out))).state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in file[1].items())
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.skipif(sys.platform != "linux", reason="sets a limit on the size of files")
@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pth"])
def test_a_full_disk_leaves_what_was_there(suffix, file, tmp_path) -> None:
    out = tmp_path / f"out{suffix}"
    out.write_bytes(b"old")
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "from framework.inspection.cli import run; resource.setrlimit(resource.RLIMIT_FSIZE, (9999, 9999)); "
        f"sys.exit(run(['convert', {str(file[0])!r}, '--to', 'timm', '-o', {str(out)!r}, '--overwrite']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=TOOL.parents[1])
    assert done.returncode == 2 and "File too large" in done.stderr, done.stderr
    assert out.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.pth", out.name]
