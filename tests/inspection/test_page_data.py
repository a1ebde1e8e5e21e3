"""What the page is told: the answer, every tensor and its fate, and nothing that a browser would obey."""

from __future__ import annotations

import base64
import json
import math
import re
from collections import Counter
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from framework import BACKBONES, MODELS
from framework.inspection.facts import inspect_file
from framework.inspection.page import render, write_page
from framework.inspection.page_data import HEIGHTS, STATUSES, page_data
from framework.inspection.page_verdict import verdict_on
from framework.pretrain import LoadReport, plan_pretrained
from framework.pretrain.errors import CheckpointError

ASSETS = files("framework.inspection") / "assets"
STYLE = (ASSETS / "page.css").read_text()
ARCH = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=64)
VIT = dict(type="VisionTransformer", arch=ARCH, img_size=32, patch_size=8)


def classifier(num_classes: int) -> nn.Module:
    head = dict(type="VisionTransformerClsHead", in_channels=32, num_classes=num_classes)
    return MODELS.build(dict(type="Classifier", backbone=VIT, head=head))


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return classifier(3).state_dict()


def planned(state: dict[str, Any], folder: Path, module: nn.Module, **fields: Any) -> tuple[Any, LoadReport]:
    torch.save(state, folder / "run.pth")
    pretrain = dict(path=str(folder / "run.pth"), **fields)
    return inspect_file(pretrain, sha256=False), plan_pretrained(module, pretrain)


def page_of(path: Path) -> dict[str, Any]:
    """Return the data of a page as a browser reads it."""
    (text,) = re.findall(
        r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.DOTALL
    )
    return json.loads(text)


@pytest.mark.parametrize(
    ("change", "fields", "word", "sentence"),
    [
        (lambda s: s, {}, "Yes", r"All of the backbone comes from \S+run.pth\.$"),
        (lambda s: s, dict(ignore_keys="head"), "Yes", r"All of the backbone comes from \S+run.pth\.$"),
        (
            lambda s: {k: v for k, v in s.items() if "head" not in k},
            {},
            "Yes",
            r"All of .*\. Initial values: head.fc.{weight, bias} \(2 tensors, 99 parameters\)\.$",
        ),
        (
            lambda s: {k: v for k, v in s.items() if "0.attn.proj.bias" not in k},
            {},
            "Mostly",
            r"99\.\d% of the backbone .* Initial values: backbone.blocks.0.attn.proj.bias \(1 tensor, 32 ",
        ),
        (
            lambda s: {k: v for k, v in s.items() if "blocks.1" not in k},
            {},
            "Only in part",
            r"64\.\d% of the back",
        ),
        (
            lambda s: {k: v for k, v in s.items() if "blocks" not in k},
            {},
            "Hardly",
            r"2\d\.\d% of the backbone",
        ),
        (
            lambda s: s | {"backbone.blocks.0.gamma": torch.ones(3)},
            {},
            "Almost",
            "1 tensor of layers .* has no place",
        ),
        (lambda s: {"other.thing": torch.ones(7)}, {}, "No", "Nothing of the backbone .* would be refused"),
    ],
)
def test_the_first_sentence(
    change: Any, fields: Any, word: str, sentence: str, state: dict[str, Tensor], tmp_path: Path
) -> None:
    verdict = verdict_on(*planned(change(state), tmp_path, classifier(3), **fields))
    assert verdict.word == word
    assert re.search(sentence, verdict.sentence), verdict.sentence


def test_a_file_alone_is_described(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "run.pth")
    sentence = verdict_on(inspect_file(str(tmp_path / "run.pth"), sha256=False), None).sentence
    assert "run.pth holds 32 tensors with 24.0 K parameters: a Vision Transformer (depth 2, " in sentence
    page = page_of(write_page(tmp_path / "page.html", inspect_file(str(tmp_path / "run.pth"))))
    assert [kind["label"] for kind in page["kinds"]] == ["backbone", "head", "other parts"]
    assert sum(tensor["size"] for tensor in page["tensors"]) == sum(t.numel() for t in state.values())


def test_every_tensor_is_there_once_with_its_fate(state: dict[str, Tensor], tmp_path: Path) -> None:
    changed = {k: v for k, v in state.items() if "blocks.1" not in k} | {"neck.w": torch.ones(9)}
    entries = {"state_dict": changed, "ema": {"w": torch.ones(2)}}
    facts, report = planned(entries, tmp_path, classifier(5), ignore_keys="backbone.norm")
    page = page_of(write_page(tmp_path / "page.html", facts, report))
    labels = [kind["label"] for kind in page["kinds"]]
    assert labels == list(STATUSES)
    model = {t["name"]: t for t in page["tensors"] if t["root"] == 0}
    assert {name: labels[t["kind"]] for name, t in model.items()} == {
        n: r.status for n, r in report.tensors.items()
    }
    assert {name: tuple(t["shape"]) for name, t in model.items()} == {
        n: r.shape for n, r in report.tensors.items()
    }
    rest = {t["name"]: labels[t["kind"]] for t in page["tensors"] if t["root"] != 0}
    assert rest == {"state_dict.neck.w": "unused", "ema.w": "elsewhere"}
    patches = page["sources"][model["backbone.patch_embed.proj.weight"]["from"][0]]
    assert (patches["key"], patches["dtype"]) == ("state_dict.backbone.patch_embed.proj.weight", "float32")
    values = state["backbone.patch_embed.proj.weight"]
    assert patches["values"]["std"] == pytest.approx(float(values.std(correction=0)), rel=1e-4)
    (elsewhere,) = [source for source in page["sources"] if source["key"] == "ema.w"]
    assert elsewhere["values"] is None
    assert page["headline"] == report.headline() and page["notes"] == [
        line.strip() for line in report.table()
    ]


