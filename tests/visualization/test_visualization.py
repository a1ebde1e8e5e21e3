from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from framework import MODELS
from framework.datasets import DatasetError, Digits
from framework.engine import Runner
from framework.engine.reconstruction_hook import ReconstructionHook
from framework.errors import ConfigError
from framework.visualization import attention_of, reconstruct
from framework.visualization.cli import visualize_command
from framework.visualization.features import features_of, project
from framework.visualization.pixels import limits_of, mosaic, to_rgb
from framework.visualization.reconstruction import MASK_COLOUR

CONFIGS = Path(__file__).parents[2] / "configs"
MAE, SIMMIM = (CONFIGS / name / f"{name}_vit-nano_digits.py" for name in ("mae", "simmim"))
ARCH = {"embed_dims": 16, "num_layers": 2, "num_heads": 2, "feedforward_channels": 16}
GREY = {"img_size": 8, "patch_size": 2, "in_channels": 1}


def build(config, **changes):
    torch.manual_seed(0)
    cfg = Config.fromfile(config, format_python_code=False)
    cfg.merge_from_dict({f"model.{name}": value for name, value in changes.items()})
    return MODELS.build(cfg.model)


@pytest.fixture(scope="module")
def images():
    return Digits("test").images[:6]


@pytest.mark.parametrize(("config", "norm_pix"), [(MAE, False), (MAE, True), (SIMMIM, None)])
def test_visible_pixels_are_those_of_the_image(config, norm_pix, images):
    model = build(config, **({} if norm_pix is None else {"head.norm_pix": norm_pix})).train()
    state = torch.get_rng_state()
    found = reconstruct(model, images, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    masked = found.mask.bool()
    assert 0 < masked.float().mean() < 1
    assert torch.equal(found.pasted[~masked], images.float()[~masked])
    assert torch.equal(found.pasted[masked], found.predicted[masked])
    original, hidden, filled = found.pictures()
    assert torch.equal(original, images.expand(-1, 3, -1, -1))
    assert torch.equal(filled[:, :1][~masked], images[~masked])
    colours = hidden.permute(0, 2, 3, 1)[masked[:, 0]]
    assert (colours == torch.tensor(MASK_COLOUR)).all()
    assert torch.equal(hidden[:, :1][~masked], images[~masked])
    assert torch.equal(reconstruct(model, images, seed=3).predicted, found.predicted)
    assert not torch.equal(reconstruct(model, images, seed=4).mask, found.mask)


def test_predictions_come_back_to_the_units_of_the_image(images):
    class Perfect(torch.nn.Module):
        def reconstruct(self, inputs):
            return inputs, torch.ones(len(inputs), 1, 8, 8)

    model = Perfect()
    preprocessor = {
        "type": "SelfSupDataPreprocessor",
        "mean": [7.0, 8, 9],
        "std": [2.0, 3, 4],
        "to_rgb": True,
    }
    model.data_preprocessor = MODELS.build(preprocessor)
    colour = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(reconstruct(model, colour).predicted, colour.float())


VITS = {
    "plain": {"type": "VisionTransformer"},
    "rotary, registers": {"type": "VisionTransformer", "rope": {}, "num_registers": 2, "qkv_bias": "qv_bias"},
    "relative": {"type": "BEiTViT"},
}


@pytest.mark.parametrize("backbone", VITS.values(), ids=VITS)
def test_attention_gives_the_output_of_the_layer(backbone, images):
    torch.manual_seed(0)
    part = MODELS.build({**backbone, "arch": ARCH, **GREY, "out_type": "cls_token"})
    for parameter in part.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model = MODELS.build({"type": "Classifier", "backbone": part, "head": None})
    kept = {}
    attn = part.blocks[1].attn
    attn.qkv.register_forward_hook(lambda module, given, out: kept.update(x=given[0]))
    attn.register_forward_hook(lambda module, given, out: kept.update(given=given[0], out=out))
    found = attention_of(model, images.float())
    torch.testing.assert_close(found.weights.sum(-1), torch.ones(found.weights.shape[:-1]))
    bias = torch.zeros(48) if attn.qkv.bias is None else attn.qkv.bias
    value = (kept["given"] @ attn.qkv.weight.T + bias).chunk(3, -1)[2]
    value = value if getattr(attn, "v_bias", None) is None else value + attn.v_bias
    heads = value.unflatten(-1, (2, 8)).transpose(1, 2)
    mixed = (found.weights @ heads).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attn.proj(mixed), kept["out"], atol=1e-4, rtol=1e-4)
    prefix = part.num_prefix_tokens
    assert torch.equal(found.of_class_token.flatten(2), found.weights[:, :, 0, prefix:])
    assert found.of_class_token.shape == (6, 2, 4, 4)


