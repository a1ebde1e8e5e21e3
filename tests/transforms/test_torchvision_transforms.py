from __future__ import annotations

import pickle

import pytest
import torch
from torchvision.transforms import v2

from framework.errors import ConfigError
from framework.registry import TRANSFORMS


def test_every_transform_of_torchvision_is_known_by_its_name():
    theirs = {
        name
        for name, value in vars(v2).items()
        if isinstance(value, type) and issubclass(value, v2.Transform)
    }
    assert theirs - {"Transform"} <= set(TRANSFORMS.names())
    assert len(theirs) > 50


def test_what_is_built_is_torchvisions_own_and_can_be_sent_to_a_worker():
    transform = TRANSFORMS.build(dict(type="Resize", size=4))
    assert type(transform) is v2.Resize
    assert pickle.loads(pickle.dumps(transform)).size == [4]


@pytest.mark.parametrize("name", [mode.value for mode in v2.InterpolationMode])
def test_interpolation_by_name(name):
    assert TRANSFORMS.build(
        dict(type="Resize", size=4, interpolation=name)
    ).interpolation == v2.InterpolationMode(name)


def test_an_interpolation_by_name_gives_the_same_pixels_as_the_enum():
    image = torch.rand(3, 9, 9)
    ours = TRANSFORMS.build(dict(type="Resize", size=5, interpolation="bicubic"))(image)
    assert torch.equal(ours, v2.Resize(5, v2.InterpolationMode.BICUBIC)(image))
    assert not torch.equal(ours, v2.Resize(5)(image))


@pytest.mark.parametrize("name", ["float32", "torch.float32", torch.float32])
def test_dtype_by_name(name):
    image = torch.tensor([[[0, 255]]], dtype=torch.uint8)
    scaled = TRANSFORMS.build(dict(type="ToDtype", dtype=name, scale=True))(image)
    assert scaled.dtype == torch.float32
    assert scaled.tolist() == [[[0.0, 1.0]]]


def test_a_dtype_per_kind():
    transform = TRANSFORMS.build(dict(type="ToDtype", dtype={"others": None, torch.Tensor: "float16"}))
    assert transform.dtype == {"others": None, torch.Tensor: torch.float16}


def test_a_policy_by_name():
    transform = TRANSFORMS.build(dict(type="AutoAugment", policy="cifar10"))
    assert transform.policy == v2.AutoAugmentPolicy.CIFAR10


@pytest.mark.parametrize("name", ["RandomApply", "RandomChoice", "RandomOrder", "Compose"])
def test_nested_transforms_are_built(name):
    inner = [dict(type="RandomApply", transforms=[dict(type="Resize", size=2)]), v2.Identity()]
    transform = TRANSFORMS.build(dict(type=name, transforms=inner))
    assert type(transform) is getattr(v2, name)
    assert type(transform.transforms[0].transforms[0]) is v2.Resize
    assert type(transform.transforms[1]) is v2.Identity
    assert inner[0]["transforms"][0] == dict(type="Resize", size=2)


def test_an_unknown_interpolation_lists_the_nearest():
    with pytest.raises(ConfigError, match=r"no interpolation 'bicubik': did you mean bicubic"):
        TRANSFORMS.build(dict(type="Resize", size=4, interpolation="bicubik"))


def test_an_unknown_dtype_lists_what_there_is():
    with pytest.raises(ConfigError, match=r"no dtype 'xyz'\. Known: .*float32"):
        TRANSFORMS.build(dict(type="ToDtype", dtype="xyz"))


def test_an_unknown_argument_names_the_accepted_ones():
    with pytest.raises(
        ConfigError, match=r"did you mean size, max_size\? Resize accepts: size, interpolation"
    ):
        TRANSFORMS.build(dict(type="Resize", sise=4))
