"""From a config to values in a module: what must always hold, on the two examples of the README."""

from __future__ import annotations

import copy
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

import framework
from framework import BACKBONES, MODELS, get_model, load_pretrained, plan_pretrained
from framework.pretrain.errors import CoverageError, MismatchError, NotFoundError, PretrainError, SpecError
from framework.pretrain.guard import protect_loaded

TINY = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
RESNET = dict(type="ResNet", depth=18, stem_channels=16, base_channels=16)
VIT = dict(type="VisionTransformer", arch=TINY, img_size=32, patch_size=16)


def resnet_classifier(num_classes: int, **changes) -> dict:
    return dict(
        type="Classifier",
        backbone=dict(RESNET),
        neck=dict(type="GlobalAveragePooling"),
        head=dict(type="ClassifierHead", dim=128, num_classes=num_classes),
        **changes,
    )


def vit_classifier(num_classes: int = 2, **changes) -> dict:
    backbone = dict(VIT, out_type="avg_featmap", final_norm=False)
    head = dict(type="LinearClsHead", num_classes=num_classes, in_channels=32)
    return dict(type="ImageClassifier", backbone=backbone, head=head, **changes)


def scrambled(module: nn.Module) -> nn.Module:
    """Give every floating tensor values of its own, so that a wrong place shows."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return module


def same(first: nn.Module, second: nn.Module, names: list[str] | None = None) -> bool:
    one, two = first.state_dict(), second.state_dict()
    return all(torch.equal(one[name], two[name]) for name in (names or one))


@pytest.fixture
def source() -> nn.Module:
    return scrambled(MODELS.build(resnet_classifier(100)))


@pytest.fixture
def file(source: nn.Module, tmp_path: Path) -> Path:
    path = tmp_path / "pretrain.pth"
    torch.save({"state_dict": torch.nn.DataParallel(source).state_dict()}, path)
    return path


def test_a_classifier_with_another_head_takes_all_but_the_head(source, file, caplog) -> None:
    torch.manual_seed(5)
    new = MODELS.build(resnet_classifier(200, pretrain=str(file)))
    report = new.pretrain_report
    assert report.mismatched == {
        "head.fc.weight": ((200, 128), (100, 128)),
        "head.fc.bias": ((200,), (100,)),
    }
    assert same(new, source, list(report.loaded)) and len(report.loaded) == len(source.state_dict()) - 2
    assert new.head.fc.weight.std() > 0 and new.head.fc.weight.abs().max() < 0.5  # its own initial values
    assert "head.fc.weight (200, 128) here, (100, 128) in the file" in caplog.text
    assert [r.levelno for r in caplog.records if r.name == "framework"] == [logging.WARNING]


def test_a_backbone_takes_its_part_and_says_so_in_one_line(source, file, caplog) -> None:
    caplog.set_level(logging.INFO, logger="framework")
    for pretrain in (dict(path=str(file), sub_level="backbone"), str(file)):
        caplog.clear()
        backbone = BACKBONES.build(dict(RESNET, pretrain=pretrain))
        assert same(backbone, source.backbone)
        assert backbone.pretrain_report.coverage == 1 and backbone.pretrain_report.clean
        (record,) = [r for r in caplog.records if r.name == "framework"]
        assert record.levelno == logging.INFO and "100% of the parameters" in record.getMessage()


def mmpretrain_name(key: str) -> str:
    for ours, theirs in (
        ("patch_embed.proj", "patch_embed.projection"),
        ("blocks", "layers"),
        ("norm1", "ln1"),
        ("norm2", "ln2"),
        ("mlp.fc1", "ffn.layers.0.0"),
        ("mlp.fc2", "ffn.layers.1"),
    ):
        key = key.replace(ours, theirs)
    return key.replace("norm.", "ln1.") if key.startswith("norm.") else key


@pytest.fixture
def mae(tmp_path: Path) -> tuple[nn.Module, Path]:
    """A file as mmpretrain's MAE runs leave it."""
    encoder = scrambled(BACKBONES.build(dict(VIT)))
    weights = {f"backbone.{mmpretrain_name(k)}": v for k, v in encoder.state_dict().items()}
    weights |= {f"neck.decoder_blocks.{i}.ln1.weight": torch.ones(8) for i in range(8)}
    weights |= {"neck.mask_token": torch.ones(1, 1, 8), "data_preprocessor.mean": torch.ones(3, 1, 1)}
    path = tmp_path / "mae.pth"
    torch.save({"meta": {"epoch": 3}, "state_dict": weights, "message_hub": {}}, path)
    return encoder, path


