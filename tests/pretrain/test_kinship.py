"""A file of another size or kind of the same family is refused, and one of a larger whole is not."""

import pytest
import torch
from torch import nn

from framework import BACKBONES, load_pretrained, plan_pretrained
from framework.pretrain.errors import MismatchError


def resnet(depth=18, **more):
    return dict(type="ResNet", depth=depth, stem_channels=8, base_channels=8, **more)


def vit(layers=3, hidden=64, **more):
    arch = dict(embed_dims=32, num_layers=layers, num_heads=2, feedforward_channels=hidden)
    return dict(type="VisionTransformer", arch=arch, img_size=16, patch_size=8, **more)


def beit(**more):
    return dict(vit(), type="BEiTViT", **more)


def swin(blocks=2):
    arch = dict(embed_dims=16, depths=[1, 1, blocks, 1], num_heads=[1, 2, 4, 8])
    return dict(type="SwinTransformer", arch=arch, img_size=64, window_size=2)


def convnext(blocks=2, **more):
    return dict(type="ConvNeXt", arch=dict(depths=[1, 1, blocks, 1], channels=[8, 16, 32, 64]), **more)


V2 = dict(use_grn=True, layer_scale_init_value=0.0)

OTHER_NETWORKS = {
    "fewer layers in two stages": (resnet(34), resnet(), "the file is deeper than the module"),
    "more layers in two stages": (resnet(), resnet(34), "the module is deeper than the file"),
    "bottlenecks": (resnet(50), resnet(34), "other shapes in the file|would fill only"),
    "averaging shortcuts": (resnet(50, avg_down=True), resnet(50), "have parts that the module's lack"),
    "swin, fewer layers": (swin(4), swin(), "the file is deeper than the module"),
    "swin, more layers": (swin(), swin(4), "the module is deeper than the file"),
    "convnext, fewer layers": (convnext(4), convnext(), "the file is deeper than the module"),
    "convnext, more layers": (convnext(), convnext(4), "the module is deeper than the file"),
    "convnext 1 into 2": (convnext(), convnext(**V2), r"\.gamma; the module has .*grn.* instead"),
    "convnext 2 into 1": (convnext(**V2), convnext(), r"mlp\.grn.* the module has .*gamma instead"),
    "vit, fewer layers": (vit(6), vit(), r"which has no blocks\.\{3\.\.\.5\}"),
    "vit, one layer fewer": (vit(24), vit(23), r"which has no blocks\.23"),
    "vit, more layers": (vit(), vit(5), r"which has no blocks\.\{3, 4\}"),
    "vit, narrower": (vit(hidden=128), vit(), "in layers that have other shapes"),
    "layer scale": (vit(layer_scale_init_value=0.1), vit(), r"lack: blocks.*ls1\.gamma"),
    "bias of queries": (vit(), vit(qkv_bias=False), r"lack: blocks.*attn\.qkv\.bias"),
    "beit into vit": (beit(), vit(), "relative_position_bias_table"),
    "registers": (vit(num_registers=2), vit(), "before its layers, reg_token"),
    "norm of the stem": (vit(pre_norm=True), vit(), r"before its layers, norm_pre\.weight"),
    "positions": (beit(use_abs_pos_emb=True), beit(use_abs_pos_emb=False), "before its layers, pos_embed"),
    "positions of a swin": (dict(swin(), use_abs_pos_embed=True), swin(), "layers, absolute_pos_embed"),
    "one table of positions": (
        beit(use_rel_pos_bias=False, use_shared_rel_pos_bias=True),
        beit(use_rel_pos_bias=False),
        r"layers, rel_pos_bias\.relative_position_bias_table",
    ),
    "vit into beit": (vit(), beit(), r"attn\.qkv\.bias; the module has"),
}


def saved(config, folder):
    torch.save(BACKBONES.build(config).state_dict(), folder / "other.pth")
    return str(folder / "other.pth")


