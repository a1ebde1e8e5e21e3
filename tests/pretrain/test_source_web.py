"""The cache of what is fetched over HTTP: digests, mirrors, no network, many processes."""

import fcntl
import hashlib
import json
import os
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time

import pytest

from framework.pretrain.errors import (
    DownloadError,
    HashError,
    OfflineError,
    SpecError,
)
from framework.pretrain.source import fetch
from framework.pretrain.sources import cache

pytestmark = pytest.mark.usefixtures("no_waiting")
BODY = bytes(range(256)) * 4000  # 1 MB
SHA256 = hashlib.sha256(BODY).hexdigest()
NAMED = f"resnet50-{SHA256[:8]}.pth"


def test_a_file_is_fetched_once_and_recorded(host, cache_home, cached):
    url = host.serve("/models/a.pth")
    path = fetch(url)
    assert path.read_bytes() == BODY
    assert path.name == "a.pth" and path.is_relative_to(cache_home)
    assert fetch(url) == path and len(host.requests) == 1
    assert host.requests[0][1]["Accept-Encoding"] == "identity"
    assert cached() == ["a.pth", "a.pth.json"]
    record = json.loads((path.parent / "a.pth.json").read_text())
    assert record["address"] == url and record["validator"] == '"v1"'
    assert record["sha256"] == SHA256 and record["size"] == len(BODY)


def test_equal_names_at_different_addresses_do_not_meet(host):
    paths = [
        fetch(host.serve(f"/{folder}/resnet50.pth", body=folder.encode())) for folder in ("vicreg", "twins")
    ]
    assert [path.read_bytes() for path in paths] == [b"vicreg", b"twins"]
    assert fetch(host.serve("/my%20model.pth")).name == "my_model.pth"
    query = host.serve("/download")
    assert fetch(query + "?id=1") != fetch(query + "?id=2")


def test_the_home_is_read_at_the_call(host, tmp_path, monkeypatch):
    url = host.serve()
    first = fetch(url)
    monkeypatch.setenv("FRAMEWORK_HOME", str(tmp_path / "other"))
    assert fetch(url) != first and len(host.requests) == 2
    monkeypatch.delenv("FRAMEWORK_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    assert fetch(url).is_relative_to(tmp_path / "user" / ".cache" / "framework")


# --- digests


def test_the_digest_in_a_name_is_checked(host, cached):
    assert fetch(host.serve(f"/{NAMED}")).read_bytes() == BODY
    url = host.serve("/swin_t-704ceda3.pth")
    with pytest.raises(HashError) as error:
        fetch(url)
    assert url in str(error.value) and "704ceda3" in str(error.value) and SHA256 in str(error.value)
    assert cached() == [NAMED, f"{NAMED}.json"]


@pytest.mark.parametrize(
    "name",
    [
        *[
            "checkpoint-799.pth",
            "IN1K-vit.h.14-300e.pth.tar",
            "weights-.pth",
            "ckpt-20230101.pth",
            "a-DEADBEEF.pth",
        ],
        *[
            "deadbeef.pth",
            "model-00001-of-00002.bin",
            "m-550e8400-e29b-41d4-a716-446655440000.pt",
            "x-deadbeef",
        ],
    ],
)
def test_names_that_promise_nothing(host, name):
    assert fetch(host.serve(f"/{name}")).read_bytes() == BODY


@pytest.mark.parametrize("name", ["a-deadbeef.pth", "a-80465313.pth.tar", f"b-{'0' * 64}.safetensors"])
def test_names_that_promise_something(host, name):
    with pytest.raises(HashError):
        fetch(host.serve(f"/{name}"))


def test_a_digest_that_is_given_counts_more_than_the_name(host, cached):
    url = host.serve("/a-deadbeef.pth")
    assert fetch(url, sha256=SHA256.upper()).read_bytes() == BODY
    with pytest.raises(HashError, match="00000000"):
        fetch(host.serve(f"/{NAMED}"), sha256="00000000")
    assert NAMED not in cached()


def test_a_broken_cache_entry_is_fetched_again(host):
    path = fetch(url := host.serve())
    path.write_bytes(BODY[:-1] + b"?")
    assert fetch(url).read_bytes() == BODY and len(host.requests) == 2
    os.utime(path, (1, 1))  # another stamp, the same bytes
    assert fetch(url).read_bytes() == BODY and len(host.requests) == 2


def test_a_new_promise_is_checked_against_the_cache(host):
    path = fetch(url := host.serve())
    assert fetch(url, sha256=SHA256) == path and len(host.requests) == 1
    with pytest.raises(HashError):
        fetch(url, sha256="0" * 64)
    assert len(host.requests) == 2
    assert fetch(url).read_bytes() == BODY and len(host.requests) == 2


# --- offline, mirrors, shards


def test_offline_the_cache_works_and_the_rest_says_where_to_put_the_file(host, monkeypatch):
    path = fetch(url := host.serve())
    monkeypatch.setenv("FRAMEWORK_OFFLINE", "1")
    assert fetch(url) == path
    other = host.serve(f"/{NAMED}")
    with pytest.raises(OfflineError, match=re.escape(other)) as error:
        fetch(other)
    place = cache.entry_for(other).path
    assert f"put the file at {place}" in str(error.value)
    place.parent.mkdir(parents=True)
    place.write_bytes(b"something else")
    with pytest.raises(HashError, match="FRAMEWORK_OFFLINE"):
        fetch(other)
    place.write_bytes(BODY)
    assert fetch(other) == place and len(host.requests) == 1
    assert (place.parent / f"{NAMED}.json").exists()
    monkeypatch.setenv("FRAMEWORK_OFFLINE", "0")
    assert fetch(host.serve("/c.pth")).read_bytes() == BODY


def test_mirrors(host, tmp_path, monkeypatch):
    host.serve("/mirror/a.pth")
    mapping = (r"https://(?:download|dl)\.example\.org/models", f"{host.address}/mirror")
    assert fetch("https://dl.example.org/models/a.pth", url_mapping=mapping).read_bytes() == BODY
    monkeypatch.setenv("FRAMEWORK_URL_MAPPING", "=>".join(mapping))
    assert fetch("https://download.example.org/models/a.pth").read_bytes() == BODY
    (tmp_path / "a.pth").touch()
    assert fetch("https://x.org/a.pth", url_mapping=(r"https://x\.org", str(tmp_path))) == tmp_path / "a.pth"


@pytest.mark.parametrize("mapping", [("(", "x"), ("a", r"\9"), ("a",), "a=>b", ("a", 1)])
def test_mirrors_that_make_no_sense(mapping):
    with pytest.raises(SpecError, match="url_mapping"):
        fetch("http://a/a.pth", url_mapping=mapping)


def test_a_mirror_variable_without_an_arrow(monkeypatch):
    monkeypatch.setenv("FRAMEWORK_URL_MAPPING", "https://a")
    with pytest.raises(SpecError, match="'regex=>replacement'"):
        fetch("http://a/a.pth")


def test_an_index_brings_its_shards(host, cache_home):
    index = {"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors", "c": "m-1.safetensors"}}
    host.serve("/x/m-1.safetensors", body=b"one")
    host.serve("/x/m-2.safetensors", body=b"two")
    path = fetch(host.serve("/x/model.safetensors.index.json", body=json.dumps(index).encode()))
    assert path.name == "model.safetensors.index.json"
    assert [(path.parent / f"m-{i}.safetensors").read_bytes() for i in (1, 2)] == [b"one", b"two"]
    assert len(host.requests) == 3


