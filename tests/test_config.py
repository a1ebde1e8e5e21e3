from __future__ import annotations

from importlib.util import find_spec

import pytest

from framework.engine import load_config
from framework.errors import ConfigError


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


def test_bases_variables_and_changes(write, tmp_path):
    write("base/model.py", "model = dict(type='A', backbone=dict(type='B', depth=18))")
    path = write(
        "runs/a.py",
        "_base_ = '../base/model.py'\nmodel = dict(backbone=dict(pretrain='{{ fileDirname }}/w.pth'))\n",
    )
    cfg = load_config(path, {"model.backbone.depth": 50, "model.pretrain": "x.pth", "work_dir": "out"})
    assert cfg.model == dict(
        type="A", backbone=dict(type="B", depth=50, pretrain=f"{tmp_path}/runs/w.pth"), pretrain="x.pth"
    )
    assert cfg.work_dir == "out"


def test_functions_of_python_may_be_used_in_a_config(write):
    path = write("a.py", "import os\nmodel = dict(type='A', path=os.path.join('a', 'b'))\n")
    assert load_config(path).model.path == "a/b"


def test_classes_in_the_place_of_names(write, tmp_path):
    path = write(
        "a.py", "from torch import nn\nfrom torch.nn import Linear\nmodel = [dict(type=Linear, k=nn.ReLU)]\n"
    )
    config = load_config(path)
    assert (sorted(config), config.model[0].type) == (["model"], "torch.nn.modules.linear.Linear")
    assert "torch.nn.modules.linear.Linear" in config.pretty_text


def test_what_read_base_cannot_inherit(write):
    write("a.py", "import torch\nmodel = dict(type='A', k=torch.ones(2))\n")
    path = write("b.py", "from mmengine.config import read_base\nwith read_base():\n    from .a import *\n")
    with pytest.raises(ConfigError, match=r"a\.py, line 2, calls what it has imported .*_base_ = "):
        load_config(path)


def test_yaml_and_json(write):
    write("base.yaml", "model: {type: A, depth: 3}\n")
    assert load_config(write("a.yaml", "_base_: base.yaml\nmodel: {depth: 4}\n")).model == dict(
        type="A", depth=4
    )
    assert load_config(write("a.json", '{"model": {"type": "B"}}')).model == dict(type="B")


@pytest.mark.parametrize("suffix", ["yaml", "yml"])
@pytest.mark.parametrize("nested", [False, True])
def test_yaml_runs_no_code(write, tmp_path, suffix, nested):
    attack = f"model: !!python/object/apply:os.mkdir ['{tmp_path}/hacked']\n"
    path = write(f"a.{suffix}", attack)
    if nested:
        path = write(f"b.{suffix}", f"_base_: [a.{suffix}]\nmodel: {{type: A}}\n")
    with pytest.raises(ConfigError, match=rf"a\.{suffix} is not a plain YAML config"):
        load_config(path)
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize(
    ("name", "text"), [("b.json", '{"_base_": "a.yaml"}'), ("b.py", "_base_ = 'a.yaml'")]
)
def test_yaml_that_others_inherit_runs_no_code(write, tmp_path, name, text):
    write("a.yaml", f"model: !!python/object/apply:os.mkdir ['{tmp_path}/hacked']\n")
    with pytest.raises(ConfigError, match=r"a\.yaml is not a plain YAML config"):
        load_config(write(name, text))
    assert not (tmp_path / "hacked").exists()


def test_a_tag_that_a_variable_completes_runs_no_code(write, tmp_path):
    path = write("a.yaml", 'model: "!!py{{$NO_SUCH:thon}}"\nb: \'{{"$NO_SUCH:x}}\'\n')
    assert load_config(path).model == "!!python"
    path = write("a.yaml", f"model: !!py{{{{$NO_SUCH:thon/object/apply:os.mkdir}}}} ['{tmp_path}/hacked']\n")
    with pytest.raises(ConfigError, match=r"a\.yaml is not a plain YAML config"):
        load_config(path)
    assert not (tmp_path / "hacked").exists()


def test_values_of_the_base_in_yaml(write):
    write("base.yaml", "depth: 3\n")
    path = write("a.yaml", "_base_: base.yaml\nmodel: {type: A, depth: {{_base_.depth}}}\n")
    assert load_config(path).model.depth == 3


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.py", "model = {}\nb = = 3", r"a\.py, line 2: invalid syntax"),
        ("a.json", '{"model": 3,}', r"a\.json is not a JSON config: .*line 1"),
        ("a.json", "[1]", r"a\.json must hold names and values, got list"),
        ("a.py", "_base_ = 'none.py'", r"There is no config .*none\.py: did you mean .*a\.py"),
        ("a.py", "_base_ = 'mmpretrain::x.py'", r"inherits mmpretrain::x\.py, .*install setuptools<81"),
    ],
)
def test_what_is_no_config(write, name, text, message):
    if "::" in text and find_spec("pkg_resources"):
        pytest.skip("this setuptools has pkg_resources")
    with pytest.raises(ConfigError, match=message):
        load_config(write(name, text))


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words"])
def test_yaml_without_names_and_values(write, text):
    with pytest.raises(ConfigError, match="must hold names and values"):
        load_config(write("a.yaml", text))


def test_a_config_without_model(write):
    path = write("a.py", "modle = dict(type='A')\n")
    with pytest.raises(ConfigError, match=rf"The config {path} has no `model`. It has: modle"):
        load_config(path)


def test_a_missing_file_names_the_nearest(write, tmp_path):
    near = write("resnet/resnet50_8xb32_in1k.py", "model = dict(type='A')")
    write("other.py", "")
    with pytest.raises(ConfigError) as error:
        load_config(tmp_path / "resnet" / "resnet50_8xb32_in1.py")
    assert str(error.value).endswith(f"did you mean {near}?")
    with pytest.raises(ConfigError, match=f"did you mean {near}"):
        load_config(tmp_path / "resnets" / "resnet50_8xb32_in1k.py")


def test_something_else_than_a_config(write):
    with pytest.raises(ConfigError, match=r"a\.pth is no config: the suffixes of configs are \.py"):
        load_config(write("a.pth", ""))


def test_a_change_to_a_field_that_no_config_has(write):
    path = write("a.py", "model = dict(type='A')\nmine = 3\n")
    assert load_config(path, {"mine": 4, "load_from": "x"}).mine == 4
    with pytest.raises(
        ConfigError,
        match=r"The config has no 'optim_wraper', as in optim_wraper\.lr: did you mean optim_wrapper",
    ):
        load_config(path, {"optim_wraper.lr": 0.1})
