"""A remote file is looked at in parts: servers on loopback count the bytes that they send."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
import safetensors.torch
import torch

from framework.inspection import inspect_file
from framework.pretrain.errors import DamagedCheckpointError, NotFoundError, UnsafeCheckpointError
from framework.registry import BACKBONES

ROOT = Path(__file__).parents[2]


class Files:
    """Files by path, and what was sent of them."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self.sent = 0
        self.requests: list[str | None] = []
        self.ranges = True
        self.tags: Iterator[str] = iter(())  # ETags of the next answers


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: Files

    def do_GET(self) -> None:
        self.files.requests.append(self.headers.get("Range"))
        body = self.files.bodies.get(self.path)
        if body is None:
            return self.send_error(404)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked is None or not self.files.ranges:
            return self._send(200, body)
        start, end = int(asked[1]), min(int(asked[2] or len(body) - 1), len(body) - 1)
        self._send(206, body[start : end + 1], f"bytes {start}-{end}/{len(body)}")

    def _send(self, status: int, body: bytes, content_range: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", next(self.files.tags, '"1"'))
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        try:
            for at in range(0, len(body), 1 << 16):
                self.files.sent += self.wfile.write(body[at : at + (1 << 16)])
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True


@contextmanager
def serving(files: Files) -> Iterator[str]:
    with Server(("127.0.0.1", 0), type("Bound", (Handler,), {"files": files})) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Files, str]]:
    monkeypatch.setenv("FRAMEWORK_HOME", str(tmp_path / "home"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "FRAMEWORK_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with ExitStack() as stack:
        files = Files()
        yield files, stack.enter_context(serving(files))


def resnet() -> dict[str, torch.Tensor]:
    return dict(BACKBONES.build(dict(type="ResNet", depth=18, base_channels=32)).state_dict())


SAVERS: dict[str, Callable[[dict[str, torch.Tensor], Path], None]] = {
    "a.safetensors": safetensors.torch.save_file,
    "a.pth": lambda state, path: torch.save({"state_dict": state, "epoch": 7}, path),
}


@pytest.mark.parametrize("name", SAVERS)
def test_only_the_names_are_fetched(host: tuple[Files, str], name: str, tmp_path: Path) -> None:
    files, address = host
    SAVERS[name](resnet(), tmp_path / name)
    files.bodies[f"/{name}"] = (tmp_path / name).read_bytes()
    facts = inspect_file(f"{address}/{name}")
    local = inspect_file(tmp_path / name)
    assert facts.tensors == local.tensors and facts.architecture == local.architecture
    assert (facts.size, facts.file, facts.sha256) == (local.size, None, None)
    assert facts.bytes_read == files.sent <= 5 << 16 < local.size / 30
    assert not (tmp_path / "home").exists()


def test_a_file_that_changes_meanwhile_is_refused(host: tuple[Files, str], tmp_path: Path) -> None:
    files, address = host
    torch.save(resnet(), tmp_path / "a.pth")
    files.bodies["/a.pth"] = (tmp_path / "a.pth").read_bytes()
    files.tags = iter(['"1"', '"2"'])
    with pytest.raises(DamagedCheckpointError, match=f"{address}/a.pth was changed while it was being read"):
        inspect_file(f"{address}/a.pth")


def test_a_server_without_ranges_gives_the_whole_file(host: tuple[Files, str], tmp_path: Path) -> None:
    files, address = host
    files.ranges = False
    safetensors.torch.save_file(resnet(), tmp_path / "a.safetensors")
    files.bodies["/a.safetensors"] = (tmp_path / "a.safetensors").read_bytes()
    facts = inspect_file(f"{address}/a.safetensors")
    assert facts.file is not None and facts.file.read_bytes() == files.bodies["/a.safetensors"]
    assert facts.bytes_read is None and "downloaded as a whole" in facts.remark
    assert facts.sha256 == inspect_file(tmp_path / "a.safetensors").sha256


def test_an_old_file_is_needed_as_a_whole(host: tuple[Files, str], tmp_path: Path) -> None:
    files, address = host
    torch.save(resnet(), tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    files.bodies["/a.pth"] = (tmp_path / "a.pth").read_bytes()
    facts = inspect_file(f"{address}/a.pth")
    assert facts.format == "torch legacy" and facts.file is not None and facts.remark


def test_errors_name_the_address(host: tuple[Files, str], tmp_path: Path) -> None:
    files, address = host
    with pytest.raises(NotFoundError, match=f"{address}/b.pth does not exist"):
        inspect_file(f"{address}/b.pth")
    torch.save({"a": torch.ones(2), "run": torch.hub.load}, tmp_path / "a.pth")
    files.bodies["/a.pth"] = (tmp_path / "a.pth").read_bytes()
    with pytest.raises(UnsafeCheckpointError, match=r"torch\.hub\.load"):
        inspect_file(f"{address}/a.pth")


def test_any_protocol_of_fsspec(host: tuple[Files, str], tmp_path: Path) -> None:
    safetensors.torch.save_file(resnet(), tmp_path / "a.safetensors")
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/c1/a.safetensors", (tmp_path / "a.safetensors").read_bytes())
    try:
        facts = inspect_file("memory://c1/a.safetensors")
    finally:
        memory.rm("/c1", recursive=True)
    assert facts.tensors == inspect_file(tmp_path / "a.safetensors").tensors
    assert facts.bytes_read is not None and facts.bytes_read < 4 << 16


def test_an_address_of_s3_without_credentials_is_refused_in_words() -> None:
    """In a process of its own, in which nobody has imported the driver before."""
    pytest.importorskip("s3fs")
    keep = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    env = {**keep, "AWS_EC2_METADATA_DISABLED": "true", "HOME": os.devnull}
    command = [sys.executable, "-m", "framework", "inspect", "s3://bucket/a.safetensors"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.startswith("NotAllowedError: s3://bucket/a.safetensors cannot be fetched")
