"""DeiT with a distillation token and DeiT III against timm's."""

import pytest
import torch
from torch import nn

from framework.errors import ConfigError
from framework.models.backbones import DeiT3, DistilledVisionTransformer
from framework.models.heads import DeiTClsHead
from framework.registry import BACKBONES, MODELS

ARCH = {"embed_dims": 48, "num_layers": 2, "num_heads": 3, "feedforward_channels": 96}
SIZES = {"arch": ARCH, "img_size": 32, "patch_size": 8}
THEIRS = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "mlp_ratio": 2}


def randomise(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(3)
    for tensor in model.state_dict().values():
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
    return model.eval()


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_logits_of_the_distilled_transformer_equal_timms() -> None:
    deit = pytest.importorskip("timm.models.deit")
    oracle = randomise(deit.VisionTransformerDistilled(**THEIRS, num_classes=5))
    head = {"type": "DeiTClsHead", "num_classes": 5}
    backbone = {"type": "DistilledVisionTransformer", **SIZES}
    model = MODELS.build({"type": "Classifier", "backbone": backbone, "head": head}).eval()
    names = {"head.": "head.fc.", "head_dist.": "head.fc_dist."}
    weights = {}
    for key, value in oracle.state_dict().items():
        owner = key.split(".")[0] + "."
        weights[key.replace(owner, names[owner]) if owner in names else f"backbone.{key}"] = value
    model.load_state_dict(weights)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        close(model(images), oracle(images))
        cls_token, dist_token = model.backbone(images)[0]
        tokens = oracle.forward_features(images)
        close(torch.stack((cls_token, dist_token), 1), tokens[:, :2])


@pytest.mark.parametrize("out_type", ["raw", "featmap", "avg_featmap"])
def test_other_features_of_the_distilled_transformer(out_type: str) -> None:
    raw = DistilledVisionTransformer(**SIZES, out_type="raw", num_registers=1).eval()
    model = DistilledVisionTransformer(**SIZES, out_type=out_type, num_registers=1).eval()
    model.load_state_dict(raw.state_dict(), strict=False)
    images = torch.randn(1, 3, 32, 48)
    (tokens,), (feature,) = raw(images), model(images)
    assert model.num_prefix_tokens == 3 and tokens.shape == (1, 3 + 24, 48)
    patches = tokens[:, 3:]
    expected = {
        "raw": tokens,
        "featmap": patches.transpose(1, 2).reshape(1, 48, 4, 6),
        "avg_featmap": nn.functional.layer_norm(patches.mean(1), (48,), eps=1e-6),
    }
    close(feature, expected[out_type])


def test_the_distillation_token_is_frozen_and_initialised_with_the_others() -> None:
    model = DistilledVisionTransformer(**SIZES, frozen_stages=0)
    assert not model.dist_token.requires_grad and model.dist_token.abs().min() > 0
    assert model.get_layer_depth("dist_token") == (0, 4)
    assert [n for n, _ in model.named_parameters()][:3] == ["dist_token", "cls_token", "pos_embed"]
    with pytest.raises(ConfigError, match="with_cls_token=True"):
        BACKBONES.build({"type": "DistilledVisionTransformer", **SIZES, "with_cls_token": False})


@pytest.mark.parametrize("scaled", [True, False])
def test_features_of_deit3_equal_timms(scaled: bool) -> None:
    vit = pytest.importorskip("timm.models.vision_transformer")
    theirs = {**THEIRS, "num_classes": 0, "no_embed_class": True, "init_values": 1e-4 if scaled else None}
    oracle = randomise(vit.VisionTransformer(**theirs))
    model = DeiT3(**SIZES, use_layer_scale=scaled).eval()
    model.load_state_dict(oracle.state_dict())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        close(model(images)[0], oracle(images))


@pytest.mark.parametrize("name", ["small", "medium", "base", "l", "h"])
def test_named_sizes_are_timms(name: str) -> None:
    timm = pytest.importorskip("timm")
    full = {"l": "large", "h": "huge"}.get(name, name)
    patch = 14 if full == "huge" else 16
    with torch.device("meta"):
        oracle = timm.create_model(f"deit3_{full}_patch{patch}_224", num_classes=0).state_dict()
        model = DeiT3(name, patch_size=patch)
    ours = {key: value.shape for key, value in model.state_dict().items()}
    assert ours == {key: value.shape for key, value in oracle.items()}


def test_layer_scale_of_deit3_starts_small() -> None:
    assert DeiT3(**SIZES).blocks[1].ls2.gamma.tolist() == [pytest.approx(1e-4)] * 48
    with pytest.raises(ConfigError, match="DeiT3 has no arch 'giant'"):
        BACKBONES.build({"type": "DeiT3", "arch": "giant"})


def test_the_head_wants_pairs_of_tokens() -> None:
    head = DeiTClsHead(3, 4, hidden_dim=5)
    for parameter in head.parameters():
        nn.init.normal_(parameter)
    pair = torch.randn(2, 4), torch.randn(2, 4)
    first, second = (torch.tanh(head.hidden.fc(token)) for token in pair)
    close(head((None, pair)), (head.fc(first) + head.fc_dist(second)) / 2)
    assert DeiTClsHead(3, 4).fc_dist.weight.abs().max() == 0
    with pytest.raises(ValueError, match="DistilledVisionTransformer"):
        head((torch.randn(2, 4),))
