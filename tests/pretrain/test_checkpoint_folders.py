"""Folders and shards: what Hugging Face and torch.distributed.checkpoint write, and indices that lie."""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint import metadata as dcp_metadata

from framework.pretrain.checkpoint import Inert, open_checkpoint
from framework.pretrain.errors import CheckpointError, DamagedCheckpointError, UnsafeCheckpointError

TENSORS = {"a.w": torch.arange(12.0).view(3, 4), "b": torch.tensor([1, 2]), "c": torch.randn(5).bfloat16()}


def _same(tree, tensors=TENSORS) -> bool:
    return set(tree) == set(tensors) and all(torch.equal(tree[k].read(), v) for k, v in tensors.items())


def _shards(folder: Path, kind: str = "safetensors") -> Path:
    """Write two shards and their index."""
    folder.mkdir(exist_ok=True)
    suffix, stem = ("safetensors", "model") if kind == "safetensors" else ("bin", "pytorch_model")
    save = save_file if kind == "safetensors" else torch.save
    names = [f"{stem}-0000{i}-of-00002.{suffix}" for i in (1, 2)]
    save({"a.w": TENSORS["a.w"]}, folder / names[0])
    save({"b": TENSORS["b"], "c": TENSORS["c"]}, folder / names[1])
    index = {"metadata": {"total_size": 1}, "weight_map": {"a.w": names[0], "b": names[1], "c": names[1]}}
    path = folder / f"{stem}.{suffix}.index.json"
    path.write_text(json.dumps(index))
    return path


@pytest.mark.parametrize("kind", ["safetensors", "torch"])
@pytest.mark.parametrize("way", ["folder", "index"])
def test_shards(tmp_path, kind, way):
    index = _shards(tmp_path / "hub", kind)
    checkpoint = open_checkpoint(index if way == "index" else index.parent)
    assert checkpoint.format == f"{kind} shards"
    assert _same(checkpoint.tree)
    assert list(checkpoint.tree) == ["a.w", "b", "c"]


@pytest.mark.parametrize("shard_size", ["1GB", "20KB"])
def test_a_folder_of_transformers(tmp_path, shard_size):
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = transformers.ViTModel(config)
        model.save_pretrained(tmp_path / "vit", max_shard_size=shard_size)
    checkpoint = open_checkpoint(tmp_path / "vit")
    assert checkpoint.format == ("safetensors" if shard_size == "1GB" else "safetensors shards")
    files = [load_file(path) for path in (tmp_path / "vit").glob("*.safetensors")]
    assert len(files) == 1 or shard_size == "20KB"
    assert _same(checkpoint.tree, {name: value for file in files for name, value in file.items()})


def test_the_one_checkpoint_of_a_folder_is_found_by_content(tmp_path):
    (tmp_path / "README.md").write_text("# weights")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        open_checkpoint(tmp_path)
    torch.save(TENSORS, tmp_path / "odd.name")
    assert _same(open_checkpoint(tmp_path).tree)
    torch.save(TENSORS, tmp_path / "second.pth")
    with pytest.raises(CheckpointError, match=r"2 checkpoints \(odd.name, second.pth\): name one"):
        open_checkpoint(tmp_path)
    save_file(TENSORS, tmp_path / "model.safetensors")
    assert open_checkpoint(tmp_path).format == "safetensors", "Hugging Face's name comes first"


@pytest.mark.parametrize(
    "name",
    [
        "../secret.safetensors",
        "/etc/passwd",
        "a/../../secret.safetensors",
        "..\\secret",
        "C:secret",
        "",
        "a\0b",
    ],
)
def test_an_index_that_names_files_outside_its_folder(tmp_path, name):
    index = _shards(tmp_path / "hub")
    save_file({"a.w": TENSORS["a.w"]}, tmp_path / "secret.safetensors")
    content = json.loads(index.read_text())
    content["weight_map"]["a.w"] = name
    index.write_text(json.dumps(content))
    with pytest.raises(DamagedCheckpointError, match="not a file of its folder"):
        open_checkpoint(index)


