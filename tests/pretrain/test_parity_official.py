"""Files of SimMIM's ViT, SparK, scanned big_vision encoders and Caffe2: our features are the source's."""

from __future__ import annotations

import pickle
import re
import struct
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18, resnet50

from framework import BACKBONES, MODELS
from framework.pretrain import export, load_pretrained
from framework.pretrain.errors import PretrainError

Weights = dict[str, Tensor]
ARCH = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
VIT = dict(type="VisionTransformer", arch=ARCH, img_size=32, patch_size=8, out_type="raw")
TIMM = dict(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4, mlp_ratio=2, num_classes=0)


def timm_model(name: str, **options: Any) -> nn.Module:
    return getattr(pytest.importorskip("timm").models, name)(**options)


def prefixed(prefix: str, weights: Weights) -> Weights:
    return {prefix + name: tensor for name, tensor in weights.items()}


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "each"])
@pytest.mark.parametrize("ours_shared", [True, False], ids=["to shared", "to each"])
def test_simmims_vit(shared, ours_shared, tmp_path, filled, assert_close) -> None:
    """Pretrained with one table for all layers, fine-tuned with one for each; as unilm's BEiT else."""
    bias = dict(use_shared_rel_pos_bias=shared, use_rel_pos_bias=not shared, use_abs_pos_emb=False)
    theirs = filled(timm_model("Beit", **TIMM, init_values=0.1, global_pool="token", **bias))
    weights = dict(theirs.state_dict())
    if shared:
        beside = {"encoder.mask_token": torch.rand(1, 1, 32), "decoder.0.weight": torch.rand(192, 32, 1, 1)}
        weights = prefixed("encoder.", weights) | beside
    torch.save(dict(model=weights, config="yacs", epoch=99), tmp_path / "simmim.pth")
    words = dict(use_rel_pos_bias=not ours_shared, use_shared_rel_pos_bias=ours_shared, use_abs_pos_emb=False)
    config = dict(VIT, type="BEiTViT", layer_scale_init_value=0.1, final_norm=True, **words)
    config |= dict(pretrain=str(tmp_path / "simmim.pth"))
    if ours_shared and not shared:  # different tables do not become one
        with pytest.raises(PretrainError, match=r"attn\.relative_position_bias_table"):
            BACKBONES.build(config)
        part = dict(path=config["pretrain"], min_coverage=0.1)
        model = BACKBONES.build(dict(config, pretrain=part))
        assert model.pretrain_report.fresh == ("rel_pos_bias.relative_position_bias_table",)
        return
    ours = BACKBONES.build(config).eval()
    assert not ours.pretrain_report.fresh
    assert [block.gamma_1.mean().item() for block in ours.blocks] != [0.1, 0.1]
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert_close(ours(images)[-1], theirs.forward_features(images))


def spark(weights: Weights) -> dict[str, Any]:
    """A training's file, keyu-tian/SparK@a63e386 pretrain/spark.py, with its config among the weights."""
    decoder = {"dense_decoder.dec.0.conv.0.weight": torch.rand(8, 8, 3, 3)}
    masks = {"mask_tokens.0": torch.rand(1, 8, 1, 1), "densify_norms.0.weight": torch.rand(8)}
    module = prefixed("sparse_encoder.sp_cnn.", weights) | decoder | masks
    state = dict(module, config=dict(mask_ratio=0.6, densify_norm="bn"))
    rest = dict(
        args="Namespace(...)", input_size=224, arch="resnet50", performance_desc="x", is_pretrain=True
    )
    return dict(rest, epoch=1600, module=state, optimizer=dict(state={0: dict(exp_avg=torch.rand(8))}))


@pytest.mark.parametrize("container", ["published", "training"])
def test_sparks_resnet(container, tmp_path, filled, assert_close) -> None:
    theirs = filled(resnet18())
    weights = {name: t for name, t in theirs.state_dict().items() if not name.startswith("fc.")}
    torch.save(weights if container == "published" else spark(weights), tmp_path / "spark.pth")
    ours = BACKBONES.build(dict(type="ResNet", depth=18, pretrain=str(tmp_path / "spark.pth"))).eval()
    assert not ours.pretrain_report.fresh, str(ours.pretrain_report)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert_close(ours(images)[-1], nn.Sequential(*list(theirs.children())[:-2])(images))


