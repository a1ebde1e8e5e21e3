"""MAE against its definitions and the paper's formula in loops."""

from __future__ import annotations

import math

import pytest
import torch
from mmengine.optim import OptimWrapper

from framework import MODELS
from framework.errors import ConfigError
from framework.models.heads import MAEPretrainHead
from framework.models.layers.sincos import sincos_pos_embed
from framework.models.losses import PixelReconstructionLoss
from framework.models.necks import MAEPretrainDecoder
from framework.models.selfsup import MAEViT
from framework.models.selfsup.masking import shuffle

ARCH = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)


def config(norm_pix: bool = True, **backbone: object) -> dict:
    return dict(
        type="MAE",
        backbone=dict(type="MAEViT", arch=ARCH, img_size=16, patch_size=4, **backbone),
        neck=dict(
            type="MAEPretrainDecoder",
            num_patches=16,
            patch_size=4,
            embed_dim=32,
            decoder_embed_dim=24,
            decoder_depth=1,
            decoder_num_heads=2,
            mlp_ratio=2.0,
        ),
        head=dict(
            type="MAEPretrainHead",
            norm_pix=norm_pix,
            patch_size=4,
            loss=dict(type="PixelReconstructionLoss", criterion="L2"),
        ),
    )


def head(norm_pix: bool, patch_size: tuple[int, int] = (2, 3)) -> MAEPretrainHead:
    loss = dict(type="PixelReconstructionLoss", criterion="L2")
    return MAEPretrainHead(loss, norm_pix=norm_pix, patch_size=patch_size)


@pytest.mark.parametrize("rows_first", [False, True])
def test_positions_are_sines_and_cosines_of_rows_and_columns(rows_first: bool) -> None:
    embedding = sincos_pos_embed((2, 3), 8, prefix=1, rows_first=rows_first)
    assert embedding.shape == (1, 7, 8)
    assert not embedding[0, 0].any()
    for row in range(2):
        for column in range(3):
            expected = []
            for position in (row, column) if rows_first else (column, row):
                angles = [position / 10000 ** (2 * k / 4) for k in range(2)]
                expected += [*map(math.sin, angles), *map(math.cos, angles)]
            assert embedding[0, 1 + row * 3 + column].tolist() == pytest.approx(expected, abs=1e-7)


def test_positions_need_channels_for_rows_and_columns() -> None:
    with pytest.raises(ConfigError, match="multiples of 4, got 30"):
        sincos_pos_embed((2, 2), 30)


def test_patches_are_what_their_definition_says() -> None:
    images = torch.arange(2 * 3 * 4 * 6.0).view(2, 3, 4, 6)
    patches = head(False).patchify(images)
    assert patches.shape == (2, 4, 18)
    for b in range(2):
        for patch in range(4):
            row, column = divmod(patch, 2)
            expected = [
                images[b, c, row * 2 + y, column * 3 + x].item()
                for y in range(2)
                for x in range(3)
                for c in range(3)
            ]
            assert patches[b, patch].tolist() == expected
    assert torch.equal(head(False).unpatchify(patches, (2, 2)), images)


def test_images_that_patches_do_not_cover_are_refused() -> None:
    with pytest.raises(ValueError, match="4x5 pixels cannot be cut into patches of 2x3"):
        head(False).patchify(torch.zeros(1, 3, 4, 5))


def test_the_patches_of_least_noise_stay_and_all_find_their_places() -> None:
    noise = torch.tensor([[0.7, 0.1, 0.9, 0.4, 0.2, 0.8, 0.3, 0.6]])
    ids_keep, mask, ids_restore = shuffle(noise, 0.6)
    assert ids_keep.tolist() == [[1, 4, 6]]
    assert mask.tolist() == [[1, 0, 1, 1, 0, 1, 0, 1]]
    order = sorted(range(8), key=lambda i: noise[0, i].item())
    assert [order[place] for place in ids_restore[0].tolist()] == list(range(8))


def test_masked_patches_are_drawn_anew_and_evenly() -> None:
    torch.manual_seed(0)
    backbone = MAEViT(ARCH, img_size=16, patch_size=4, mask_ratio=0.75)
    with torch.no_grad():
        _, mask, _ = backbone(torch.zeros(600, 3, 16, 16))
    assert mask.sum(dim=1).unique().tolist() == [12]
    assert mask.mean(dim=0).tolist() == pytest.approx([0.75] * 16, abs=0.06)