def test_indices_that_are_wrong(tmp_path):
    index = _shards(tmp_path / "hub")
    content = json.loads(index.read_text())
    for change, words in {
        "model-00003-of-00002.safetensors": "not in the folder: fetch it too",
        "model-00002-of-00002.safetensors": "'a.w' is in 'model-00002.*but it is not there",
        "model.safetensors.index.json": "cannot be a shard itself",
    }.items():
        content["weight_map"]["a.w"] = change
        index.write_text(json.dumps(content))
        with pytest.raises(CheckpointError, match=words):
            open_checkpoint(index)
    for text in ('{"weight_map": 3}', '{"weight_map": {"a": 3}}', '{"weight_map": {"a": "x", "a": "y"}}',
                 '{"weight_map": ' + "[" * 100_000, '{"weight_map"'):  # fmt: skip
        index.write_text(text)
        with pytest.raises(CheckpointError):
            open_checkpoint(index)


def test_a_damaged_shard_is_named(tmp_path):
    index = _shards(tmp_path / "hub")
    shard = tmp_path / "hub" / "model-00001-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(DamagedCheckpointError, match=r"model-00001-of-00002\.safetensors'.*truncated"):
        open_checkpoint(index)


def test_shards_behind_links_as_in_the_hubs_cache(tmp_path):
    index = _shards(tmp_path / "blobs")
    (tmp_path / "snapshot").mkdir()
    for path in (tmp_path / "blobs").iterdir():
        (tmp_path / "snapshot" / path.name).symlink_to(path)
    assert _same(open_checkpoint(tmp_path / "snapshot").tree)
    assert index.exists()


@pytest.fixture(scope="module")
def distributed(tmp_path_factory) -> Path:
    """A checkpoint as torch.distributed.checkpoint writes it from a single process."""
    folder = tmp_path_factory.mktemp("dcp") / "saved"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save(
            {"model": dict(TENSORS), "step": 3, "s": torch.tensor(2.0)}, checkpoint_id=folder, no_dist=True
        )
    return folder


def test_distributed_checkpoints(distributed):
    checkpoint = open_checkpoint(distributed)
    assert checkpoint.format == "torch.distributed.checkpoint"
    tensors = TENSORS | {"s": torch.tensor(2.0)}
    lazy = {**checkpoint.tree["model"], "s": checkpoint.tree["s"]}
    assert _same(lazy, tensors)
    assert all(torch.equal(lazy[name].map(), value) for name, value in tensors.items())
    assert isinstance(checkpoint.tree["step"], Inert)
    assert checkpoint.replaced == ()
    assert len({node.identity for node in lazy.values()}) == len(lazy)


def _rewritten(folder: Path, to: Path, change) -> Path:
    """Copy a checkpoint, with its metadata changed by a function."""
    shutil.copytree(folder, to)
    metadata = pickle.loads((to / ".metadata").read_bytes())
    change(metadata)
    (to / ".metadata").write_bytes(pickle.dumps(metadata))
    return to


def _split(metadata, pieces, folder: Path) -> None:
    """Store `model.a.w` (3, 4) as the given (offsets, sizes) in a second file."""
    name = "model.a.w"
    old = metadata.state_dict_metadata[name]
    chunks, position = [], 0
    del metadata.storage_data[dcp_metadata.MetadataIndex(name, torch.Size([0, 0]), 0)]
    with open(folder / "__1_0.distcp", "wb") as file:
        for offsets, sizes in pieces:
            rows, columns = (slice(o, o + s) for o, s in zip(offsets, sizes, strict=True))
            torch.save(TENSORS["a.w"][rows, columns].clone(), file)
            index = dcp_metadata.MetadataIndex(name, torch.Size(offsets))
            info = dcp.filesystem._StorageInfo("__1_0.distcp", position, file.tell() - position)
            metadata.storage_data[index] = info
            chunks.append(dcp_metadata.ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes)))
            position = file.tell()
    metadata.state_dict_metadata[name] = dcp_metadata.TensorStorageMetadata(old.properties, old.size, chunks)


ROWS = [((0, 0), (2, 4)), ((2, 0), (1, 4))]
BLOCKS = [((0, 0), (2, 3)), ((0, 3), (2, 1)), ((2, 0), (1, 3)), ((2, 3), (1, 1))]


