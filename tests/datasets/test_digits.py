from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from framework.errors import ConfigError
from framework.registry import DATASETS


def build(**arguments):
    return DATASETS.build(dict(type="Digits", **arguments))


def test_the_splits_share_no_image_and_together_are_everything():
    train, test, everything = (build(split=split) for split in ("train", "test", "all"))
    assert (len(train), len(test), len(everything)) == (1257, 540, 1797)
    rows = torch.cat([train.images, test.images]).flatten(1)
    ours = sorted(
        map(tuple, torch.cat([rows, torch.tensor(train.labels + test.labels)[:, None]], 1).tolist())
    )
    digits = load_digits()
    theirs = np.c_[np.rint(digits.data * 255 / 16), digits.target].astype(int)
    assert ours == sorted(map(tuple, theirs.tolist()))


def test_the_test_split_holds_its_share_of_every_class():
    counts = np.bincount(build(split="test").labels)
    assert np.abs(counts - 0.3 * np.bincount(load_digits().target)).max() < 1


def test_the_split_depends_on_the_seed_alone():
    assert torch.equal(build(seed=3).images, build(seed=3).images)
    assert not torch.equal(build(seed=3).images, build(seed=4).images)


def test_an_item():
    dataset = build(split="all")
    item = dataset[0]
    assert type(item["inputs"]) is torch.Tensor
    assert (item["inputs"].shape, item["inputs"].dtype) == ((1, 8, 8), torch.uint8)
    assert item["labels"] == 0
    assert dataset.images.max() == 255
    assert dataset.metainfo["classes"] == tuple("0123456789")


def test_the_pipeline_is_applied_in_order():
    pipeline = [
        dict(type="Resize", size=16),
        dict(type="CenterCrop", size=4),
        dict(type="ToDtype", dtype="float32"),
    ]
    item = build(pipeline=pipeline)[0]
    assert (item["inputs"].shape, item["inputs"].dtype) == ((1, 4, 4), torch.float32)


def test_a_pipeline_that_ends_in_a_pil_image_is_fine():
    item = build(pipeline=[dict(type="ToPILImage")])[5]
    assert torch.equal(item["inputs"], build()[5]["inputs"])


def test_a_pipeline_that_ends_in_something_else_is_an_error():
    with pytest.raises(
        TypeError, match=r"pipeline of Digits must end with an image, got tuple after FiveCrop"
    ):
        build(pipeline=[dict(type="FiveCrop", size=2)])[0]


def test_an_unknown_split():
    with pytest.raises(ConfigError, match="train, test, all, not 'tset'"):
        build(split="tset")


def test_some_images_of_each_class_are_drawn_from_the_split() -> None:
    everything, few, others = build(), build(shots=10), build(shots=10, shots_seed=1)
    assert np.bincount(few.labels).tolist() == [10] * 10
    known = {image.numpy().tobytes() for image in everything.images}
    assert all(image.numpy().tobytes() in known for image in few.images)
    assert not np.array_equal(few.images, others.images)
    assert np.array_equal(few.images, build(shots=10, shots_seed=0).images)


def test_more_images_of_a_class_than_there_are_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"shots=500, but there are 1 to 12\d images of each class"):
        build(shots=500)
