"""Transfers that break off, and answers that are no file, from a real server on loopback."""

import contextlib
import gzip
import hashlib
import re

import pytest

from framework.pretrain.errors import (
    DownloadError,
    NotAllowedError,
    NotFoundError,
    OfflineError,
    SourceError,
)
from framework.pretrain.source import fetch
from framework.pretrain.sources import transfer, web

pytestmark = pytest.mark.usefixtures("no_waiting")
BODY = bytes(range(256)) * 4000  # 1 MB
SHA256 = hashlib.sha256(BODY).hexdigest()
NAMED = f"resnet50-{SHA256[:8]}.pth"


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


def test_a_call_goes_on_from_what_an_earlier_one_left(host, cached):
    url = host.serve(cuts=[400_000], statuses=[200, 404])
    with pytest.raises(NotFoundError):
        fetch(url)
    assert cached() == ["a.pth.part", "a.pth.part.json"]
    assert fetch(url).read_bytes() == BODY
    assert host.ranges()[2] == host.ranges()[1] != "bytes=0-"
    assert cached() == ["a.pth", "a.pth.json"]


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


def test_it_gives_up_where_there_is_no_progress(host, cached):
    url = host.serve(cuts=[1000] * 9, ranges="none")
    with pytest.raises(DownloadError, match=re.escape(url)):
        fetch(url)
    assert len(host.requests) == 1 + len(transfer.PAUSES)
    assert "a.pth" not in cached()


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
def test_refusals(host, status, error, requests, cached):
    url = host.serve(statuses=[status] * 9)
    with pytest.raises(SourceError, match=re.escape(url)) as caught:
        fetch(url)
    assert type(caught.value) is error and str(status) in str(caught.value)
    assert len(host.requests) == requests and cached() == []


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
def test_pages_instead_of_files(host, path, body, words, cached):
    with pytest.raises(DownloadError, match=words):
        fetch(host.serve(path, body=body))
    assert cached() == []


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