def test_attention_is_the_explicit_loop(images):
    model = build(MAE)
    kept = {}
    attn = model.backbone.blocks[0].attn
    attn.qkv.register_forward_hook(lambda module, given, out: kept.update(qkv=out))
    weights = attention_of(model, images, layer=0).weights
    query, key, _ = kept["qkv"][2].double().view(17, 3, 4, 16).unbind(1)
    for head in range(4):
        scores = [math.exp(float(query[0, head] @ key[j, head]) / 4) for j in range(17)]
        expected = torch.tensor([score / sum(scores) for score in scores])
        torch.testing.assert_close(weights[2, head, 0], expected, atol=1e-6, rtol=1e-5)


def test_attention_of_what_has_none(images):
    with pytest.raises(ConfigError, match="which ResNet does not have"):
        attention_of(
            MODELS.build({"type": "Classifier", "backbone": {"type": "ResNet", "depth": 18}}), images
        )
    bare = MODELS.build(
        {"type": "VisionTransformer", "arch": ARCH, **GREY, "with_cls_token": False, "out_type": "featmap"}
    )
    with pytest.raises(ConfigError, match="built without one"):
        attention_of(bare, images)
    with pytest.raises(ConfigError, match="layers 0 to 3, or -4 to -1; got 4"):
        attention_of(build(MAE), images, layer=4)


def test_pca_is_the_decomposition_of_the_covariance():
    values = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)).double() * torch.arange(1, 6)
    places, about = project(values)
    centred = values - values.mean(0)
    variances, directions = torch.linalg.eigh(centred.T @ centred)
    expected = (centred @ directions[:, [-1, -2]]).abs().numpy()
    np.testing.assert_allclose(np.abs(places), expected, atol=1e-8)
    assert about == f"{float(variances[-2:].sum() / variances.sum()):.0%} of the variance"


