"""Files behind fsspec: its memory, and s3:// with the real driver against a small S3 on loopback."""

import hashlib
import json
import re
import uuid
import zipfile
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

import fsspec
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
from framework.pretrain.sources import cache, storage

pytestmark = pytest.mark.usefixtures("no_waiting")
BODY = bytes(range(256)) * 4000
INDEX = json.dumps({"weight_map": {"a": "m-1.bin", "b": "m-2.bin"}}).encode()


@pytest.fixture
def memory():
    """A new folder in fsspec's memory: its address, and a function that writes into it."""
    filesystem, folder = fsspec.filesystem("memory"), f"/{uuid.uuid4().hex}"
    yield f"memory:/{folder}", lambda name, data: filesystem.pipe(f"{folder}/{name}", data)
    if filesystem.exists(folder):
        filesystem.rm(folder, recursive=True)


def test_a_file_is_fetched_again_when_it_has_changed(memory, cache_home):
    folder, write = memory
    write("a.pth", BODY)
    path = fetch(f"{folder}/a.pth")
    assert path.read_bytes() == BODY and path.name == "a.pth" and path.is_relative_to(cache_home)
    stamp = path.stat().st_mtime_ns
    assert fetch(f"{folder}/a.pth").stat().st_mtime_ns == stamp
    write("a.pth", BODY[::-1])
    assert fetch(f"{folder}/a.pth").read_bytes() == BODY[::-1]


def test_digests_are_checked(memory):
    folder, write = memory
    write("a-deadbeef.pth", BODY)
    with pytest.raises(HashError, match=r"a-deadbeef\.pth"):
        fetch(f"{folder}/a-deadbeef.pth")
    sha256 = hashlib.sha256(BODY).hexdigest()
    assert fetch(f"{folder}/a-deadbeef.pth", sha256=sha256).read_bytes() == BODY


def test_of_a_folder_the_weights_are_fetched(memory):
    folder, write = memory
    for name in ("model.safetensors", "pytorch_model.bin", "config.json", "optimizer.bin", "old/model.bin"):
        write(name, name.encode())
    path = fetch(folder)
    assert path.read_bytes() == b"model.safetensors"
    assert [entry.name for entry in path.parent.iterdir() if not entry.name.startswith(path.name)] == []


def test_of_a_folder_with_an_index_the_shards_are_fetched(memory):
    folder, write = memory
    for name, data in (("pytorch_model.bin.index.json", INDEX), ("m-1.bin", b"one"), ("m-2.bin", b"two")):
        write(name, data)
    for address in (folder, f"{folder}/pytorch_model.bin.index.json"):
        path = fetch(address)
        assert path.name == "pytorch_model.bin.index.json"
        assert [(path.parent / f"m-{i}.bin").read_bytes() for i in (1, 2)] == [b"one", b"two"]


def test_a_distributed_checkpoint_is_fetched_as_a_whole(memory, monkeypatch):
    folder, write = memory
    names = (".metadata", "__0_0.distcp", "__1_0.distcp")
    for name in names:
        write(name, name.encode())
    path = fetch(folder)
    assert all((path / name).read_bytes() == name.encode() for name in names)
    with pytest.raises(SpecError, match="is a folder"):
        fetch(folder, sha256="00")
    monkeypatch.setenv("FRAMEWORK_OFFLINE", "1")
    assert fetch(folder) == path


def test_a_folder_of_several_weights_asks_for_one(memory):
    folder, write = memory
    for name in ("epoch_1.pth", "epoch_2.pth"):
        write(name, b"x")
    with pytest.raises(NotFoundError, match=re.escape(f"{folder}/epoch_2.pth")):
        fetch(folder)
    write("only/readme.md", b"x")
    with pytest.raises(NotFoundError, match="no file of weights"):
        fetch(f"{folder}/only")


def test_offline_the_cached_copies_work(memory, monkeypatch):
    folder, write = memory
    write("sub/a.pth", BODY)
    write("sub/readme.md", b"x")
    path = fetch(f"{folder}/sub")
    monkeypatch.setenv("FRAMEWORK_OFFLINE", "1")
    assert fetch(f"{folder}/sub") == path
    missing = f"{folder}/b.pth"
    with pytest.raises(OfflineError, match=re.escape(f"put the file at {cache.entry_for(missing).path}")):
        fetch(missing)