@pytest.mark.parametrize("norm_pix", [False, True])
@pytest.mark.parametrize("criterion", ["L1", "L2"])
def test_the_loss_is_the_papers_in_loops(criterion: str, norm_pix: bool) -> None:
    torch.manual_seed(1)
    images = torch.rand(2, 3, 4, 6, dtype=torch.float64)
    pred = torch.rand(2, 4, 18, dtype=torch.float64)
    mask = torch.tensor([[1.0, 0, 1, 1], [0, 1, 0, 0]], dtype=torch.float64)
    total, count = 0.0, 0
    for b in range(2):
        for patch in range(4):
            row, column = divmod(patch, 2)
            pixels = [
                images[b, c, row * 2 + y, column * 3 + x].item()
                for y in range(2)
                for x in range(3)
                for c in range(3)
            ]
            if norm_pix:
                mean = sum(pixels) / 18
                variance = sum((p - mean) ** 2 for p in pixels) / 17
                pixels = [(p - mean) / math.sqrt(variance + 1e-6) for p in pixels]
            if mask[b, patch]:
                errors = [abs(p - q) for p, q in zip(pixels, pred[b, patch].tolist(), strict=True)]
                total += sum(e if criterion == "L1" else e * e for e in errors) / 18
                count += 1
    loss = MAEPretrainHead(dict(type="PixelReconstructionLoss", criterion=criterion), norm_pix, (2, 3))
    assert loss.loss(pred, images, mask).item() == pytest.approx(total / count, rel=1e-12)


def test_the_loss_without_mask_and_with_channels() -> None:
    pred, target = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4) * 2
    mask = torch.zeros(2, 1, 4, 4)
    mask[0, 0, 0] = 1
    assert PixelReconstructionLoss("L1")(pred, target).item() == 2
    assert PixelReconstructionLoss("L1", channel=3)(pred, target, mask).item() == pytest.approx(2)
    with pytest.raises(ConfigError, match="criterion='L3': accepted are L1, L2"):
        PixelReconstructionLoss("L3")


def test_the_encoder_gets_the_visible_patches_in_the_shuffled_order() -> None:
    torch.manual_seed(0)
    backbone = MAEViT(ARCH, img_size=16, patch_size=4).eval()
    backbone.blocks = torch.nn.ModuleList()
    images, noise = torch.rand(2, 3, 16, 16), torch.rand(2, 16)
    keep, mask, ids_restore = shuffle(noise, 0.75)
    tokens, masked, restore = backbone(images, noise=noise)
    assert torch.equal(masked, mask) and torch.equal(restore, ids_restore)
    patches = backbone.patch_embed(images)[0] + backbone.pos_embed[:, 1:]
    for b in range(2):
        whole = [backbone.cls_token[0, 0] + backbone.pos_embed[0, 0], *(patches[b, i] for i in keep[b])]
        assert torch.equal(tokens[b], backbone.norm(torch.stack(whole)))


def test_the_decoder_sees_visible_patches_at_their_places_only() -> None:
    torch.manual_seed(0)
    model = MODELS.build(config()).eval()
    images = torch.rand(2, 3, 16, 16)
    noise = torch.rand(2, 16)
    changed = images.clone()
    keep, mask, _ = shuffle(noise, 0.75)
    pixels = mask.view(2, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    changed += pixels  # what is masked must not matter to the prediction
    latent, _, ids_restore = model.backbone(images, noise=noise)
    same, _, _ = model.backbone(changed, noise=noise)
    assert torch.equal(latent, same)
    decoder = model.neck
    embedded = decoder.decoder_embed(latent)
    sequence = [[embedded[b, 0], *[decoder.mask_token[0, 0]] * 16] for b in range(2)]
    for b in range(2):
        for place, patch in enumerate(keep[b].tolist()):
            sequence[b][1 + patch] = embedded[b, 1 + place]
    x = torch.stack([torch.stack(tokens) for tokens in sequence]) + decoder.decoder_pos_embed
    expected = decoder.decoder_pred(decoder.decoder_norm(decoder.decoder_blocks[0](x)))[:, 1:]
    assert torch.allclose(decoder(latent, ids_restore), expected, atol=1e-6)


def test_the_decoder_says_which_number_of_patches_is_wrong() -> None:
    decoder = MAEPretrainDecoder(num_patches=(2, 3), embed_dim=8, decoder_embed_dim=8, decoder_num_heads=2)
    with pytest.raises(ValueError, match="made for 6 patches and gets 4: set its num_patches to 4"):
        decoder(torch.zeros(1, 2, 8), torch.zeros(1, 4, dtype=torch.long))
    with pytest.raises(ConfigError, match="num_patches=6 is no square"):
        MAEPretrainDecoder(num_patches=6)


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("neck", dict(embed_dim=768), "MAE: neck.embed_dim is 768, and the backbone needs 32"),
        ("neck", dict(num_patches=196), "MAE: neck.num_patches is 196, and the backbone needs 16"),
        ("neck", dict(in_chans=1), r"patch_size \*\* 2 \* in_chans of the neck is 16, .* needs 48"),
        ("head", dict(patch_size=2), r"head.patch_size is \(2, 2\), and the backbone needs \(4, 4\)"),
    ],
)
def test_parts_that_do_not_go_together_are_named(part: str, changes: dict, message: str) -> None:
    model = config()
    with pytest.raises(ConfigError, match=message):
        MODELS.build(model | {part: model[part] | changes})
    if "in_chans" in changes:
        MODELS.build(model | {part: model[part] | changes | dict(predict_feature_dim=5)})


