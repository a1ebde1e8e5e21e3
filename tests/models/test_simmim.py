"""SimMIM against its definitions, the paper's formula in loops, and transformers' models of that name."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
from mmengine.optim import OptimWrapper

from framework import MODELS
from framework.errors import ConfigError
from framework.models.selfsup.masking import block_mask
from framework.pretrain.translate import rename

IMAGE = dict(img_size=16, patch_size=4)
VIT = dict(
    type="SimMIMViT",
    arch=dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64),
    out_type="featmap",
    norm_cfg=dict(type="LN", eps=1e-12),
    **IMAGE,
)
BEIT = dict(VIT, type="SimMIMBEiTViT", final_norm=True, layer_scale_init_value=0.1)
SWIN = dict(
    type="SimMIMSwinTransformer",
    arch=dict(embed_dims=8, depths=[1, 2], num_heads=[1, 2]),
    img_size=16,
    patch_size=2,
    window_size=2,
    out_indices=(1,),
)


def config(backbone: dict, stride: int = 4, channels: int = 32, **changes: object) -> dict:
    loss = dict(type="PixelReconstructionLoss", criterion="L1", channel=3)
    return dict(
        type="SimMIM",
        backbone=backbone,
        neck=dict(type="SimMIMLinearDecoder", in_channels=channels, encoder_stride=stride),
        head=dict(type="SimMIMHead", patch_size=backbone["patch_size"], loss=loss),
        mask_patch_size=4,
        **changes,
    )


CASES = {"vit": config(VIT), "swin": config(SWIN, channels=16)}


def test_squares_are_masked_evenly_and_as_many_in_each_image() -> None:
    torch.manual_seed(0)
    mask = block_mask((6, 8), 500, 0.3, 2, torch.device("cpu"))
    squares = mask.view(500, 3, 2, 4, 2)
    assert torch.equal(squares, squares[:, :, :1, :, :1].expand(-1, -1, 2, -1, 2))
    assert mask.sum(dim=(1, 2)).unique().tolist() == [4 * 4]  # 3.6 of 12 squares, rounded up
    assert mask.mean(dim=0).flatten().tolist() == pytest.approx([1 / 3] * 48, abs=0.08)


@pytest.mark.parametrize("case", CASES)
def test_the_loss_is_the_papers_in_loops(case: str) -> None:
    torch.manual_seed(0)
    model = MODELS.build(CASES[case]).double().eval()
    images = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    mask = model.draw_mask(images)
    predicted, pixels = model.reconstruct(images, mask)
    patch = model.head.patch_size
    total, count = 0.0, 0
    for b in range(2):
        for y in range(16):
            for x in range(16):
                assert pixels[b, 0, y, x] == mask[b, y // patch, x // patch]
                if mask[b, y // patch, x // patch]:
                    count += 3
                    total += sum(abs(predicted[b, c, y, x] - images[b, c, y, x]).item() for c in range(3))
    assert model.loss(images, dict(mask=mask))["loss"].item() == pytest.approx(total / count, rel=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_what_is_masked_does_not_matter_and_nothing_masked_is_the_plain_backbone(case: str) -> None:
    torch.manual_seed(0)
    model = MODELS.build(CASES[case]).eval()
    images = torch.rand(2, 3, 16, 16)
    mask = model.draw_mask(images)
    pixels = model.head.to_pixels(mask)
    assert 0 < mask.sum() < mask.numel()
    (features,) = model.backbone(images, mask)
    assert torch.equal(features, model.backbone(images + pixels, mask)[0])
    assert not torch.allclose(features, model.backbone(images + 1 - pixels, mask)[0])
    (whole,) = model.extract_feat(images)
    assert torch.equal(model.backbone(images, torch.zeros_like(mask))[0], whole)
    plain = {"SimMIMViT": "VisionTransformer", "SimMIMSwinTransformer": "SwinTransformer"}
    backbone = CASES[case]["backbone"]
    other = MODELS.build({**backbone, "type": plain[backbone["type"]]}).eval()
    weights = model.backbone.state_dict()
    assert weights.pop("mask_token").shape[:2] == (1, 1)
    other.load_state_dict(weights)
    assert torch.equal(other(images)[0], whole)


@pytest.mark.parametrize("ratio", [0.25, 0.6])
def test_the_mask_is_drawn_in_squares_unless_the_batch_brings_one(ratio: float) -> None:
    model = MODELS.build(config(SWIN, channels=16, mask_ratio=ratio))
    images = torch.rand(2, 3, 16, 16)
    drawn = model.draw_mask(images)
    assert drawn.shape == (2, 8, 8)
    assert drawn.sum().item() == 2 * 4 * {0.25: 4, 0.6: 10}[ratio]
    given = [SimpleNamespace(mask=mask) for mask in drawn]
    same = [model.eval().loss(images, samples)["loss"] for samples in (given, dict(mask=drawn))]
    assert torch.equal(*same)
    assert model.loss(images, dict(labels=torch.zeros(2)))["loss"] > 0


def test_what_does_not_go_together_is_said() -> None:
    with pytest.raises(ConfigError, match="mask_patch_size=4 is no multiple of the head's patch_size=3"):
        MODELS.build(config(dict(VIT, patch_size=3, img_size=9)))
    with pytest.raises(ConfigError, match=r"neck.in_channels is 8, and the backbone needs 32"):
        MODELS.build(config(VIT, channels=8))
    with pytest.raises(ConfigError, match=r"head.patch_size is \(4, 4\), and the backbone needs \(2, 2\)"):
        MODELS.build(config(VIT) | dict(backbone=SWIN))
    with pytest.raises(ConfigError, match="set out_type='featmap' in the backbone, not 'cls_token'"):
        MODELS.build(config(dict(VIT, out_type="cls_token")))
    with pytest.raises(ConfigError, match=r"mask_ratio=1.0"):
        MODELS.build(config(VIT, mask_ratio=1.0))
    with pytest.raises(ValueError, match="18x16 pixels cannot be masked in squares of 4"):
        MODELS.build(config(VIT)).loss(torch.zeros(1, 3, 18, 16))
    model = MODELS.build(config(VIT, stride=8))
    with pytest.raises(ValueError, match=r"shape \(3, 32, 32\), and they are of shape \(3, 16, 16\)"):
        model.loss(torch.zeros(1, 3, 16, 16))


def test_the_published_config_builds_with_the_published_number_of_parameters() -> None:
    model = dict(
        type="SimMIM",
        backbone=dict(
            type="SimMIMSwinTransformer",
            arch="base",
            img_size=192,
            stage_cfgs=dict(block_cfgs=dict(window_size=6)),
        ),
        neck=dict(type="SimMIMLinearDecoder", in_channels=128 * 2**3, encoder_stride=32),
        head=dict(
            type="SimMIMHead",
            patch_size=4,
            loss=dict(type="PixelReconstructionLoss", criterion="L1", channel=3),
        ),
    )
    with torch.device("meta"):
        built = MODELS.build(model)
    assert sum(p.numel() for p in built.neck.parameters()) == 1024 * 3072 + 3072
    swin_b, smaller_windows = 86743224, (13**2 - 11**2) * (2 * 4 + 2 * 8 + 18 * 16 + 2 * 32)
    assert sum(p.numel() for p in built.backbone.parameters()) == swin_b - smaller_windows + 128


def _transformers(kind: str):
    transformers = pytest.importorskip("transformers")
    if kind == "vit":
        sizes = dict(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=16
        )
        settings = transformers.ViTConfig(**sizes, patch_size=4, encoder_stride=4)
        return transformers.ViTForMaskedImageModeling(settings)
    settings = transformers.SwinConfig(
        image_size=16,
        patch_size=2,
        embed_dim=8,
        depths=[1, 2],
        num_heads=[1, 2],
        window_size=2,
        encoder_stride=4,
        drop_path_rate=0.0,
    )
    return transformers.SwinForMaskedImageModeling(settings)


@pytest.mark.parametrize("naming", ["saved", "running"])
@pytest.mark.parametrize("case", CASES)
def test_it_is_transformers_model_of_that_name(case: str, naming: str, tmp_path) -> None:
    torch.manual_seed(0)
    theirs = _transformers(case).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    theirs.save_pretrained(tmp_path)
    if naming == "running":
        safetensors.torch.save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    norm = dict(norm_cfg=dict(type="LN", eps=1e-5)) if case == "swin" else {}
    ours = {**CASES[case], "backbone": {**CASES[case]["backbone"], **norm}}
    model = MODELS.build(ours | dict(pretrain=str(tmp_path))).eval()
    assert model.pretrain_report.coverage == 1, str(model.pretrain_report)
    images = torch.rand(2, 3, 16, 16)
    mask = model.draw_mask(images)
    expected = theirs(pixel_values=images, bool_masked_pos=mask.flatten(1).bool())
    predicted, _ = model.reconstruct(images, mask)
    assert torch.allclose(predicted, expected.reconstruction, atol=2e-5)
    loss = model.loss(images, dict(mask=mask))["loss"]
    assert loss.item() == pytest.approx(expected.loss.item(), rel=1e-4)


def official(name: str) -> str:
    """The name in the official files of one of ours: there a stage ends with the merging of patches."""
    if name.startswith("neck."):
        return name.removeprefix("neck.")
    name = name.replace("layers.1.downsample.", "layers.0.downsample.")
    return name.replace("backbone.", "encoder.", 1)


def mmpretrain(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The names in mmpretrain of ours; those of the network are tested with the table."""
    prefix = "backbone."
    network = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    renamed = {prefix + k: v for k, v in rename(network, "mmpretrain").items()}
    assert "backbone.mask_token" in renamed and "backbone.stages.0.blocks.0.attn.w_msa.proj.bias" in renamed
    return renamed | {k: v for k, v in weights.items() if not k.startswith(prefix)}


