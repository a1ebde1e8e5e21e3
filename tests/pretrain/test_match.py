"""The vote on prefixes, the roles that decide ties, and the dialects."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from framework.pretrain import plan_pretrained
from framework.pretrain.report import LoadReport


class Net(nn.Module):
    """A small network whose names are no library's."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])
        self.norm = nn.BatchNorm1d(4)


class Wrapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = Net(), nn.Linear(4, 2)


def weights(prefix: str = "", value: float = 1.0) -> dict[str, torch.Tensor]:
    return {prefix + name: torch.full(t.shape, value).to(t.dtype) for name, t in Net().state_dict().items()}


def report(container: object, module: nn.Module, tmp_path: Path, **field) -> LoadReport:
    torch.save(container, tmp_path / "file.pth")
    return plan_pretrained(module, dict(path=tmp_path / "file.pth", **field))


PREFIXES = [
    *("", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "net.backbone."),
    *("_fsdp_wrapped_module.", "a._checkpoint_wrapped_module.b.", "module.encoder.module."),
]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("entry", ["", "state_dict", "a.b.c.d"])
def test_any_prefix_in_any_container_is_found(prefix: str, entry: str, tmp_path: Path) -> None:
    container: dict = weights(prefix)
    for name in reversed(entry.split(".")) if entry else ():
        container = {name: container, "epoch": 3}
    for module, part in ((Net(), ""), (Wrapped(), "backbone.")):
        got = report(container, module, tmp_path, min_coverage=0)
        assert set(got.loaded) == {part + name for name in Net().state_dict()}
        assert got.entry == entry and not got.unexpected
        sources = got.tensors[part + "layers.2.bias"].sources
        assert sources == (f"{entry}.{prefix}layers.2.bias".lstrip("."),)


@pytest.mark.parametrize(
    ("taken", "left"),
    [
        ("module.encoder_q.", "module.encoder_k."),
        ("module.base_encoder.", "module.momentum_encoder."),
        ("teacher_backbone.", "student_backbone."),
        ("backbone.", "momentum_backbone."),
        ("backbone.", "backbone_momentum."),
        ("online_encoder.net.", "target_encoder.net."),
        ("backbone.", "target_net.module."),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_roles_decide_between_equals_in_one_entry(taken, left, order, tmp_path) -> None:
    both = [weights(taken), weights(left, 2.0)][::order]
    got = report({"state_dict": both[0] | both[1]}, Net(), tmp_path)
    assert got.tensors["norm.weight"].sources == (f"state_dict.{taken}norm.weight",)
    assert len(got.alternatives) == 1 and got.coverage == 1
    assert len(got.unexpected) == len([n for n in weights() if "num_batches" not in n])


@pytest.mark.parametrize(
    ("taken", "left"),
    [
        ("teacher", "student"),
        ("target_encoder", "encoder"),
        ("state_dict_ema", "state_dict"),
        ("model_ema", "model"),
        ("state_dict", "ema_state_dict"),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_roles_decide_between_entries(taken, left, order, tmp_path) -> None:
    entries = [(taken, weights("module.backbone.")), (left, weights("backbone.", 2.0))][::order]
    optimizer = {"state": {0: {"exp_avg": torch.ones(3)}}}
    got = report(dict(entries) | {"optimizer": optimizer}, Net(), tmp_path)
    assert got.entry == taken and not got.unexpected and not got.fresh
    assert {"optimizer.state.0": 1} | {left: len(weights())} == dict(got.elsewhere)
    assert report(dict(entries), Net(), tmp_path, key=left).entry == left


def test_the_same_tensors_under_two_names_are_one(tmp_path) -> None:
    own = weights("backbone.")
    alias = {name.replace("backbone.", "encoder_q.0."): tensor for name, tensor in own.items()}
    got = report({"state_dict": own | alias}, Net(), tmp_path)
    assert got.alternatives == () and got.unexpected == ()


def test_a_prefix_is_never_taken_out_of_the_middle(tmp_path) -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.ModuleDict({"backbone": Net()})

    torch.save({f"backbone.{n}": t for n, t in Deep().state_dict().items()}, tmp_path / "deep.pth")
    got = plan_pretrained(Deep(), tmp_path / "deep.pth")
    assert got.coverage == 1 and got.prefix == "backbone."


def test_renaming_comes_first_and_idle_rules_are_told(tmp_path) -> None:
    renamed = {n.replace("layers", "blocks"): t for n, t in weights().items()}
    rules = [(r"^blocks\.", "layers."), ("nothing", "x")]
    got = report(renamed, Net(), tmp_path, revise_keys=rules)
    assert got.coverage == 1 and got.idle_rules == ("nothing",)
    assert got.tensors["layers.1.bias"].sources == ("blocks.1.bias",)