def test_a_run_of_mmpretrain_fills_the_encoder(mae, tmp_path) -> None:
    encoder, path = mae
    config = tmp_path / "config.py"
    config.write_text(f"model = {vit_classifier(1000)!r}\n")
    model = get_model(config, pretrained=path, head=dict(num_classes=2))
    report = model.pretrain_report
    names = [n for n in encoder.state_dict() if not n.startswith("norm.")]
    assert set(report.loaded) == {f"backbone.{n}" for n in names}
    assert same(model.backbone, encoder, names)
    assert set(report.fresh) == {
        "backbone.fc_norm.weight",
        "backbone.fc_norm.bias",
        "head.fc.weight",
        "head.fc.bias",
    }
    assert {k.split(".")[0] for k in report.unexpected} == {"backbone", "neck", "data_preprocessor"}
    assert report.dialect == "mmpretrain"
    assert len(str(report).splitlines()) <= 4
    assert "neck.* (9)" in str(report)
    assert not model.training
    logits = model(torch.ones(1, 3, 32, 32))
    assert logits.shape == (1, 2)
    features = model.backbone(torch.ones(1, 3, 32, 32))[-1]
    assert torch.allclose(logits, features @ model.head.fc.weight.T + model.head.fc.bias, atol=1e-6)


def test_pretrained_is_true_false_or_a_path(mae) -> None:
    _, path = mae
    named = vit_classifier()
    named["backbone"]["pretrain"] = str(path)
    assert get_model(dict(model=named)).backbone.pretrain_report.coverage > 0.9
    bare = get_model(dict(model=named), pretrained=False)
    assert not hasattr(bare.backbone, "pretrain_report")
    assert named["backbone"]["pretrain"] == str(path)


@pytest.mark.parametrize("words", ["pretrain", "init_cfg"])
def test_a_mirror_stands_in_for_an_address(mae, words) -> None:
    encoder, path = mae
    named = vit_classifier()
    address = "https://nowhere.invalid/models/mae.pth"
    named["backbone"][words] = address if words == "pretrain" else dict(type="Pretrained", checkpoint=address)
    model = get_model(named, url_mapping=(r"https://nowhere\.invalid/models", str(path.parent)))
    assert torch.equal(model.backbone.cls_token, encoder.cls_token)


def test_every_key_is_in_exactly_one_list(file) -> None:
    report = MODELS.build(
        resnet_classifier(200, pretrain=dict(path=str(file), ignore_keys=["*.bn1.bias"]))
    ).pretrain_report
    fates = [*report.loaded, *report.fresh, *report.mismatched, *report.ignored, *report.computed]
    model = MODELS.build(resnet_classifier(200))
    assert sorted(fates) == sorted(model.state_dict()) == sorted(report.tensors)
    used = {source for record in report.tensors.values() for source in record.sources}
    in_file = {f"state_dict.module.{k}" for k in model.state_dict()}
    rest = {f"state_dict.{k}" for k in report.unexpected}
    assert used | rest == in_file and not used & rest


def test_names_of_wrappers_do_not_matter_on_either_side(source, tmp_path) -> None:
    weights = {f"_orig_mod.module.{k}": v for k, v in source.state_dict().items()}
    torch.save(weights, tmp_path / "compiled.pt")
    wrapped = nn.DataParallel(MODELS.build(resnet_classifier(100)))
    load_pretrained(wrapped, tmp_path / "compiled.pt")
    assert same(wrapped.module, source)


def test_dtype_and_memory_stay_the_models(source, tmp_path) -> None:
    half = {k: v.half() if v.is_floating_point() else v for k, v in source.state_dict().items()}
    path = tmp_path / "half.safetensors"
    safetensors.torch.save_file(half, path)
    model = MODELS.build(resnet_classifier(100, pretrain=str(path)))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.equal(model.backbone.conv1.weight, half["backbone.conv1.weight"].float())
    path.write_bytes(b"overwritten")
    assert torch.equal(model.backbone.conv1.weight, half["backbone.conv1.weight"].float())


