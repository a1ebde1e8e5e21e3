"""Local paths: returned as they are, or an error that shows where to look."""

import hashlib
import os
from pathlib import Path

import pytest

from framework.pretrain.errors import HashError, NotAllowedError, NotFoundError, SpecError
from framework.pretrain.source import fetch

CONTENT = b"some weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "mae base-799.pth"
    path.write_bytes(CONTENT)
    return path


def test_existing_paths_come_back_as_they_were_given(weights, monkeypatch):
    monkeypatch.chdir(weights.parent)
    monkeypatch.setenv("HOME", str(weights.parent))
    assert fetch(weights) == weights
    assert fetch(str(weights)) == weights
    assert fetch(weights.name) == Path(weights.name)
    assert fetch(f"~/{weights.name}") == weights
    assert fetch(weights.parent) == weights.parent


def test_file_addresses(weights):
    assert fetch(weights.as_uri()) == weights
    assert "%20" in weights.as_uri()
    assert fetch(f"file://localhost{weights}") == weights
    with pytest.raises(NotFoundError, match=r"file:///server/a\.pth"):
        fetch("file://server/a.pth")


def test_digest_of_a_local_file(weights):
    for digits in (SHA256, SHA256[:8], SHA256.upper()):
        assert fetch(weights, sha256=digits) == weights
    with pytest.raises(HashError) as error:
        fetch(weights, sha256="0" * 64)
    assert "0" * 64 in str(error.value) and SHA256 in str(error.value) and str(weights) in str(error.value)
    with pytest.raises(SpecError, match="folder"):
        fetch(weights.parent, sha256=SHA256)


@pytest.mark.parametrize("digits", ["", "xyz", "0" * 65, 5])
def test_digits_that_are_none(weights, digits):
    with pytest.raises(SpecError, match="hexadecimal"):
        fetch(weights, sha256=digits)


def test_the_name_of_a_local_file_promises_nothing(tmp_path):
    path = tmp_path / "resnet50-00000000.pth"
    path.write_bytes(CONTENT)
    assert fetch(path) == path


def test_a_missing_file_names_the_path_tried_and_its_neighbours(weights, monkeypatch):
    monkeypatch.chdir(weights.parent)
    with pytest.raises(NotFoundError) as error:
        fetch("mae_base-799.pth")
    assert str(weights.parent / "mae_base-799.pth") in str(error.value)
    assert "did you mean mae base-799.pth?" in str(error.value)


def test_a_missing_folder_is_named(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(NotFoundError, match=r"has no 'checkpoint'\).*did you mean checkpoints\?"):
        fetch(tmp_path / "checkpoint" / "run" / "a.pth")


def test_other_things_that_are_no_file(weights, tmp_path):
    dangling = tmp_path / "latest.pth"
    dangling.symlink_to("epoch_9.pth")
    with pytest.raises(NotFoundError, match=r"link to epoch_9\.pth"):
        fetch(dangling)
    with pytest.raises(NotFoundError, match="is a file"):
        fetch(weights / "a.pth")
    with pytest.raises(NotFoundError, match="as a string"):
        fetch(Path("https://host/a.pth"))
    with pytest.raises(NotFoundError, match="no path"):
        fetch("a\0b")
    with pytest.raises(SpecError, match="got 3"):
        fetch(3)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file(weights):
    weights.chmod(0)
    with pytest.raises(NotAllowedError, match="permission"):
        fetch(weights)