OFFICIAL_CONVNEXT = (
    (r"^stem\.", "downsample_layers.0."),
    (r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
    (r"\.blocks\.", "."),
    ("conv_dw", "dwconv"),
    (r"mlp\.fc", "pwconv"),
    (r"^head\.norm", "norm"),
)


@pytest.mark.parametrize("container", ["published", "training"])
def test_sparks_convnext(container, tmp_path, filled, assert_close) -> None:
    theirs = filled(timm_model("ConvNeXt", depths=(1, 2, 1, 1), dims=(8, 16, 24, 32), num_classes=0))
    weights = {}
    for name, tensor in theirs.state_dict().items():
        for pattern, replacement in OFFICIAL_CONVNEXT:
            name = re.sub(pattern, replacement, name)
        weights[name] = tensor
    torch.save(weights if container == "published" else spark(weights), tmp_path / "spark.pth")
    arch = dict(channels=[8, 16, 24, 32], depths=[1, 2, 1, 1])
    config = dict(type="ConvNeXt", arch=arch, pretrain=str(tmp_path / "spark.pth"))
    ours = BACKBONES.build(config).eval()
    assert ours.pretrain_report.dialect == "official" and not ours.pretrain_report.fresh
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert_close(ours(images)[-1], theirs.forward_head(theirs.forward_features(images), pre_logits=True))


def scanned(model: nn.Module) -> dict[str, np.ndarray]:
    """Write a network as big_vision does with scan=True: one array for each kind of tensor of all layers."""
    written = {n.replace(".", "/"): t.numpy() for n, t in export(model, "big_vision").items()}
    layers = {name: array for name, array in written.items() if "encoderblock_" in name}
    rest = {name: array for name, array in written.items() if name not in layers}
    for name in [name for name in layers if "encoderblock_0/" in name]:
        parts = [layers[name.replace("encoderblock_0/", f"encoderblock_{i}/")] for i in range(3)]
        rest[name.replace("encoderblock_0/", "encoderblock/")] = np.stack(parts)
    return {f"params/{name}": array for name, array in rest.items()}


@pytest.mark.parametrize("compressed", [False, True])
def test_scanned_layers_of_big_vision(compressed, tmp_path, filled, assert_close) -> None:
    sizes = dict(TIMM, depth=3)
    theirs = filled(timm_model("VisionTransformer", **sizes))
    config = dict(VIT, arch=dict(ARCH, num_layers=3))
    made = BACKBONES.build(config)
    load_pretrained(made, _saved(theirs, tmp_path))
    arrays = scanned(made)
    name = "params/Transformer/encoderblock/MultiHeadDotProductAttention_0/query/kernel"
    assert arrays[name].shape == (3, 32, 4, 8), "layers, channels, heads, channels of a head"
    (np.savez_compressed if compressed else np.savez)(tmp_path / "vit.npz", **arrays)
    ours = BACKBONES.build(dict(config, pretrain=str(tmp_path / "vit.npz"))).eval()
    assert ours.pretrain_report.dialect == "big_vision" and not ours.pretrain_report.fresh
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert_close(ours(images)[-1], theirs.forward_features(images))


def test_scanned_layers_in_a_nested_tree_and_too_few_of_them(tmp_path, filled, assert_close) -> None:
    config = dict(VIT, arch=dict(ARCH, num_layers=3))
    made = filled(BACKBONES.build(config))
    tree: dict[str, Any] = {}
    for name, array in scanned(made).items():
        node, *inner = name.split("/")[::-1]
        place = tree
        for part in inner[::-1]:
            place = place.setdefault(part, {})
        place[node] = torch.from_numpy(array)
    torch.save(tree, tmp_path / "tree.pth")
    ours = BACKBONES.build(dict(config, pretrain=str(tmp_path / "tree.pth")))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert_close(ours.eval()(images)[-1], made(images)[-1])
    path = dict(path=str(tmp_path / "tree.pth"), min_coverage=0.1)
    deeper = BACKBONES.build(dict(VIT, arch=dict(ARCH, num_layers=4), pretrain=path))
    assert {name.split(".")[1] for name in deeper.pretrain_report.fresh} == {"3"}


def test_a_module_of_ones_own_of_that_name_is_left_whole(tmp_path) -> None:
    made = nn.ModuleDict({"encoderblock": nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))})
    torch.save(made.state_dict(), tmp_path / "own.pth")
    again = nn.ModuleDict({"encoderblock": nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))})
    assert load_pretrained(again, tmp_path / "own.pth").clean
    assert torch.equal(again["encoderblock"][0].weight, made["encoderblock"][0].weight)


