"""MAE against transformers' model of that name, and checkpoints of others that go on training here."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch

from framework import MODELS
from framework.pretrain import export
from framework.pretrain.errors import MismatchError

transformers = pytest.importorskip("transformers")

ARCH = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
DECODER = dict(decoder_embed_dim=24, decoder_depth=1, decoder_num_heads=2, mlp_ratio=2.0)


def config(norm_pix: bool, pretrain: object) -> dict:
    return dict(
        type="MAE",
        backbone=dict(type="MAEViT", arch=ARCH, img_size=16, patch_size=4),
        neck=dict(type="MAEPretrainDecoder", num_patches=16, patch_size=4, embed_dim=32, **DECODER),
        head=dict(
            type="MAEPretrainHead",
            norm_pix=norm_pix,
            patch_size=4,
            loss=dict(type="PixelReconstructionLoss", criterion="L2"),
        ),
        pretrain=pretrain,
    )


def theirs(norm_pix: bool = True):
    model = transformers.ViTMAEForPreTraining(
        transformers.ViTMAEConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            image_size=16,
            patch_size=4,
            decoder_hidden_size=24,
            decoder_num_hidden_layers=1,
            decoder_num_attention_heads=2,
            decoder_intermediate_size=48,
            norm_pix_loss=norm_pix,
            layer_norm_eps=1e-6,
        )
    )
    for parameter in model.parameters():  # positions, tokens and biases, too
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def published(model, folder) -> dict[str, torch.Tensor]:
    """The weights by the names of the published files, which transformers 5 writes except in the decoder."""
    model.save_pretrained(folder / "saved")
    saved = safetensors.torch.load_file(folder / "saved" / "model.safetensors")
    return {k.replace(".decoder_encoder.layer.", ".decoder_layers."): v for k, v in saved.items()}


@pytest.mark.parametrize("norm_pix", [False, True])
def test_predictions_loss_and_gradients_are_theirs(norm_pix: bool, tmp_path) -> None:
    torch.manual_seed(0)
    other = theirs(norm_pix)
    torch.save(published(other, tmp_path), tmp_path / "pytorch_model.bin")
    model = MODELS.build(config(norm_pix, str(tmp_path / "pytorch_model.bin"))).eval()
    assert model.pretrain_report.coverage == 1
    images, noise = torch.rand(2, 3, 16, 16), torch.rand(2, 16)
    expected = other(pixel_values=images, noise=noise)
    latent, mask, ids_restore = model.backbone(images, noise=noise)
    assert torch.equal(mask, expected.mask)
    assert torch.equal(ids_restore, expected.ids_restore)
    assert torch.allclose(model.neck(latent, ids_restore), expected.logits, atol=1e-5)
    loss = model.loss(images, noise=noise)["loss"]
    assert loss.item() == pytest.approx(expected.loss.item(), rel=1e-5)
    loss.backward()
    expected.loss.backward()
    ours = model.backbone.patch_embed.proj.weight.grad
    assert torch.allclose(ours, other.vit.embeddings.patch_embeddings.projection.weight.grad, atol=1e-6)


def mmpretrain(name: str) -> str:
    """The name in mmpretrain of one of ours."""
    for there, here in (
        ("backbone.blocks.", "backbone.layers."),
        ("norm1.", "ln1."),
        ("norm2.", "ln2."),
        ("mlp.fc1.", "ffn.layers.0.0."),
        ("mlp.fc2.", "ffn.layers.1."),
        ("backbone.norm.", "backbone.ln1."),
        ("neck.decoder_norm.", "neck.ln1."),
        ("patch_embed.proj.", "patch_embed.projection."),
    ):
        name = name.replace(there, here)
    return name


def official(name: str) -> str:
    """The name in the official files of one of ours."""
    return name.removeprefix("backbone.").removeprefix("neck.")


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("rename", [official, mmpretrain])
def test_checkpoints_of_others_fill_encoder_and_decoder(rename, prefix: str, tmp_path) -> None:
    torch.manual_seed(0)
    source = MODELS.build(config(True, None))
    for parameter in source.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    weights = {prefix + rename(name): value for name, value in source.state_dict().items()}
    torch.save({"model": weights, "epoch": 3}, tmp_path / "checkpoint.pth")
    model = MODELS.build(config(True, str(tmp_path / "checkpoint.pth")))
    assert model.pretrain_report.coverage == 1
    assert not model.pretrain_report.unexpected
    for name, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


@pytest.mark.parametrize("naming", ["running.pth", "saved"])
def test_all_names_of_transformers_5_are_known(naming: str, tmp_path) -> None:
    other = theirs()
    torch.save(published(other, tmp_path), tmp_path / "published.pth")
    torch.save(other.state_dict(), tmp_path / "running.pth")
    reference = MODELS.build(config(True, str(tmp_path / "published.pth"))).state_dict()
    model = MODELS.build(config(True, str(tmp_path / naming)))
    assert model.pretrain_report.coverage == 1
    assert not model.pretrain_report.unexpected
    for name, value in reference.items():
        assert torch.equal(model.state_dict()[name], value), name


def test_an_encoder_alone_fills_the_encoder(tmp_path) -> None:
    source = MODELS.build(config(True, None))
    weights = {official(k): v for k, v in source.state_dict().items() if k.startswith("backbone.")}
    torch.save({"model": weights}, tmp_path / "encoder.pth")
    report = MODELS.build(config(True, dict(path=str(tmp_path / "encoder.pth")))).pretrain_report
    assert len(report.loaded) == len(weights)
    assert all(name.startswith("neck.") for name in report.fresh)


def drawn():
    """A model of ours whose every tensor is its own."""
    torch.manual_seed(0)
    model = MODELS.build(config(True, None)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize(("dialect", "rename"), [("mae", official), ("mmpretrain", mmpretrain)])
def test_encoder_and_decoder_are_written_as_others_call_them(dialect: str, rename) -> None:
    model = drawn()
    written = export(model, dialect)
    assert written.keys() == {rename(name) for name in model.state_dict()}
    for name, value in model.state_dict().items():
        assert torch.equal(written[rename(name)], value), name


def test_transformers_computes_the_same_with_what_is_written_for_it(tmp_path) -> None:
    model, other = drawn(), theirs()
    other.load_state_dict(export(model, "huggingface_v5"), strict=True)
    images, noise = torch.rand(2, 3, 16, 16), torch.rand(2, 16)
    latent, _, ids_restore = model.backbone(images, noise=noise)
    predicted = other(pixel_values=images, noise=noise).logits
    assert torch.allclose(model.neck(latent, ids_restore), predicted, atol=1e-5)
    old, new = export(model, "huggingface"), published(other, tmp_path)
    assert old.keys() == new.keys()
    assert all(torch.equal(old[name], new[name]) for name in new)


def test_a_scheme_without_a_decoder_says_so() -> None:
    with pytest.raises(MismatchError, match=r"'jax' has no place for neck\.\* \(20\)"):
        export(drawn(), "jax")
