from __future__ import annotations

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
