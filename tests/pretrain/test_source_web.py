"""Downloads, from a real server on loopback that can misbehave in all the ways that servers do."""

import contextlib
import fcntl
import gzip
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
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

import pytest

from framework.pretrain.errors import (
    DownloadError,
    HashError,
    NotAllowedError,
    NotFoundError,
    OfflineError,
    SourceError,
    SpecError,
)
from framework.pretrain.source import fetch
from framework.pretrain.sources import cache, transfer, web

BODY = bytes(range(256)) * 4000  # 1 MB
SHA256 = hashlib.sha256(BODY).hexdigest()
NAMED = f"resnet50-{SHA256[:8]}.pth"


@dataclass
class Served:
    """A file on the server, and how it is served."""

    body: bytes = BODY
    headers: dict = field(default_factory=lambda: {"ETag": '"v1"'})
    ranges: str = "if-range"  # or "always", which ignores If-Range, or "none"
    statuses: list = field(default_factory=list)  # of the next answers; 200 when used up
    cuts: list = field(default_factory=list)  # how many bytes the next answers send before they hang up
    claimed: int | None = None  # a false Content-Length
    pause: float = 0.0  # before the first byte
    gate: threading.Event | None = None  # opened by the test; the second half waits for it


class Host:
    """Files by path, and the requests for them."""

    def __init__(self, loopback):
        self.files, self.requests = {}, []
        self.address = loopback(type("Handler", (_Handler,), {"host": self}))

    def serve(self, path="/a.pth", **how):
        self.files[path] = Served(**how)
        return self.address + path

    def ranges(self):
        return [headers.get("Range") for _, headers in self.requests]