def test_tsne_keeps_clusters_together():
    generator = torch.Generator().manual_seed(0)
    centres = torch.eye(3, 8).repeat_interleave(8, 0) * 20
    places, about = project(centres + torch.randn(24, 8, generator=generator), "tsne")
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1) + np.eye(24) * 1e9
    assert (distances.argmin(1) // 8 == np.arange(24) // 8).all() and about == "perplexity 7.67"


def test_features_of_tokens_are_averaged(images):
    model = build(MAE)
    features = features_of(model, [images[:4], images[4:]])
    tokens = model.backbone((images.float() - 77.93) / 95.87, mask=None)[-1]
    torch.testing.assert_close(features, tokens[:, 1:].mean(1))
    for wrong in (torch.ones(2, 4), torch.ones(5, 1)):
        with pytest.raises(ConfigError, match="cannot be placed"):
            project(wrong)


def test_pixels():
    assert limits_of(torch.zeros(1, dtype=torch.uint8)) == (0, 255)
    assert limits_of(torch.tensor([0.0, 0.9])) == (0, 1)
    assert limits_of(torch.tensor([0.0, 9.0])) == (0, 255)
    assert limits_of(torch.tensor([-2.0, 3.0])) == (-2, 3)
    column = torch.arange(2 * 3 * 2 * 2, dtype=torch.uint8).view(2, 3, 2, 2)
    picture = mosaic([column, column + 100], least=4, gap=1)
    assert picture.shape == (9, 9, 3)
    assert torch.equal(picture[:4:2, :4:2].permute(2, 0, 1), column[0])
    assert torch.equal(picture[5::2, 5::2].permute(2, 0, 1), column[1] + 100)
    assert (picture[4] == 255).all() and (picture[:, 4] == 255).all()
    with pytest.raises(ConfigError, match="2 channels cannot be drawn"):
        to_rgb(torch.ones(1, 2, 4, 4), (0, 1))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "mae.pth"
    torch.save({"state_dict": build(MAE).state_dict()}, path)
    return path


def test_commands_draw(checkpoint, tmp_path):
    Image.new("RGB", (30, 20), "white").save(tmp_path / "one.png")
    (tmp_path / "more").mkdir()
    Image.new("L", (8, 8), 7).save(tmp_path / "more" / "two.png")
    files = (str(tmp_path / "one.png"), str(tmp_path / "more"))
    for command, images, said in (
        ("mae", files, "2 images; root mean square error"),
        ("attention", ("digits", "--count", "2"), "2 images, 4 heads, 4 x 4 patches"),
        ("features", ("--count", "20"), "PCA of the features of 20 images: "),
    ):
        out = tmp_path / "new" / f"{command}.png"
        assert said in visualize_command([command, str(MAE), str(checkpoint), *images, "-o", str(out)])
        with Image.open(out) as picture:
            assert np.asarray(picture).std() > 10


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (["mae", MAE, "none.png"], ConfigError, "There is no image or folder none.png"),
        (["mae", MAE, "-o", "a.xyz"], ConfigError, "a.xyz cannot be drawn: its suffix must be one of"),
        (["mae", MAE, "--count", "0"], ConfigError, "--count must be at least 1, got 0"),
        (["mae", MAE, "broken.png"], DatasetError, "broken.png cannot be read"),
        (["mae", CONFIGS / "quickstart.py"], ConfigError, "Classifier reconstructs no images"),
    ],
)
def test_errors(given, error, message, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("broken.png").write_bytes(b"no image")
    what, config, *rest = map(str, given)
    with pytest.raises(error, match=message):
        visualize_command([what, config, str(checkpoint), *rest])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("by_epoch", [True, False])
def test_training_sends_reconstructions_and_stays_the_same(by_epoch, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    def weights(name, hooks):
        cfg = Config.fromfile(MAE, format_python_code=False)
        cfg.train_dataloader.update(num_workers=0, persistent_workers=False, batch_size=32)
        cfg.train_dataloader.dataset.test_size = 1697
        cfg.update(work_dir=str(tmp_path / name), custom_hooks=hooks, param_scheduler=None)
        cfg.train_cfg.max_epochs = 2
        cfg.visualizer = {"type": "Visualizer", "vis_backends": [{"type": "TensorboardVisBackend"}]}
        runner = Runner.from_cfg(cfg)
        runner.train()
        runner.close()
        return runner, runner.bare_model.state_dict()

    interval = 1 if by_epoch else 4
    hook = {"type": "ReconstructionHook", "interval": interval, "by_epoch": by_epoch, "count": 3}
    runner, state = weights("with", [hook])
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, ReconstructionHook))
    plain = weights("without", None)[1]
    assert all(torch.equal(plain[name], value) for name, value in state.items())
    events = accumulator.EventAccumulator(str(Path(runner.log_dir, "vis_data"))).Reload()
    sent = events.Images("reconstruction")
    assert [event.step for event in sent] == ([3, 6] if by_epoch else [4, 6])
    (tmp_path / "sent.png").write_bytes(sent[-1].encoded_image_string)
    with Image.open(tmp_path / "sent.png") as picture:
        expected = mosaic(reconstruct(runner.bare_model, hook.images).pictures())
        assert np.array_equal(np.asarray(picture), expected.numpy())


def test_hooks_refuse_nonsense():
    with pytest.raises(ConfigError, match="interval must be at least 1, got 0"):
        ReconstructionHook(interval=0)
