"""Images that cannot be read, and batches that do not divide."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from framework.datasets import DatasetError, ImageFolder
from framework.datasets.image_folder import read_image
from framework.engine.cli import main, train_command
from framework.engine.dataloader import build_dataloader
from framework.engine.metrics_file import read_metrics
from framework.errors import ConfigError


@pytest.fixture
def images(tmp_path):
    """Twelve images of two classes; two files are cut off, one is empty."""
    rng = np.random.default_rng(0)
    for number in range(12):
        folder = tmp_path / "images" / f"class_{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.{'png' if number % 3 else 'jpg'}")
    broken = [tmp_path / "images" / name for name in ("class_0/06.jpg", "class_1/05.png", "class_1/11.png")]
    for path in broken[:2]:
        path.write_bytes(path.read_bytes()[:90])
    broken[2].write_bytes(b"")
    return tmp_path / "images", [str(path) for path in broken]


def colours(model, root, **options):
    """Config of a run on images in colour."""
    net = model()
    net["backbone"]["in_channels"] = 3
    net["data_preprocessor"] = {"mean": [128.0] * 3, "std": [64.0] * 3}
    dataset = {"type": "ImageFolder", "root": str(root), **options}
    loader = {"batch_size": 4, "num_workers": 1, "dataset": dataset}
    data = {f"{name}_dataloader": loader for name in ("train", "val", "test")}
    return {"model": net, "train_cfg": {"by_epoch": True, "max_epochs": 2}, **data}


@pytest.mark.parametrize("decoder", ["pillow", "torchvision"])
def test_by_default_a_corrupt_image_ends_the_run_and_is_named(
    config, model, images, tmp_path, monkeypatch, decoder
):
    root, broken = images
    config(**colours(model, root, decoder=decoder)).dump(tmp_path / "tiny.py")
    monkeypatch.setattr(sys, "argv", ["train.py", str(tmp_path / "tiny.py")])
    with pytest.raises(SystemExit) as end:
        main(train_command)
    assert end.value.code.startswith(f"DatasetError: The image {broken[0]} cannot be read: ")
    assert "\n" not in end.value.code


def test_corrupt_images_that_are_left_out_are_named_and_counted(make_runner, model, images):
    root, broken = images
    runner = make_runner(**colours(model, root, skip_corrupt=True))
    runner.train()
    metrics = runner.test()
    log = Path(runner.log_dir, f"{runner.timestamp}.log").read_text()
    listed = "\n  ".join(broken)
    assert log.count("WARNING") == 3
    for mode in ("train", "val", "test"):
        assert f"WARNING - Left out 3 of 12 images ({mode}), as they cannot be read:\n  {listed}\n" in log
    assert metrics["accuracy/top1"] * 9 == pytest.approx(round(metrics["accuracy/top1"] * 9))
    modes = [line["mode"] for line in read_metrics(runner.work_dir)]
    assert modes == ["train", "val", "train", "val", "test"]


def test_a_batch_of_corrupt_images_only_is_an_error(images):
    root, _ = images
    dataset = {"type": "ImageFolder", "root": str(root), "skip_corrupt": True}
    loader = build_dataloader({"batch_size": 1, "dataset": dataset}, seed=0)
    with pytest.raises(DatasetError, match="None of the 1 images of a batch can be read"):
        list(loader)


def test_both_decoders_give_the_same_image(images, tmp_path):
    root, _ = images
    deep = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    for suffix in ("png", "tif"):
        Image.fromarray(deep).save(root / "class_0" / f"deep.{suffix}")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(root / "class_0" / "z.bmp")
    one, other = (ImageFolder(root, decoder=d, skip_corrupt=True) for d in ("pillow", "torchvision"))
    for mine, theirs, (path, _) in zip(one, other, one.samples, strict=True):
        if mine is None:
            assert theirs is None
            continue
        assert torch.equal(mine["inputs"], theirs["inputs"]), path
        if "deep" in path:  # 16 bits, which Pillow's own conversion clips
            assert torch.equal(mine["inputs"][0], torch.from_numpy(deep // 257).to(torch.uint8))
    assert torch.equal(one.corrupt, other.corrupt) and one.corrupt.sum() == 3
    with pytest.raises(ConfigError, match="decoders pillow, torchvision, not 'opencv'"):
        ImageFolder(root, decoder="opencv")


DIGITS = {"type": "Digits", "test_size": 1677}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 200, "drop_last": True}, r"no batch: 120 items, batches of 200: set drop_last=False"),
        ({"batch_size": 8, "total_batch_size": 8}, "this one has both: 8 and 8"),
        ({"total_batch_size": 0}, "multiple of the number of processes, 1; got 0"),
        ({"total_batch_size": "8"}, "multiple of the number of processes, 1; got '8'"),
    ],
)
def test_batches_that_are_impossible(options, message):
    with pytest.raises(ConfigError, match=message):
        build_dataloader({"dataset": DIGITS, **options}, seed=0)


def test_the_total_batch_is_shared_evenly_or_not_at_all():
    assert build_dataloader({"total_batch_size": 8, "dataset": DIGITS}, seed=0).batch_size == 8
    os.environ.update(MASTER_ADDR="localhost", MASTER_PORT="0")
    try:
        store = torch.distributed.HashStore()
        torch.distributed.init_process_group("fake", store=store, rank=0, world_size=3)
        assert build_dataloader({"total_batch_size": 12, "dataset": DIGITS}, seed=0).batch_size == 4
        with pytest.raises(ConfigError, match="multiple of the number of processes, 3; got 8"):
            build_dataloader({"total_batch_size": 8, "dataset": DIGITS}, seed=0)
    finally:
        torch.distributed.destroy_process_group()
        del os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]


@pytest.mark.parametrize(
    ("drop_last", "said"),
    [(False, "4 batches of 32, the last of 24"), (True, "3 batches of 32, the last 24 items left out")],
)
def test_the_log_says_what_becomes_of_the_rest(make_runner, drop_last, said):
    loader = {"batch_size": 32, "drop_last": drop_last, "dataset": DIGITS}
    runner = make_runner(train_dataloader=loader, train_cfg={"by_epoch": True, "max_epochs": 1})
    runner.train()
    log = Path(runner.log_dir, f"{runner.timestamp}.log").read_text()
    assert f"Training data: Digits, 120 items, {said}\n" in log


def test_a_changed_byte_that_confuses_pillow_is_a_corrupt_image(tmp_path):
    path = tmp_path / "a.tif"
    Image.new("RGB", (4, 4)).save(path, compression="raw")
    data = bytearray(path.read_bytes())
    tag = data.index(b"\x15\x01\x03\x00")  # samples per pixel, a whole number
    data[tag + 2] = 5  # now a fraction
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"a\.tif cannot be read"):
        read_image(str(path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"optim_wrapper": None},
            "has train_dataloader, train_cfg, and lacks optim_wrapper: they go together",
        ),
        ({"val_dataloader": None, "val_evaluator": None}, "has val_cfg, and lacks val_dataloader, val_eva"),
        ({"param_scheduler": [{"type": "LinLR"}]}, "no scheduler called 'LinLR': did you mean LinearLR"),
        ({"model": None, "work_dir": None}, "lacks model and work_dir"),
    ],
)
def test_a_config_that_lacks_something(make_runner, changes, message):
    with pytest.raises(ConfigError, match=message):
        make_runner(**changes)


def test_more_classes_than_outputs(make_runner, model):
    small = model()
    small["head"]["num_classes"] = 5
    with pytest.raises(ConfigError, match=r"Digits has 10 classes, and model\.head\.num_classes is 5"):
        make_runner(model=small).train()


def test_a_best_model_without_a_validation_is_not_promised(make_runner):
    hooks = dict(checkpoint=dict(type="CheckpointHook", interval=1, save_best="auto"))
    none = dict.fromkeys(["val_cfg", "val_dataloader", "val_evaluator"])
    runner = make_runner(default_hooks=hooks, train_cfg=dict(by_epoch=True, max_epochs=1), **none)
    runner.train()
    log = Path(runner.log_dir, f"{runner.timestamp}.log").read_text()
    assert "save_best keeps nothing in this run" in log
