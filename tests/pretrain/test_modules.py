"""Modules of every kind: how they keep their memory, names and dtypes when weights are loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from framework import MODELS, load_pretrained, plan_pretrained
from framework.pretrain.errors import CoverageError, SpecError

LINEAR = dict(type=nn.Linear, in_features=80, out_features=80)


class Outer(nn.Module):
    """A module whose constructor goes on after its part was built."""

    def __init__(self, part: dict, then: Callable[[nn.Module], object]) -> None:
        super().__init__()
        self.part = MODELS.build(part)
        then(self)


@pytest.fixture
def file(tmp_path: Path) -> str:
    torch.save({"weight": torch.full((80, 80), 2.0), "bias": torch.full((80,), 3.0)}, tmp_path / "l.pth")
    return str(tmp_path / "l.pth")


@pytest.mark.parametrize(
    "init", [nn.init.zeros_, nn.init.trunc_normal_, nn.init.xavier_uniform_, lambda w: w.data.normal_()]
)
def test_a_constructor_that_initialises_everything_spares_what_was_loaded(init, file) -> None:
    def everything(module: nn.Module) -> None:
        module.other = nn.Linear(80, 80)
        for part in module.modules():
            if isinstance(part, nn.Linear):
                init(part.weight)

    built = MODELS.build(dict(type=Outer, part=dict(LINEAR, pretrain=file), then=everything))
    assert built.part.weight.eq(2).all() and not built.other.weight.eq(2).any()
    assert torch.isfinite(built.other.weight).all()


def test_another_view_of_the_memory_sees_the_values(file) -> None:
    class Viewed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.empty(80, 80)), nn.Parameter(torch.zeros(80))
            nn.init.normal_(self.weight)
            self.register_buffer("flat", self.weight.data.view(-1), persistent=False)

    assert MODELS.build(dict(type=Viewed, pretrain=file)).flat.eq(2).all()
    shared = nn.Linear(80, 80).share_memory()
    load_pretrained(shared, file)
    assert shared.weight.is_shared() and shared.weight.eq(2).all()


def test_numbers_of_another_kind_do_not_fit(tmp_path) -> None:
    quantised = {"weight": torch.ones(80, 80, dtype=torch.int8), "bias": torch.zeros(80)}
    torch.save(quantised, tmp_path / "q.pth")
    with pytest.raises(CoverageError, match="int8 in the file does not become float32"):
        load_pretrained(nn.Linear(80, 80), tmp_path / "q.pth")
    eighths = {"weight": torch.ones(80, 80).to(torch.float8_e4m3fn), "bias": torch.zeros(80)}
    torch.save(eighths, tmp_path / "f8.pth")
    report = plan_pretrained(nn.Linear(80, 80), tmp_path / "f8.pth")
    assert set(report.mismatched) == {"weight"}


def test_parameters_with_names_of_bookkeeping_are_parameters(tmp_path) -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.periods, self.queue = nn.Parameter(torch.randn(16)), nn.Parameter(torch.randn(6))

    source, target = Named(), Named()
    torch.save(source.state_dict(), tmp_path / "n.pth")
    report = load_pretrained(target, dict(path=tmp_path / "n.pth", strict=True))
    assert torch.equal(source.periods, target.periods) and torch.equal(source.queue, target.queue)
    assert not report.computed


def test_a_part_called_module_beside_its_own_leaves(tmp_path) -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(4, 4)
            self.weight, self.bias = nn.Parameter(torch.randn(4, 4)), nn.Parameter(torch.randn(3))

    source, target = Wrapper(), Wrapper()
    torch.save(source.state_dict(), tmp_path / "w.pth")
    report = load_pretrained(target, tmp_path / "w.pth")
    assert report.coverage == 1
    assert all(torch.equal(v, target.state_dict()[k]) for k, v in source.state_dict().items())


def test_what_a_hook_derives_is_no_place_for_weights(tmp_path) -> None:
    class Derived(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w, self.v = nn.Parameter(torch.zeros(4, 8)), nn.Parameter(torch.zeros(40))
            self._register_state_dict_hook(lambda m, state, p, _: state.update({p + "w": m.w.t().clone()}))

    torch.save({"w": torch.ones(8, 4), "v": torch.ones(40)}, tmp_path / "h.pth")
    report = plan_pretrained(Derived(), tmp_path / "h.pth")
    assert set(report.loaded) == {"v"} and report.unexpected == ("w",)


@pytest.mark.parametrize(
    ("container", "taken"),
    [
        (dict(grads=0.0, weights=1.0), "weights"),
        (dict(init_state_dict=0.0, state_dict=1.0), "state_dict"),
        (dict(mine=0.0, state_dict=1.0), "state_dict"),
    ],
)
def test_gradients_and_first_states_are_not_taken_for_weights(container, taken, tmp_path) -> None:
    filled = {k: {"weight": torch.full((4, 4), v), "bias": torch.full((4,), v)} for k, v in container.items()}
    torch.save(filled, tmp_path / "c.pth")
    module = nn.Linear(4, 4)
    report = load_pretrained(module, tmp_path / "c.pth")
    assert module.weight.eq(1).all() and report.entry == taken and len(report.alternatives) == 1


def test_a_copy_inside_the_chosen_part_is_told(tmp_path) -> None:
    own = {"weight": torch.ones(4, 4), "bias": torch.ones(4)}
    torch.save({**own, "copy": {k: v * 2 for k, v in own.items()}}, tmp_path / "c.pth")
    assert load_pretrained(nn.Linear(4, 4), tmp_path / "c.pth").alternatives == ("copy.",)


@pytest.mark.parametrize("module", [nn.LazyLinear(8), {}, nn.Identity()])
def test_what_cannot_take_weights_is_told(module, file) -> None:
    with pytest.raises((SpecError, CoverageError)):
        load_pretrained(module, file)


def test_two_loads_are_both_kept_by_init_weights(tmp_path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def init_weights(self) -> None:
            nn.init.zeros_(self.a.weight)
            nn.init.zeros_(self.b.weight)

    module = Two()
    for name in ("a", "b"):
        path = tmp_path / f"{name}.pth"
        torch.save({f"{name}.weight": torch.ones(4, 4)}, path)
        load_pretrained(module, dict(path=path, min_coverage=0.1))
    module.init_weights()
    assert module.a.weight.eq(1).all() and module.b.weight.eq(1).all()