def test_the_file_may_vanish_after_the_load(source, file) -> None:
    """In a process of its own, as a live map of a truncated file would end it by SIGBUS."""
    code = (
        "import sys, os, torch; from framework import MODELS\n"
        f"m = MODELS.build({resnet_classifier(100, pretrain=str(file))!r})\n"
        f"os.truncate({str(file)!r}, 0); print(sum(p.detach().sum().item() for p in m.parameters()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    total = float(done.stdout.strip().splitlines()[-1])
    assert total == pytest.approx(sum(p.detach().sum().item() for p in source.parameters()), rel=1e-4)


def test_a_map_is_kept_on_request(source, tmp_path) -> None:
    path = tmp_path / "plain.safetensors"
    safetensors.torch.save_file(source.state_dict(), path)
    mapped = MODELS.build(resnet_classifier(100, pretrain=dict(path=str(path), mmap=True)))
    assert same(mapped, source)
    with torch.no_grad():
        mapped.backbone.conv1.weight.zero_()  # private: the file stays as it is
    assert torch.equal(
        safetensors.torch.load_file(path)["backbone.conv1.weight"], source.backbone.conv1.weight
    )


def test_a_refused_load_leaves_the_module_as_it_was(file, tmp_path) -> None:
    module = scrambled(BACKBONES.build(dict(VIT)))
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(CoverageError, match="fill nothing of the module"):
        load_pretrained(module, file)
    plain = scrambled(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 400)))
    torch.save({"0.weight": torch.ones(4, 4), "0.bias": torch.ones(4)}, tmp_path / "part.pth")
    kept = copy.deepcopy(plain.state_dict())
    with pytest.raises(CoverageError, match=r"only 1\.0% of the parameters"):
        load_pretrained(plain, tmp_path / "part.pth")
    with pytest.raises(MismatchError, match="strict"):
        load_pretrained(plain, dict(path=tmp_path / "part.pth", strict=True, min_coverage=0))
    for one, two in ((module.state_dict(), before), (plain.state_dict(), kept)):
        assert all(torch.equal(one[k], two[k]) for k in two)
    load_pretrained(plain, dict(path=tmp_path / "part.pth", min_coverage=0.001))
    assert plain[0].weight.eq(1).all()


def test_ignored_keys_keep_their_values_and_idle_patterns_are_told(file) -> None:
    field = dict(path=str(file), ignore_keys=["head", "backbone.bn1.weight", "backbone.layer9"])
    model = MODELS.build(resnet_classifier(100, pretrain=field))
    report = model.pretrain_report
    assert set(report.ignored) == {"head.fc.weight", "head.fc.bias", "backbone.bn1.weight"}
    assert model.backbone.bn1.weight.eq(1).all() and model.head.fc.weight.abs().max() < 0.5
    assert report.idle_ignores == (
        "backbone.layer9: did you mean backbone.layer4, backbone.layer3, backbone.layer2?",
    )
    assert not report.clean and "no effect: ignore_keys backbone.layer9" in str(report)
    assert not report.unexpected and "unused" not in str(report)
    assert report.tensors["head.fc.bias"].sources == ("state_dict.module.head.fc.bias",)


def test_loaded_weights_survive_init_weights_and_the_rest_does_not(mae) -> None:
    encoder, path = mae
    init = [dict(type="Constant", layer=["Linear", "LayerNorm", "Conv2d"], val=3.0, bias=4.0)]
    cfg = vit_classifier(init_cfg=init)
    cfg["backbone"]["pretrain"] = str(path)
    model = MODELS.build(cfg)
    copied = copy.deepcopy(model)
    for one in (model, copied):
        one.init_weights()
        assert torch.equal(one.backbone.blocks[0].attn.qkv.weight, encoder.blocks[0].attn.qkv.weight)
        assert torch.equal(one.backbone.patch_embed.proj.bias, encoder.patch_embed.proj.bias)
        assert one.head.fc.weight.eq(3).all() and one.backbone.fc_norm.bias.eq(4).all()


def test_replaced_tensors_come_back(mae) -> None:
    encoder, path = mae
    module = BACKBONES.build(dict(VIT, pretrain=str(path)))
    with protect_loaded(module):
        module.cls_token.data = torch.zeros_like(module.cls_token)
    assert torch.equal(module.cls_token, encoder.cls_token)