@pytest.mark.parametrize(
    "body", [b"{}", b"[1]", b"\xff", b'{"weight_map": {"a": "../b.bin"}}', b'{"weight_map": {"a": 1}}']
)
def test_an_index_that_is_none(host, body):
    with pytest.raises(DownloadError, match=r"index\.json"):
        fetch(host.serve("/model.bin.index.json", body=body))


# --- many processes

# Fetches a URL in many processes at once, and ends with the number of those that got something else.
FETCH = """
import os, sys
from framework.pretrain.source import fetch
from framework.pretrain.sources import web

url, count, length = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
children = []
for _ in range(count):
    child = os.fork()
    if child == 0:
        os._exit(fetch(url).stat().st_size != length)
    children.append(child)
sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))
"""


def start_fetching(url, count):
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, url, str(count), str(len(BODY))], start_new_session=True
    )


def test_many_processes_fetch_a_file_once(host):
    url = host.serve(f"/{NAMED}", pause=0.2)
    assert start_fetching(url, 20).wait(60) == 0
    assert len(host.requests) == 1


def test_a_killed_process_neither_hangs_nor_spoils_the_next(host, cache_home):
    url = host.serve(gate=threading.Event())
    process = start_fetching(url, 1)
    while not [part for part in cache_home.rglob("*.part") if part.stat().st_size > 400_000]:
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    host.files["/a.pth"].gate.set()
    assert fetch(url).read_bytes() == BODY
    assert int(host.ranges()[1][6:-1]) > 400_000


def test_a_bar_shows_the_progress_on_a_terminal_alone(host, capfd):
    url = host.serve()
    screen, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
    script = "import sys; from framework.pretrain.source import fetch; fetch(sys.argv[1])"
    subprocess.run([sys.executable, "-c", script, url], stderr=terminal, check=True)
    os.close(terminal)
    assert "a.pth: 100%" in os.read(screen, 1 << 16).decode()
    os.close(screen)
    fetch(host.serve("/b.pth"))
    assert capfd.readouterr() == ("", "")