def test_without_a_mask_it_is_a_vision_transformer() -> None:
    torch.manual_seed(0)
    masked = MAEViT(ARCH, img_size=16, patch_size=4, out_type="avg_featmap").eval()
    plain = MODELS.build(
        dict(type="VisionTransformer", arch=ARCH, img_size=16, patch_size=4, out_type="avg_featmap")
    ).eval()
    plain.load_state_dict(masked.state_dict())
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(masked(images, mask=None)[0], plain(images)[0])
    with pytest.raises(ConfigError, match=r"mask_ratio=1.0: accepted are shares between 0 and 1"):
        MAEViT(ARCH, mask_ratio=1.0)


def test_positions_do_not_learn_and_survive_the_initialisation_of_the_config() -> None:
    init = [
        dict(type="Xavier", layer="Linear", distribution="uniform"),
        dict(type="Constant", layer="LayerNorm", val=1.0, bias=0.0),
    ]
    model = MODELS.build(config() | dict(init_cfg=init))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.init_weights()
    fixed = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert fixed == ["backbone.pos_embed", "neck.decoder_pos_embed"]
    for name in (*fixed, "neck.mask_token", "backbone.cls_token"):
        assert torch.equal(model.state_dict()[name], before[name])
    assert torch.equal(model.backbone.pos_embed, sincos_pos_embed((4, 4), 32, prefix=1))


def test_the_published_config_builds_with_the_published_number_of_parameters() -> None:
    model = dict(
        type="MAE",
        backbone=dict(type="MAEViT", arch="b", patch_size=16, mask_ratio=0.75),
        neck=dict(
            type="MAEPretrainDecoder",
            patch_size=16,
            in_chans=3,
            embed_dim=768,
            decoder_embed_dim=512,
            decoder_depth=8,
            decoder_num_heads=16,
            mlp_ratio=4.0,
        ),
        head=dict(
            type="MAEPretrainHead",
            norm_pix=True,
            patch_size=16,
            loss=dict(type="PixelReconstructionLoss", criterion="L2"),
        ),
        data_preprocessor=dict(
            type="SelfSupDataPreprocessor",
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            to_rgb=True,
        ),
    )
    with torch.device("meta"):
        built = MODELS.build(model)
    assert sum(p.numel() for p in built.parameters()) == 111907840


def test_a_perfect_prediction_gives_the_image_back() -> None:
    images = torch.rand(2, 3, 4, 6)
    for norm_pix in (False, True):
        part = head(norm_pix)
        assert torch.allclose(part.to_images(part.construct_target(images), images), images, atol=1e-5)


def test_it_reconstructs_the_masked_pixels() -> None:
    torch.manual_seed(0)
    model = MODELS.build(config()).eval()
    images, noise = torch.rand(2, 3, 16, 16), torch.rand(2, 16)
    predicted, mask = model.reconstruct(images, noise)
    assert predicted.shape == images.shape
    assert mask.shape == (2, 1, 16, 16)
    assert torch.equal(mask[:, 0, ::4, ::4].flatten(1), shuffle(noise, 0.75)[1])


def test_its_step_learns() -> None:
    torch.manual_seed(0)
    model = MODELS.build(config())
    optimizer = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=3e-3))
    data = dict(inputs=torch.rand(8, 3, 16, 16), labels=torch.zeros(8, dtype=torch.long))
    losses = [model.train_step(data, optimizer)["loss"].item() for _ in range(30)]
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])