class _Handler(BaseHTTPRequestHandler):
    host: Host

    def do_GET(self):
        self.host.requests.append((self.path, dict(self.headers)))
        served = self.host.files.get(self.path.partition("?")[0])
        if served is None:
            return self.send_error(404)
        time.sleep(served.pause)
        status = served.statuses.pop(0) if served.statuses else 200
        if status != 200:
            return self._refuse(status, served)
        return self._send(served)

    def _refuse(self, status, served):
        self.send_response(status)
        for name, value in served.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, served):
        start = self._start(served)
        if start and start >= len(served.body):
            return self.send_error(416)
        body = served.body[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(served.body) - 1}/{len(served.body)}")
        self.send_header("Content-Length", str(served.claimed or len(body)))
        for name, value in served.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if served.gate:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            served.gate.wait(20)
            body = body[len(body) // 2 :]
        self.wfile.write(body[: served.cuts.pop(0)] if served.cuts else body)

    def _start(self, served):
        asked = self.headers.get("Range")
        if asked is None or served.ranges == "none":
            return 0
        if served.ranges == "if-range" and self.headers.get("If-Range") not in served.headers.values():
            return 0
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    def log_message(self, *args):
        pass


@pytest.fixture
def host(loopback):
    return Host(loopback)


@pytest.fixture(autouse=True)
def no_waiting(cache_home, monkeypatch):
    monkeypatch.setattr(transfer, "PAUSES", (0.0, 0.0, 0.0))


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


def test_a_file_is_fetched_once_and_recorded(host, cache_home):
    url = host.serve("/models/a.pth")
    path = fetch(url)
    assert path.read_bytes() == BODY
    assert path.name == "a.pth" and path.is_relative_to(cache_home)
    assert fetch(url) == path and len(host.requests) == 1
    assert host.requests[0][1]["Accept-Encoding"] == "identity"
    assert files_in(cache_home) == ["a.pth", "a.pth.json"]
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


def test_the_digest_in_a_name_is_checked(host, cache_home):
    assert fetch(host.serve(f"/{NAMED}")).read_bytes() == BODY
    url = host.serve("/swin_t-704ceda3.pth")
    with pytest.raises(HashError) as error:
        fetch(url)
    assert url in str(error.value) and "704ceda3" in str(error.value) and SHA256 in str(error.value)
    assert files_in(cache_home) == [NAMED, f"{NAMED}.json"]


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


def test_a_digest_that_is_given_counts_more_than_the_name(host, cache_home):
    url = host.serve("/a-deadbeef.pth")
    assert fetch(url, sha256=SHA256.upper()).read_bytes() == BODY
    with pytest.raises(HashError, match="00000000"):
        fetch(host.serve(f"/{NAMED}"), sha256="00000000")
    assert NAMED not in files_in(cache_home)


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


# --- broken transfers


@pytest.mark.parametrize("headers", [{"ETag": '"v1"'}, {"Last-Modified": "Sat, 01 Jan 2022 00:00:00 GMT"}])
def test_a_cut_transfer_goes_on_where_it_broke_off(host, headers):
    url = host.serve(cuts=[400_000, 200_000], headers=headers)
    assert fetch(url).read_bytes() == BODY
    starts = [int(asked[6:-1]) for asked in host.ranges()[1:]]
    assert host.ranges()[0] is None
    assert 300_000 < starts[0] <= 400_000 and 500_000 < starts[1] <= 600_000


def test_as_long_as_there_is_progress_it_goes_on(host):
    assert fetch(host.serve(cuts=[150_000] * 6)).read_bytes() == BODY
    assert len(host.requests) == 7


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"v1"'}], ids=["nothing tells versions", "weak tag"])
def test_without_a_sure_version_it_starts_again(host, headers):
    assert fetch(host.serve(cuts=[400_000], headers=headers)).read_bytes() == BODY
    assert host.ranges() == [None, None]


def test_without_ranges_it_starts_again(host):
    assert fetch(host.serve(cuts=[400_000], ranges="none")).read_bytes() == BODY
    assert len(host.requests) == 2


def test_a_call_goes_on_from_what_an_earlier_one_left(host, cache_home):
    url = host.serve(cuts=[400_000], statuses=[200, 404])
    with pytest.raises(NotFoundError):
        fetch(url)
    assert files_in(cache_home) == ["a.pth.part", "a.pth.part.json"]
    assert fetch(url).read_bytes() == BODY
    assert host.ranges()[2] == host.ranges()[1] != "bytes=0-"
    assert files_in(cache_home) == ["a.pth", "a.pth.json"]


@pytest.mark.parametrize("ranges", ["if-range", "always"])
@pytest.mark.parametrize("size", [1_000_000, 300_000])
def test_versions_are_never_mixed(host, ranges, size):
    url = host.serve(cuts=[400_000], statuses=[200, 404])
    with pytest.raises(NotFoundError):
        fetch(url)
    host.serve(body=BODY[::-1][:size], headers={"ETag": '"v2"'}, ranges=ranges)
    assert fetch(url).read_bytes() == BODY[::-1][:size]


def test_a_part_that_spoils_the_digest_is_thrown_away(host, cache_home):
    url = host.serve(f"/{NAMED}", cuts=[400_000], statuses=[200, 404])
    with pytest.raises(NotFoundError):
        fetch(url)
    (part,) = cache_home.rglob("*.part")
    part.write_bytes(b"?" * part.stat().st_size)
    assert fetch(url).read_bytes() == BODY


def test_it_gives_up_where_there_is_no_progress(host, cache_home):
    url = host.serve(cuts=[1000] * 9, ranges="none")
    with pytest.raises(DownloadError, match=re.escape(url)):
        fetch(url)
    assert len(host.requests) == 1 + len(transfer.PAUSES)
    assert "a.pth" not in files_in(cache_home)


def test_a_length_that_is_too_long(host):
    url = host.serve(claimed=2 * len(BODY))
    with pytest.raises(DownloadError, match=re.escape(url)):
        fetch(url)


def test_a_disk_that_is_too_small(host):
    with pytest.raises(SourceError, match=r"needs .* MB more.*FRAMEWORK_HOME"):
        fetch(host.serve(claimed=10**18))


def test_a_home_that_is_no_folder(host, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FRAMEWORK_HOME", str(tmp_path / "file"))
    with pytest.raises(SourceError, match="set FRAMEWORK_HOME"):
        fetch(host.serve())


def test_a_host_that_says_nothing(host, monkeypatch):
    monkeypatch.setattr(web, "TIMEOUT", (1, 0.05))
    with pytest.raises(DownloadError, match="timed out"):
        fetch(host.serve(pause=0.3))


def test_a_stream_that_ends_early(tmp_path):
    streams = iter([transfer.Stream(0, 5, "v", [b"abc"]), transfer.Stream(3, 5, "v", [b"de"])])
    part = transfer.Part(tmp_path / "a.part")
    opened = []

    def opener(start, validator):
        opened.append((start, validator))
        return contextlib.nullcontext(next(streams))

    assert transfer.download(part, opener, "a") == "v"
    assert part.path.read_bytes() == b"abcde" and opened == [(0, ""), (3, "v")]
    assert transfer.download(part, opener, "a") == "v" and len(opened) == 2


# --- answers that are no file


@pytest.mark.parametrize(
    ("status", "error", "requests"),
    [
        *[
            (404, NotFoundError, 1),
            (410, NotFoundError, 1),
            (401, NotAllowedError, 1),
            (403, NotAllowedError, 1),
        ],
        *[(400, DownloadError, 1), (500, DownloadError, 4), (503, DownloadError, 4), (429, DownloadError, 4)],
    ],
)
def test_refusals(host, cache_home, status, error, requests):
    url = host.serve(statuses=[status] * 9)
    with pytest.raises(SourceError, match=re.escape(url)) as caught:
        fetch(url)
    assert type(caught.value) is error and str(status) in str(caught.value)
    assert len(host.requests) == requests and files_in(cache_home) == []


def test_a_busy_host_is_asked_again(host):
    assert fetch(host.serve(statuses=[503, 502])).read_bytes() == BODY


def test_redirects_are_followed(host):
    host.serve("/b.pth", cuts=[400_000])
    url = host.serve(statuses=[302] * 2, headers={"Location": "/b.pth"})
    path = fetch(url)
    assert path.read_bytes() == BODY and path.name == "a.pth"
    assert host.ranges()[3] is not None
    with pytest.raises(DownloadError, match="redirects"):
        fetch(host.serve("/loop.pth", statuses=[302] * 99, headers={"Location": "/loop.pth"}))


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        (
            "/a/blob/main/a.pth",
            b"\xef\xbb\xbf\n<!DOCTYPE html><html></html>",
            r"HTML page.*127.*/a/raw/main/a\.pth",
        ),
        ("/login.pth", b"<html lang='en'>", "HTML page.*browser"),
        ("/nothing.pth", b"", "empty file"),
        ("/b.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:", "Git LFS pointer"),
    ],
)
def test_pages_instead_of_files(host, cache_home, path, body, words):
    with pytest.raises(DownloadError, match=words):
        fetch(host.serve(path, body=body))
    assert files_in(cache_home) == []


def test_an_encoded_body_is_decoded(host):
    headers = {"Content-Encoding": "gzip", "ETag": '"v1"'}
    url = host.serve(body=gzip.compress(BODY), headers=headers)
    assert fetch(url).read_bytes() == BODY


def test_no_network(monkeypatch):
    monkeypatch.setattr(transfer, "PAUSES", ("no pause",))
    with pytest.raises(OfflineError, match=r"127\.0\.0\.1:9.*FRAMEWORK_URL_MAPPING"):
        fetch("http://127.0.0.1:9/a.pth")
    with pytest.raises(OfflineError, match=r"nowhere\.invalid"):
        fetch("http://nowhere.invalid/a.pth")
    with pytest.raises(DownloadError, match="cannot be fetched"):
        fetch("http://")


def test_secrets_stay_out_of_messages_and_records(host, cache_home):
    url = host.serve().replace("http://", "http://user:hunter2@") + "?X-Amz-Signature=hunter3&v=1"
    path = fetch(url)
    assert "hunter" not in (path.parent / "a.pth.json").read_text()
    with pytest.raises(NotFoundError) as error:
        fetch(url.replace("a.pth", "b.pth"))
    assert "hunter" not in str(error.value) and "v=1" in str(error.value)


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