def test_chained_addresses(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("weights.pth", BODY)
    path = fetch(f"zip://weights.pth::file://{tmp_path / 'a.zip'}")
    assert path.read_bytes() == BODY and path.name == "weights.pth"


def test_what_is_not_there_or_not_known():
    with pytest.raises(NotFoundError, match="memory://no/such"):
        fetch("memory://no/such.pth")
    with pytest.raises(SpecError, match="did you mean memory"):
        fetch("memry://a.pth")
    with pytest.raises(SourceError, match="Install ossfs"):
        fetch("oss://bucket/a.pth")


@pytest.mark.parametrize("scheme", ["open-mmlab", "mmcls", "petrel", "modelzoo"])
def test_spellings_of_other_projects_are_refused(scheme):
    with pytest.raises(SpecError, match=rf"{scheme}:// is not known here; (give|write)"):
        fetch(f"{scheme}://resnet50")


# --- s3://


def etag_of(body):
    return f'"{hashlib.md5(body).hexdigest()}"'


class Bucket(BaseHTTPRequestHandler):
    """The three requests of S3 that reading takes: HEAD and GET of an object, and a listing."""

    protocol_version = "HTTP/1.1"
    objects: dict
    requests: list
    broken: list  # how many bytes the next answers with a body send before they hang up

    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def _answer(self, with_body):
        url = urlsplit(self.path)
        _, bucket, *rest = url.path.split("/", 2)
        self.requests.append((self.command, self.path, self.headers.get("Range")))
        if bucket == "secret":
            return self._send(403, b"<Error><Code>AccessDenied</Code></Error>", with_body)
        if "list-type" in url.query:
            return self._send(200, self._listing(parse_qs(url.query)["prefix"][0]), with_body)
        body = self.objects.get(rest[0])
        if body is None:
            return self._send(404, b"<Error><Code>NoSuchKey</Code></Error>", with_body)
        headers = {"ETag": etag_of(body)}
        if asked := self.headers.get("Range"):
            first, last = (int(number) for number in asked.removeprefix("bytes=").split("-"))
            headers["Content-Range"] = f"bytes {first}-{min(last, len(body) - 1)}/{len(body)}"
            return self._send(206, body[first : last + 1], with_body, headers)
        return self._send(200, body, with_body, headers)

    def _listing(self, prefix):
        entries = "".join(
            f"<Contents><Key>{key}</Key><Size>{len(body)}</Size><ETag>{etag_of(body)}</ETag></Contents>"
            for key, body in self.objects.items()
            if key.startswith(prefix)
        )
        return f"<ListBucketResult><Prefix>{prefix}</Prefix>{entries}</ListBucketResult>".encode()

    def _send(self, status, body, with_body, headers=()):
        self.send_response(status)
        for name, value in dict(headers, **{"Content-Length": len(body)}).items():
            self.send_header(name, str(value))
        self.end_headers()
        if with_body and self.broken and status == 206:
            self.wfile.write(body[: self.broken.pop(0)])
            self.close_connection = True
        elif with_body:
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def bucket(loopback, monkeypatch):
    s3fs = pytest.importorskip("s3fs")
    handler = type("Handler", (Bucket,), {"objects": {}, "requests": [], "broken": []})
    monkeypatch.setenv("AWS_ENDPOINT_URL", loopback(handler))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    s3fs.S3FileSystem.clear_instance_cache()
    yield handler
    s3fs.S3FileSystem.clear_instance_cache()


def test_an_object_of_s3(bucket):
    bucket.objects["runs/a.pth"] = BODY
    path = fetch("s3://bucket/runs/a.pth")
    assert path.read_bytes() == BODY and path.name == "a.pth"
    bodies = sum(method == "GET" for method, *_ in bucket.requests)
    assert fetch("s3://bucket/runs/a.pth") == path
    assert sum(method == "GET" for method, *_ in bucket.requests) == bodies
    bucket.objects["runs/a.pth"] = BODY[::-1]
    assert fetch("s3://bucket/runs/a.pth").read_bytes() == BODY[::-1]


def test_a_folder_of_s3(bucket):
    bucket.objects["run/model.safetensors.index.json"] = INDEX
    bucket.objects |= {"run/m-1.bin": b"one", "run/m-2.bin": b"two"}
    path = fetch("s3://bucket/run")
    assert [(path.parent / f"m-{i}.bin").read_bytes() for i in (1, 2)] == [b"one", b"two"]
    bucket.objects["run/m-1.bin"] = b"ONE"
    assert (fetch("s3://bucket/run").parent / "m-1.bin").read_bytes() == b"ONE"
    bucket.objects["run/model.safetensors.index.json"] = INDEX.replace(b"m-2", b"m-1")
    assert b"m-2" not in fetch("s3://bucket/run").read_bytes()


def test_a_cut_transfer_of_s3_goes_on(bucket, monkeypatch):
    monkeypatch.setattr(storage, "_CHUNK", 200_000)
    bucket.objects["a.pth"] = BODY
    bucket.broken += [400_000, 100_000]
    assert fetch("s3://bucket/a.pth").read_bytes() == BODY
    starts = [asked.partition("-")[0] for *_, asked in bucket.requests if asked]
    assert starts.count("bytes=0") == 1 and bucket.broken == []


def test_versions_of_s3_are_never_mixed(bucket, monkeypatch):
    monkeypatch.setattr(storage, "_CHUNK", 200_000)
    bucket.objects["a.pth"] = BODY
    bucket.broken += [400_000] + [0] * 20
    with pytest.raises(DownloadError, match="bytes are kept"):
        fetch("s3://bucket/a.pth")
    bucket.broken.clear()
    bucket.objects["a.pth"] = BODY[::-1]
    assert fetch("s3://bucket/a.pth").read_bytes() == BODY[::-1]


def test_refusals_of_s3(bucket):
    with pytest.raises(SpecError, match="s3://no_bucket!"):
        fetch("s3://no_bucket!/a.pth")
    with pytest.raises(NotFoundError, match=r"s3://bucket/b\.pth"):
        fetch("s3://bucket/b.pth")
    with pytest.raises(NotAllowedError, match=r"s3://secret/a\.pth.*credentials"):
        fetch("s3://secret/a.pth")


def test_s3_without_a_network(bucket, monkeypatch, caplog):
    bucket.objects["a.pth"] = BODY
    path = fetch("s3://bucket/a.pth")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    assert fetch("s3://bucket/a.pth") == path
    assert "the copy in the cache is used" in caplog.text
    with pytest.raises(OfflineError, match=r"s3://bucket/b\.pth"):
        fetch("s3://bucket/b.pth")


def test_s3_without_credentials(bucket, tmp_path, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(NotAllowedError, match="credentials"):
        fetch("s3://bucket/a.pth")