@pytest.mark.parametrize(
    "pieces", [ROWS, BLOCKS, [*ROWS, ((3, 0), (0, 4))]], ids=["rows", "blocks", "an empty one"]
)
def test_tensors_in_chunks_are_put_together(distributed, tmp_path, pieces):
    folder = tmp_path / "copy"
    _rewritten(distributed, folder, lambda metadata: _split(metadata, pieces, folder))
    lazy = open_checkpoint(folder).tree["model"]["a.w"]
    assert torch.equal(lazy.read(), TENSORS["a.w"])
    assert torch.equal(lazy.map(), TENSORS["a.w"])
    out = torch.zeros(4, 3, dtype=torch.float64).t()
    for piece in lazy.pieces(out, 8):
        piece()
    assert torch.equal(out, TENSORS["a.w"].double())


@pytest.mark.parametrize(
    "pieces",
    [
        ROWS[:1],
        [*ROWS, ((1, 0), (1, 4))],
        [((0, 0), (2, 4)), ((1, 0), (1, 4))],
        [((0, 0), (3, 3)), ((0, 1), (3, 1))],
        [],
    ],
    ids=["a gap", "three overlap", "an overlap and a gap", "a gap at the edge", "none"],
)
def test_chunks_that_are_not_the_whole(distributed, tmp_path, pieces):
    folder = tmp_path / "copy"
    _rewritten(distributed, folder, lambda metadata: _split(metadata, pieces, folder))
    with pytest.raises(DamagedCheckpointError, match=r"shape \[3, 4\]"):
        open_checkpoint(folder)


def test_paths_that_are_none_leave_the_names_flat(distributed, tmp_path):
    doubled: tuple = ("x",)
    for _ in range(40):
        doubled = (doubled, doubled)

    def change(metadata):
        metadata.planner_data = {"model.a.w": ("model", doubled), "model.b": ("other", "b"), "s": "s"}

    tree = open_checkpoint(_rewritten(distributed, tmp_path / "copy", change)).tree
    assert {"model.a.w", "model.b", "model.c", "s"} <= set(tree)


def test_distributed_checkpoints_that_lie(distributed, tmp_path):
    def outside(metadata):
        for info in metadata.storage_data.values():
            info.relative_path = "../__0_0.distcp"

    def beyond(metadata):
        for info in metadata.storage_data.values():
            info.offset = 1 << 40

    def elsewhere(metadata):
        places = {index.fqn: info for index, info in metadata.storage_data.items()}
        other = places["model.b"]
        places["model.a.w"].offset, places["model.a.w"].length = other.offset, other.length

    def retyped(metadata):
        old = metadata.state_dict_metadata["model.a.w"].properties
        metadata.state_dict_metadata["model.a.w"].properties = dataclasses.replace(old, dtype=torch.int32)

    def huge(metadata):
        for entry in metadata.state_dict_metadata.values():
            if len(getattr(entry, "size", ())) == 1:
                entry.size = torch.Size([1 << 40])
                entry.chunks[0] = dcp_metadata.ChunkStorageMetadata(entry.chunks[0].offsets, entry.size)

    def gone(metadata):
        metadata.storage_data.clear()

    def collide(metadata):
        metadata.state_dict_metadata["model"] = metadata.state_dict_metadata["step"]

    lies = {
        outside: "not a file of its folder",
        beyond: "truncated",
        huge: "bytes of tensors are announced, the files have",
        gone: "does not say where tensor",
        collide: "the place of 'model' to two names",
    }
    for change, words in lies.items():
        folder = _rewritten(distributed, tmp_path / change.__name__, change)
        with pytest.raises(DamagedCheckpointError, match=words):
            open_checkpoint(folder)
    lies = {elsewhere: r"not the tensor of shape \[3, 4\]", retyped: r"announced as torch\.int32"}
    for change, words in lies.items():
        folder = _rewritten(distributed, tmp_path / change.__name__, change)
        lazy = open_checkpoint(folder).tree["model"]["a.w"]
        with pytest.raises(DamagedCheckpointError, match=words):
            lazy.read()


def test_metadata_that_wants_to_run_something(distributed, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(distributed, folder)
    (folder / ".metadata").write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR.")
    with pytest.raises(UnsafeCheckpointError, match=r"os\.system"):
        open_checkpoint(folder)
    assert not (tmp_path / "ran").exists()
