from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from PIL import Image

from framework.datasets import DatasetError
from framework.datasets.image_folder import read_image
from framework.registry import DATASETS


def save(path, colour, size=(6, 4), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)


def build(root, **arguments):
    return DATASETS.build(dict(type="ImageFolder", root=str(root), **arguments))


def test_classes_are_the_sorted_folders_and_images_may_lie_deeper(tmp_path):
    save(tmp_path / "dog" / "a.png", (255, 0, 0))
    save(tmp_path / "cat" / "deep" / "b.PNG", (0, 255, 0))
    save(tmp_path / "cat" / "a.bmp", (0, 0, 255))
    save(tmp_path / ".hidden" / "a.png", (1, 1, 1))
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    dataset = build(tmp_path)
    assert dataset.metainfo["classes"] == ("cat", "dog")
    colours = [
        (item["inputs"][:, 0, 0].tolist(), item["labels"]) for item in map(dataset.__getitem__, range(3))
    ]
    assert colours == [([0, 0, 255], 0), ([0, 255, 0], 0), ([255, 0, 0], 1)]
    assert dataset[0]["inputs"].shape == (3, 4, 6)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "RGB"])
@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_every_mode_becomes_rgb(tmp_path, mode, suffix):
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(np.full((4, 4, 3), 51, np.uint8)).convert(mode).save(path)
    image = read_image(str(path))
    assert (image.shape, image.dtype) == ((3, 4, 4), torch.uint8)
    assert image.unique().tolist() == [51]


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_the_exif_orientation_is_applied(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    save(tmp_path / f"a.{suffix}", (9, 9, 9), size=(6, 4), exif=exif)
    assert read_image(str(tmp_path / f"a.{suffix}")).shape == (3, 6, 4)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp"])
def test_a_file_that_is_no_image_is_named(tmp_path, suffix):
    path = tmp_path / "class" / f"broken.{suffix}"
    path.parent.mkdir()
    path.write_bytes(b"this is no image")
    with pytest.raises(DatasetError, match=re.escape(f"The image {path} cannot be read")):
        build(tmp_path)[0]


def test_a_truncated_image_is_named(tmp_path):
    path = tmp_path / "class" / "a.jpg"
    save(path, (1, 2, 3), size=(64, 64))
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(DatasetError, match=re.escape(str(path))):
        build(tmp_path)[0]


def test_a_missing_folder_says_where_and_what_layout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError) as error:
        build("data/imagenet/train")
    assert str(tmp_path / "data/imagenet/train") in str(error.value)
    assert "one folder per class" in str(error.value)


def test_a_folder_without_classes(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(DatasetError, match=rf"{tmp_path} has no folders in it, so no classes"):
        build(tmp_path)


def test_a_class_without_images(tmp_path):
    save(tmp_path / "cat" / "a.png", (0, 0, 0))
    (tmp_path / "dog").mkdir()
    with pytest.raises(
        DatasetError, match=rf"{tmp_path / 'dog'} has no images; suffixes that are read: .jpg"
    ):
        build(tmp_path)


def test_a_file_instead_of_a_folder(tmp_path):
    (tmp_path / "data.zip").touch()
    with pytest.raises(DatasetError, match=r"data.zip is a file"):
        build(tmp_path / "data.zip")


def test_the_root_may_hold_a_variable(tmp_path, monkeypatch):
    save(tmp_path / "cat" / "a.png", (0, 0, 0))
    monkeypatch.setenv("PICTURES", str(tmp_path))
    assert len(build("$PICTURES")) == 1