def test_an_outer_pretrain_beats_an_inner_one(source, file, tmp_path) -> None:
    inner = tmp_path / "inner.pth"
    torch.save({k: torch.zeros_like(v) for k, v in source.backbone.state_dict().items()}, inner)
    cfg = resnet_classifier(100, pretrain=str(file))
    cfg["backbone"]["pretrain"] = str(inner)
    assert same(MODELS.build(cfg), source)


def test_init_cfg_of_mmengine_means_the_same(source, file) -> None:
    init = dict(type="Pretrained", checkpoint=str(file), prefix="backbone.")
    assert same(BACKBONES.build(dict(RESNET, init_cfg=init)), source.backbone)


def test_tied_and_shared_memory_is_kept(tmp_path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(3, 3, bias=False)
            self.two = nn.Linear(3, 3, bias=False)
            self.two.weight = self.one.weight
            flat = torch.zeros(18)
            self.a, self.b = nn.Parameter(flat[:9].view(3, 3)), nn.Parameter(flat[9:].view(3, 3))

    source = scrambled(Tied())
    weights = {k: v for k, v in source.state_dict().items() if k != "two.weight"}
    torch.save(weights, tmp_path / "tied.pth")
    model = Tied()
    storage = model.a.untyped_storage().data_ptr()
    report = load_pretrained(model, tmp_path / "tied.pth")
    assert same(model, source) and model.one.weight is model.two.weight
    assert model.a.untyped_storage().data_ptr() == storage == model.b.untyped_storage().data_ptr()
    assert report.clean, "a name of a tied tensor that was loaded is not missing"


def test_a_dry_run_changes_nothing(source, file) -> None:
    module = MODELS.build(resnet_classifier(200))
    before = copy.deepcopy(module.state_dict())
    report = plan_pretrained(module, file)
    assert report.to_dict()["mismatched"]["head.fc.bias"] == [[200], [100]]
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert not hasattr(module, "pretrain_report")


def test_values_survive_wrapping_and_copies(source, file) -> None:
    model = MODELS.build(resnet_classifier(100, pretrain=str(file)))
    assert same(copy.deepcopy(model), source) and same(nn.DataParallel(model).module, source)
    assert same(torch.compile(model)._orig_mod, source)


@pytest.mark.parametrize(
    ("pretrain", "error", "words"),
    [
        ("nowhere.pth", NotFoundError, ["nowhere.pth"]),
        (dict(path="{file}", sublevel="backbone"), SpecError, ["model.pretrain.sublevel", "sub_level"]),
        (3, SpecError, ["model.pretrain", "int"]),
        (
            dict(path="{file}", sub_level="backbon"),
            MismatchError,
            ["backbon", "did you mean backbone", "head"],
        ),
        (dict(path="{file}", key="state"), MismatchError, ["no entry 'state'", "state_dict"]),
        (dict(path="{file}", dialect="tim"), SpecError, ["did you mean timm", "mmpretrain"]),
        (dict(path="{file}", revise_keys=[(".*", "x")]), MismatchError, ["both called", "revise_keys"]),
        ("{text}", PretrainError, ["{text}"]),
        ("{half}", PretrainError, ["{half}"]),
    ],
)
def test_bad_input_gets_a_clear_error(pretrain, error, words, file, tmp_path) -> None:
    text, half = tmp_path / "readme.pth", tmp_path / "half.pth"
    text.write_text("These are not the weights.")
    half.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    places = dict(file=file, text=text, half=half)
    if isinstance(pretrain, dict):
        pretrain = {k: v.format(**places) if isinstance(v, str) else v for k, v in pretrain.items()}
    elif isinstance(pretrain, str):
        pretrain = pretrain.format(**places)
    with pytest.raises(error) as caught:
        MODELS.build(resnet_classifier(100, pretrain=pretrain))
    for word in words:
        assert word.format(**places) in str(caught.value)


def test_only_modules_load_weights(file) -> None:
    with pytest.raises(SpecError, match=r"only a torch.nn.Module"):
        framework.MODELS.build(dict(type=dict, pretrain=str(file)))


def test_a_config_without_a_model_is_named(tmp_path) -> None:
    empty = tmp_path / "empty.py"
    empty.write_text("a = 1\n")
    with pytest.raises(framework.ConfigError, match=r"empty\.py has no `model`"):
        get_model(empty)
    with pytest.raises(framework.ConfigError, match=r"did you mean .*empty\.py"):
        get_model(tmp_path / "empt.py")