@pytest.mark.parametrize("case", OTHER_NETWORKS)
def test_another_network_is_refused(case, tmp_path) -> None:
    there, here, words = OTHER_NETWORKS[case]
    module = BACKBONES.build(here)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(ValueError, match=words) as error:
        load_pretrained(module, saved(there, tmp_path))
    assert "min_coverage" in str(error.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_a_look_before_the_load_tells_as_well(tmp_path) -> None:
    report = plan_pretrained(BACKBONES.build(resnet()), saved(resnet(34), tmp_path))
    assert report.coverage == 1 and not report.clean
    assert "\n  unlike: the file is deeper than the module" in str(report)


def test_a_part_may_be_meant(tmp_path) -> None:
    module = BACKBONES.build(
        dict(resnet(), pretrain=dict(path=saved(resnet(34), tmp_path), min_coverage=0.1))
    )
    assert module.pretrain_report.coverage == 1
    deeper = vit(5, pretrain=dict(path=saved(vit(), tmp_path), ignore_keys=["blocks.3", "blocks.4"]))
    assert not BACKBONES.build(deeper).pretrain_report.fresh


def test_the_other_names_of_a_file_are_no_other_network(tmp_path) -> None:
    """Official Swins merge patches at the end of a stage, ours at the start of the next."""
    whole = BACKBONES.build(swin()).state_dict()
    official = {
        (f"layers.{int(name[7]) - 1}{name[8:]}" if "downsample" in name else name): tensor
        for name, tensor in whole.items()
    }
    torch.save(official, tmp_path / "official.pth")
    first = BACKBONES.build(swin())
    del first.layers[3], first.norm
    report = load_pretrained(first, tmp_path / "official.pth")
    assert (
        report.coverage == 1 and not report.unlike and "layers.2.downsample.norm.weight" in report.unexpected
    )


@pytest.mark.parametrize(
    ("there", "here"),
    [
        (
            resnet(),
            resnet(num_stages=3, out_indices=(2,), strides=(1, 2, 2), dilations=(1, 1, 1)),
        ),  # the first stages alone
        (resnet(), resnet(plugins=[dict(cfg=dict(type="SELayer", ratio=4), position="after_conv2")])),
        (resnet(), resnet(deep_stem=True)),
        (vit(), vit(layer_scale_init_value=1.0)),
        (vit(), vit(final_norm=False, out_type="avg_featmap")),
    ],
)
def test_parts_of_a_network_and_added_parts_load(there, here, tmp_path) -> None:
    report = load_pretrained(BACKBONES.build(here), saved(there, tmp_path))
    assert report.coverage > 0.9 and not report.unlike


def test_the_first_layers_alone_are_a_part(tmp_path) -> None:
    """As in timm's `features_only`, which leaves the norm out."""
    first = BACKBONES.build(vit(2, final_norm=False, out_type="raw"))
    assert load_pretrained(first, saved(vit(4), tmp_path)).coverage == 1


def test_one_of_two_networks_side_by_side_is_a_part(tmp_path) -> None:
    def layer() -> nn.Module:
        return nn.Sequential(nn.Sequential(nn.Linear(4, 4)), nn.LayerNorm(4))

    one, two = nn.ModuleDict({"nets": nn.ModuleList([layer()])}), nn.ModuleList([layer(), layer()])
    torch.save(nn.ModuleDict({"nets": two}).state_dict(), tmp_path / "two.pth")
    torch.save(one.state_dict(), tmp_path / "one.pth")
    assert load_pretrained(one, tmp_path / "two.pth").coverage == 1
    assert load_pretrained(nn.ModuleDict({"nets": two}), tmp_path / "one.pth").coverage == 0.5


def test_the_error_is_a_mismatch(tmp_path) -> None:
    with pytest.raises(MismatchError, match="another one than the module"):
        BACKBONES.build(dict(resnet(), pretrain=saved(resnet(34), tmp_path)))


def test_quantised_weights_are_no_numbers(tmp_path) -> None:
    state = BACKBONES.build(vit()).state_dict()
    name = "blocks.1.attn.proj.weight"
    torch.save({**state, name: (state[name] * 100).to(torch.int8)}, tmp_path / "quantised.pth")
    with pytest.raises(MismatchError, match=r"quantised ones, for blocks\.1\.attn\.proj\.weight"):
        BACKBONES.build(vit(pretrain=str(tmp_path / "quantised.pth")))


def test_counters_that_became_halves_are_not_told(tmp_path) -> None:
    state = BACKBONES.build(resnet()).state_dict()
    torch.save({name: tensor.half() for name, tensor in state.items()}, tmp_path / "half.pth")
    report = BACKBONES.build(dict(resnet(), pretrain=str(tmp_path / "half.pth"))).pretrain_report
    assert report.clean and "bn1.num_batches_tracked" in report.computed


LORA = {
    "beside the weights": "blocks.{}.attn.qkv.lora_A",
    "alone": "base_model.model.blocks.{}.attn.qkv.lora_A.weight",
}


@pytest.mark.parametrize("where", LORA)
def test_adapters_of_low_rank_are_called_so(where, tmp_path) -> None:
    state = BACKBONES.build(vit()).state_dict() if where == "beside the weights" else {}
    torch.save(
        {**state, **{LORA[where].format(i): torch.rand(2, 32) for i in range(3)}}, tmp_path / "lora.pth"
    )
    only = "only a LoRA adapter, and no network" if where == "alone" else "a LoRA adapter"
    with pytest.raises(ValueError, match=f"holds {only}: merge it"):
        BACKBONES.build(vit(pretrain=str(tmp_path / "lora.pth")))


def test_a_part_that_no_table_knows_is_missed_as_well(tmp_path) -> None:
    state = BACKBONES.build(vit()).state_dict()
    scale = {f"blocks.{i}.attn.observer.scale": torch.ones(1) for i in range(3)}
    torch.save({**state, **scale}, tmp_path / "buffer.pth")
    assert BACKBONES.build(vit(pretrain=str(tmp_path / "buffer.pth"))).pretrain_report.coverage == 1
    norm = {f"blocks.{i}.attn.q_norm.weight": torch.ones(16) for i in range(3)}
    torch.save({**state, **norm}, tmp_path / "part.pth")
    with pytest.raises(MismatchError, match=r"lack: blocks\.\{0\.\.\.2\}\.attn\.q_norm\.weight"):
        BACKBONES.build(vit(pretrain=str(tmp_path / "part.pth")))


def test_a_module_may_end_within_a_layer(tmp_path) -> None:
    whole = BACKBONES.build(resnet())
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    first = nn.Module()
    first.layer1 = whole.layer1
    first.layer2 = nn.Sequential(whole.layer2[0], nn.Module())
    first.layer2[1].conv1 = whole.layer2[1].conv1
    assert load_pretrained(first, tmp_path / "whole.pth").coverage == 1


def test_a_student_beside_a_deeper_teacher(tmp_path) -> None:
    student, teacher = BACKBONES.build(resnet()), BACKBONES.build(resnet(34))
    path = tmp_path / "distilled.pth"
    torch.save({"student": student.state_dict(), "teacher": teacher.state_dict()}, path)
    with pytest.raises(MismatchError, match="Try: key='student'; the file of a network") as error:
        BACKBONES.build(dict(resnet(), pretrain=str(path)))
    assert "parts that the module's lack" not in str(error.value)
    module = BACKBONES.build(dict(resnet(), pretrain=dict(path=str(path), key="student")))
    assert torch.equal(module.conv1.weight, student.conv1.weight)