def _saved(model: nn.Module, folder: Any) -> str:
    torch.save(model.state_dict(), folder / "source.pth")
    return str(folder / "source.pth")


CAFFE2 = (
    (r"^layer(\d)\.(\d+)\.", lambda m: f"res{int(m[1]) + 1}_{m[2]}_"),
    (r"downsample\.0\.weight", "branch1_w"),
    (r"downsample\.1\.", "branch1_bn."),
    (r"(res\d_\d+_)conv(\d)\.weight", lambda m: f"{m[1]}branch2{'abc'[int(m[2]) - 1]}_w"),
    (r"(res\d_\d+_)bn(\d)\.", lambda m: f"{m[1]}branch2{'abc'[int(m[2]) - 1]}_bn."),
    (r"^conv1\.weight", "conv1_w"),
    (r"^bn1\.", "res_conv1_bn."),
    (r"bn\.weight", "bn_s"),
    (r"bn\.bias", "bn_b"),
    (r"bn\.running_mean", "bn_rm"),
    (r"bn\.running_var", "bn_riv"),
    (r"^fc\.weight", "fc1000_w"),
    (r"^fc\.bias", "fc1000_b"),
)


def caffe2(weights: Weights) -> dict[str, np.ndarray]:
    """Name a ResNet's weights as facebookresearch/detectron2@02b5c4e2 c2_model_loading.py reads them."""
    written = {}
    for name, tensor in weights.items():
        for pattern, replacement in CAFFE2:
            name = re.sub(pattern, replacement, name)
        if not name.endswith("num_batches_tracked"):
            written[name] = tensor.numpy()
    return written


class _Python2(pickle._Pickler):  # type: ignore[name-defined]
    """Writes what Python 2 wrote: texts and bytes are the same kind of string."""

    dispatch = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_string(self, obj: str | bytes) -> None:
        data = obj.encode("latin1") if isinstance(obj, str) else obj
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(obj)

    dispatch[str] = dispatch[bytes] = save_string


@pytest.mark.parametrize("folded", [False, True], ids=["with statistics", "statistics folded in"])
@pytest.mark.parametrize("blobs", [True, False], ids=["blobs", "flat"])
def test_caffe2s_pickles(folded, blobs, tmp_path, filled, assert_close) -> None:
    theirs = filled(resnet50())
    arrays = caffe2(dict(theirs.state_dict()))
    if folded:  # MSRA's: the running statistics are part of scale and bias
        for name in [name for name in arrays if name.endswith("_bn_s")]:
            mean, variance = arrays.pop(f"{name[:-1]}rm"), arrays.pop(f"{name[:-1]}riv")
            arrays[name] = arrays[name] / np.sqrt(variance + 1e-5)
            arrays[f"{name[:-1]}b"] = arrays[f"{name[:-1]}b"] - mean * arrays[name]
        arrays["conv1_b"] = np.zeros(64, "f4")
    arrays["fc1000_w_momentum"] = np.ones((1000, 2048), "f4")
    with open(tmp_path / "R-50.pkl", "wb") as file:
        _Python2(file, protocol=2).dump(dict(blobs=arrays, cfg="yaml") if blobs else arrays)
    head = dict(type="LinearClsHead", in_channels=2048, num_classes=1000)
    config = dict(backbone=dict(type="ResNet", depth=50), neck=dict(type="GlobalAveragePooling"), head=head)
    ours = MODELS.build(dict(config, type="ImageClassifier", pretrain=str(tmp_path / "R-50.pkl"))).eval()
    assert ours.pretrain_report.dialect == "caffe2"
    assert {name.rpartition(".")[2] for name in ours.pretrain_report.fresh} == (
        {"running_mean", "running_var"} if folded else set()
    )
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert_close(ours(images), theirs(images))
    if not folded:
        written = export(ours, "caffe2")
        assert set(written) == set(arrays) - {"fc1000_w_momentum"}
        assert all(np.array_equal(tensor.numpy(), arrays[name]) for name, tensor in written.items())