def test_merged_tensors_name_all_their_sources(tmp_path: Path) -> None:
    theirs = VisionTransformer(32, 8, 2, 4, 32, 64).state_dict()
    facts, report = planned(theirs, tmp_path, BACKBONES.build(VIT))
    page = page_data(facts, report, {})
    merged = [(t["how"], len(t["from"])) for t in page["tensors"] if len(t["from"]) > 1]
    assert Counter(merged) == Counter(
        (r.operation, len(r.sources)) for r in report.tensors.values() if len(r.sources) > 1
    )


def test_heights_are_those_of_the_histogram(tmp_path: Path) -> None:
    torch.save(
        {"x": torch.cat([torch.zeros(1000), torch.ones(1), torch.full((500,), 0.5)])}, tmp_path / "x.pth"
    )
    page = page_of(write_page(tmp_path / "page.html", inspect_file(str(tmp_path / "x.pth"))))
    bars = page["sources"][0]["values"]["bars"]
    assert [i for i, bar in enumerate(bars) if bar != "0"] == [0, 24, 47]
    assert [HEIGHTS.index(bars[i]) for i in (0, 24, 47)] == [61, 31, 1]


def test_values_that_share_memory_are_summarised_once(tmp_path: Path) -> None:
    x = torch.arange(6.0)
    torch.save({"a": x, "b": x}, tmp_path / "x.pth")
    a, b = page_of(write_page(tmp_path / "page.html", inspect_file(str(tmp_path / "x.pth"))))["sources"]
    assert (a["same"], b["same"]) == ("", "a") and a["values"] == b["values"]


def test_nothing_in_the_data_is_markup(tmp_path: Path) -> None:
    names = [
        "</script><script>",
        "<!--",
        "{{script}}",
        "{{policy}}",
        "&lt;",
        "\u202ex",
        "\ud800",
        "a\nb",
        "x" * 2000,
    ]
    torch.save({name: torch.tensor([math.inf, 1.0]) for name in names}, tmp_path / "<b>&.pth")
    path = write_page(tmp_path / "page.html", inspect_file(str(tmp_path / "<b>&.pth")))
    text = path.read_text()
    assert text.count("<script") == text.count("</script>") == 2 and "<b>" not in text
    shown = [tensor["name"] for tensor in page_of(path)["tensors"]]
    assert shown[:8] == [*names[:5], "\\u202ex", "\\ud800", "a\\nb"]
    assert len(shown[8]) < 500


def test_the_policy_allows_this_script_and_this_style_alone(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(3)}, tmp_path / "x.pth")
    text = render(page_data(inspect_file(str(tmp_path / "x.pth")), None, {}))
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    for name, pattern in (("script", r"<script>(.*?)</script>"), ("style", r"<style>(.*?)</style>")):
        (inline,) = re.findall(pattern, text, re.DOTALL)
        digest = base64.b64encode(sha256(inline.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert re.findall(r"https?://[\w./]+", text) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|style=|\son\w+=", text)


def test_a_page_that_cannot_be_made_leaves_the_old_one(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(1000)}, tmp_path / "x.pth")
    facts = inspect_file(str(tmp_path / "x.pth"))
    old = write_page(tmp_path / "page.html", facts).read_text()
    (tmp_path / "x.pth").write_bytes((tmp_path / "x.pth").read_bytes()[:900])
    with pytest.raises(CheckpointError):
        write_page(tmp_path / "page.html", facts)
    assert (tmp_path / "page.html").read_text() == old
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        write_page(tmp_path / "nowhere" / "page.html", facts)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["page.html", "x.pth"]


@pytest.mark.parametrize("theme", [":root {", ':root[data-theme="dark"] {'])
def test_colours_of_the_map_can_be_told_from_what_is_behind_and_on_them(theme: str) -> None:
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", STYLE.split(theme)[1].split("}")[0]))
    tones = [name.replace(" ", "-") for name in STATUSES] + [f"part-{i + 1}" for i in range(7)]
    for tone in tones:
        assert contrast(colours[tone], colours["on"]) >= 4.5, tone
        assert min(contrast(colours[tone], colours[name]) for name in ("surface", "raised")) >= 3, tone
    for text in ("text", "muted", "accent", "good", "partly", "bad"):
        grounds = (
            ("page", "surface", "raised", "chosen") if text in ("text", "muted") else ("page", "surface")
        )
        assert min(contrast(colours[text], colours[name]) for name in grounds) >= 4.5, text
    assert contrast(colours["edge"], colours["surface"]) >= 3


def contrast(one: str, other: str) -> float:
    """Return the contrast of WCAG 2.2 between two colours."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(part * c for part, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_every_kind_has_a_mark_and_a_colour() -> None:
    marks = set(re.findall(r'^  "([\w-]+)": "M', (ASSETS / "words.js").read_text(), re.MULTILINE))
    tones = {name.replace(" ", "-") for name in STATUSES} | {f"part-{i + 1}" for i in range(7)}
    assert marks == tones
    assert {tone for tone in tones if f".tone-{tone} {{" not in STYLE} == set()


def test_the_documentation_explains_every_colour() -> None:
    page = (Path(__file__).parents[2] / "docs" / "page.md").read_text()
    section = page.split("| colour | the tensor |")[1].split("\n\n")[0]
    assert re.findall(r"^\| ([\w ]+) \|", section, re.MULTILINE) == list(STATUSES)


def test_the_files_of_the_page_are_short() -> None:
    lengths = {asset.name: len(asset.read_text().splitlines()) for asset in ASSETS.iterdir()}
    assert {name: n for name, n in lengths.items() if n > 400} == {} and len(lengths) == 9