@pytest.mark.parametrize(
    ("case", "write"),
    [
        (config(SWIN, channels=16), lambda weights: {official(k): v for k, v in weights.items()}),
        (config(SWIN, channels=16), mmpretrain),
        (config(BEIT), lambda weights: {official(k): v for k, v in weights.items()}),
    ],
    ids=["official Swin", "mmpretrain", "official ViT"],
)
def test_checkpoints_of_others_go_on_training_here(case: dict, write, tmp_path) -> None:
    torch.manual_seed(0)
    source = MODELS.build(case)
    for parameter in source.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    torch.save({"model": write(source.state_dict()), "epoch": 7}, tmp_path / "checkpoint.pth")
    model = MODELS.build(case | dict(pretrain=str(tmp_path / "checkpoint.pth")))
    assert model.pretrain_report.coverage == 1, str(model.pretrain_report)
    for name, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


@pytest.mark.parametrize("case", CASES)
def test_its_step_learns(case: str) -> None:
    torch.manual_seed(0)
    model = MODELS.build(CASES[case])
    optimizer = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=3e-3))
    data = dict(inputs=torch.rand(8, 3, 16, 16), labels=torch.zeros(8, dtype=torch.long))
    losses = [model.train_step(data, optimizer)["loss"].item() for _ in range(20)]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
