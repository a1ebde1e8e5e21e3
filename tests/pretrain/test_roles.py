"""Which of several networks in a file is taken, and when none is."""

import pytest
import torch
from torch import nn

from framework import load_pretrained
from framework.pretrain.errors import MismatchError
from framework.pretrain.roles import preferred

#: (the one to take, the one to leave), where they stand.
PAIRS = (
    ("state_dict.ema.module.", "state_dict.net."),
    ("model_ema.", "model."),
    ("params_ema.", "params."),  # BasicSR
    ("ema_model_state_dict.", "model_state_dict."),
    ("swa_model.module.", "model."),
    ("emaModel.", "model."),
    ("teacher_model.", "student_model."),
    ("teacher.model.", "student.model."),
    ("encoder.", "momentum_encoder."),
    ("encoder.", "encoder_momentum."),
    ("query_encoder.", "key_encoder."),
    ("encoder_q.", "encoder_k."),
    ("online.", "target."),
    ("target_encoder.", "encoder."),  # I-JEPA, MSN
    ("state_dict.", "ema_state_dict."),  # mmengine swaps them
)


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 4))


def saved(path, *prefixes):
    """Write a file with a network behind each prefix, and return them."""
    networks = [network() for _ in prefixes]
    tree: dict = {}
    for prefix, one in zip(prefixes, networks, strict=True):
        tree.update({prefix + name: tensor for name, tensor in one.state_dict().items()})
    torch.save(tree, path)
    return networks


@pytest.mark.parametrize(("taken", "left"), PAIRS)
@pytest.mark.parametrize("turned", [False, True])
def test_a_role_decides(taken, left, turned, tmp_path) -> None:
    order = (left, taken) if turned else (taken, left)
    networks = dict(zip(order, saved(tmp_path / "two.pth", *order), strict=True))
    module = network()
    report = load_pretrained(module, tmp_path / "two.pth")
    assert torch.equal(module[0].weight, networks[taken][0].weight)
    assert report.prefix == taken.replace("module.", "") and report.alternatives == (left,)
    assert preferred(taken, left) and not preferred(left, taken)


@pytest.mark.parametrize("names", [("net_a.", "net_b."), ("generator.", "critic."), ("fold0.", "fold1.")])
def test_networks_without_a_role_are_not_drawn_from(names, tmp_path) -> None:
    networks = saved(tmp_path / "two.pth", *names)
    module = network()
    before = module[0].weight.clone()
    with pytest.raises(MismatchError, match=r"fit equally well") as error:
        load_pretrained(module, tmp_path / "two.pth")
    assert torch.equal(module[0].weight, before)
    fields = [f"sub_level='{name[:-1]}'" for name in names]
    assert f"Try: one of {', '.join(fields)}." in str(error.value)
    load_pretrained(module, dict(path=tmp_path / "two.pth", sub_level=names[1][:-1]))
    assert torch.equal(module[0].weight, networks[1][0].weight)


def test_entries_without_a_role_are_chosen_by_key(tmp_path) -> None:
    networks = [network(), network()]
    torch.save({"models": [one.state_dict() for one in networks]}, tmp_path / "ensemble.pth")
    module = network()
    with pytest.raises(MismatchError, match=r"Try: one of key='models\.0', key='models\.1'\."):
        load_pretrained(module, tmp_path / "ensemble.pth")
    load_pretrained(module, dict(path=tmp_path / "ensemble.pth", key="models.1"))
    assert torch.equal(module[0].weight, networks[1][0].weight)


def test_what_is_further_in_is_no_equal(tmp_path) -> None:
    outer, _ = saved(tmp_path / "two.pth", "", "copy.")
    module = network()
    load_pretrained(module, tmp_path / "two.pth")
    assert torch.equal(module[0].weight, outer[0].weight)


@pytest.mark.parametrize("entry", ["optimizer.momentum_buffer", "grads"])
def test_an_optimisers_state_is_no_network(entry, tmp_path) -> None:
    tree: dict = network().state_dict()
    for part in reversed(entry.split(".")):
        tree = {part: tree}
    torch.save(tree, tmp_path / "state.pth")
    with pytest.raises(MismatchError, match="no weights, but what a training keeps"):
        load_pretrained(network(), tmp_path / "state.pth")
    assert load_pretrained(network(), dict(path=tmp_path / "state.pth", key=entry)).coverage == 1


def test_networks_in_a_training_are_told_from_its_state(tmp_path) -> None:
    state = {"optimizer_state": {"first": network().state_dict()}, "weights": network().state_dict()}
    torch.save(state, tmp_path / "state.pth")
    module = network()
    load_pretrained(module, tmp_path / "state.pth")
    assert torch.equal(module[0].weight, state["weights"]["0.weight"])


@pytest.mark.parametrize("order", [("vision_model.", "text_model."), ("text_model.", "vision_model.")])
def test_what_lacks_a_part_is_no_equal(order, tmp_path) -> None:
    """As the text tower of CLIP or SigLIP, whose layers are like those of the vision tower."""
    towers = {prefix: nn.Sequential(nn.LayerNorm(99), nn.Linear(99, 99)).state_dict() for prefix in order}
    towers["text_model."] = {"tokens.weight": torch.zeros(3, 6), **towers["text_model."]}
    del towers["text_model."]["0.weight"], towers["text_model."]["0.bias"]
    tree = {prefix + name: value for prefix in order for name, value in towers[prefix].items()}
    torch.save(tree, tmp_path / "two.pth")
    module = nn.Sequential(nn.LayerNorm(99), nn.Linear(99, 99))
    load_pretrained(module, tmp_path / "two.pth")
    assert torch.equal(module[1].weight, towers["vision_model."]["1.weight"])
