"""CLIP's visual tower: archives like OpenAI's, and open_clip's files; our features are open_clip's."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from framework import BACKBONES, MODELS
from framework.pretrain import export, load_pretrained
from framework.pretrain.errors import MismatchError

open_clip = pytest.importorskip("open_clip")

TEXT = dict(context_length=8, vocab_size=16, width=8, heads=2, layers=1)
VISION = dict(layers=2, width=32, head_width=8, mlp_ratio=2.0, patch_size=8, image_size=32)
ARCH = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
CLIP_VIT = dict(
    type="VisionTransformer",
    arch=ARCH,
    img_size=32,
    patch_size=8,
    pre_norm=True,
    norm_cfg=dict(type="LN", eps=1e-5),
)
QUICK = dict(layer_cfgs=dict(act_cfg=dict(type="QuickGELU")))


def clip(**vision: object) -> nn.Module:
    quick = not vision
    return open_clip.model.CLIP(16, dict(VISION, **vision), TEXT, quick_gelu=quick).eval()


def images() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def tokens(model: nn.Module) -> Tensor:
    """All tokens behind `ln_post`, class token first."""
    found = {}
    hook = model.visual.ln_post.register_forward_hook(lambda m, i, out: found.update(tokens=out))
    model.visual(images())
    hook.remove()
    return found["tokens"]


@torch.no_grad()
def ours_on(model: nn.Module) -> Tensor:
    return model.eval()(images())[-1]


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("whole", [True, False], ids=["fp16", "fp16 but for norms"])
def test_an_archive_like_openais(whole, tmp_path, filled, assert_close) -> None:
    theirs = filled(clip())
    if whole:
        theirs.half()
    else:
        open_clip.model.convert_weights_to_fp16(theirs)
    for name, value in (("input_resolution", 32), ("number_of_layers", 2)):
        theirs.register_buffer(name, torch.tensor(value))
    torch.jit.save(torch.jit.script(theirs), tmp_path / "ViT-tiny.pt")
    ours = BACKBONES.build(dict(CLIP_VIT, **QUICK, out_type="raw", pretrain=str(tmp_path / "ViT-tiny.pt")))
    report = ours.pretrain_report
    assert (report.format, report.dialect, report.prefix) == ("torchscript", "clip", "visual.")
    assert not report.fresh and not report.mismatched
    assert "visual.proj" in report.unexpected and ours.pos_embed.dtype == torch.float32
    assert_close(ours_on(ours), tokens(theirs.float()))


def test_transformers_takes_the_archives_weights(tmp_path, filled, assert_close) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = filled(clip())
    torch.save(theirs.state_dict(), tmp_path / "open_clip.pt")
    config = transformers.CLIPVisionConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
        projection_dim=16,
    )
    head = dict(type="LinearClsHead", in_channels=32, num_classes=16)
    ours = MODELS.build(
        dict(
            type="ImageClassifier",
            backbone=dict(CLIP_VIT, **QUICK),
            head=head,
            pretrain=str(tmp_path / "open_clip.pt"),
        )
    ).eval()
    assert ours.pretrain_report.fresh == ("head.fc.bias",)
    ours.head.fc.bias.data.zero_()
    with torch.no_grad():
        embedded = theirs.visual(images())
        assert_close(ours(images()), embedded)
    with pytest.raises(MismatchError, match=r"'clip' has no place for head.fc.bias"):
        export(ours, "clip")
    ours.head.fc.bias = None
    written = export(ours, "clip")
    assert all(torch.equal(written[n], t) for n, t in theirs.state_dict().items() if n.startswith("visual."))

    projected = transformers.CLIPVisionModelWithProjection(config)
    written = export(ours, "huggingface_clip")
    safetensors.torch.save_file(written, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(tmp_path)
    again, info = type(projected).from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    with torch.no_grad():
        assert_close(again.eval()(images()).image_embeds, embedded)
        load_pretrained(projected, tmp_path / "open_clip.pt")
        assert_close(projected.eval()(images()).image_embeds, embedded)


@pytest.mark.parametrize("container", ["flat", "training"])
def test_open_clips_own_tower(container, tmp_path, filled, assert_close) -> None:
    """With plain GELU and layer scale, as open_clip's own trainings may have it."""
    theirs = filled(clip(ls_init_value=0.1))
    weights = dict(theirs.state_dict())
    if container == "training":
        named = {f"module.{name}": tensor for name, tensor in weights.items()}
        weights = dict(epoch=3, name="run", state_dict=named, optimizer=dict(state={}))
    torch.save(weights, tmp_path / "epoch_3.pt")
    config = dict(CLIP_VIT, layer_scale_init_value=1.0, out_type="raw", pretrain=str(tmp_path / "epoch_3.pt"))
    ours = BACKBONES.build(config)
    assert not ours.pretrain_report.fresh and ours.pretrain_report.dialect == "clip"
    assert_close(ours_on(ours), tokens(theirs))


def test_open_clip_around_a_network_of_timm(tmp_path, filled, assert_close) -> None:
    vision = dict(timm_model_name="test_vit", timm_pool="token", timm_proj="linear", image_size=160)
    theirs = filled(open_clip.model.CustomTextCLIP(16, vision, TEXT)).eval()
    safetensors.torch.save_model(theirs, str(tmp_path / "open_clip_model.safetensors"))
    arch = dict(embed_dims=64, num_layers=6, num_heads=2, feedforward_channels=192)
    config = dict(type="VisionTransformer", arch=arch, img_size=160, patch_size=16, out_type="raw")
    ours = BACKBONES.build(dict(config, pretrain=str(tmp_path / "open_clip_model.safetensors")))
    assert ours.pretrain_report.prefix == "visual.trunk." and not ours.pretrain_report.fresh
    pixels = torch.randn(1, 3, 160, 160)
    with torch.no_grad():
        assert_close(ours.eval()(pixels)[-1], theirs.visual.trunk.forward_features(pixels))
