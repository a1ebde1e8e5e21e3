from __future__ import annotations

import struct

import numpy as np
import pytest
import torch

from framework.datasets import DatasetError
from framework.errors import ConfigError
from framework.registry import DATASETS


def write_idx(path, array):
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(header + array.tobytes())


@pytest.fixture
def fashion(tmp_path):
    """Files in the layout that torchvision's own download leaves, with few images."""
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, count in (("train", 5), ("t10k", 3)):
        write_idx(
            raw / f"{name}-images-idx3-ubyte", np.arange(count * 784, dtype=np.uint8).reshape(count, 28, 28)
        )
        write_idx(raw / f"{name}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8))
    return tmp_path


def test_fashion_mnist_is_read(fashion):
    train = DATASETS.build(dict(type="FashionMNIST", root=str(fashion), download=False))
    test = DATASETS.build(dict(type="FashionMNIST", root=str(fashion), split="test", download=False))
    assert (len(train), len(test)) == (5, 3)
    item = test[2]
    assert (item["inputs"].shape, item["inputs"].dtype, item["labels"]) == ((1, 28, 28), torch.uint8, 2)
    assert item["inputs"].flatten().tolist() == [v % 256 for v in range(2 * 784, 3 * 784)]
    assert train.metainfo["classes"][0] == "T-shirt/top"


@pytest.mark.parametrize("name", ["CIFAR10", "CIFAR100", "FashionMNIST"])
def test_data_that_is_not_there(name, tmp_path):
    with pytest.raises(DatasetError) as error:
        DATASETS.build(dict(type=name, root=str(tmp_path / "here"), download=False))
    assert str(tmp_path / "here") in str(error.value)
    assert "set download=True" in str(error.value)


def test_an_unknown_split(tmp_path):
    with pytest.raises(ConfigError, match="train and test, not 'val'"):
        DATASETS.build(dict(type="CIFAR10", root=str(tmp_path), split="val"))
