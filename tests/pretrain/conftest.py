"""A cache of its own for each test, and real servers on loopback that can misbehave as servers do."""

import contextlib
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from framework.pretrain.sources import transfer


class QuietServer(ThreadingHTTPServer):
    """A server that takes it in silence when a client hangs up, and many clients at once."""

    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        pass


@contextlib.contextmanager
def serving(handler: type[BaseHTTPRequestHandler]):
    """Run a server for a handler class, and give its address."""
    with QuietServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def loopback():
    """Start a server for a handler class, and give its address: `loopback(Handler)`."""
    with contextlib.ExitStack() as stack:
        yield lambda handler: stack.enter_context(serving(handler))


@pytest.fixture(scope="module")
def module_loopback():
    """The same, for a server that all tests of a module share."""
    with contextlib.ExitStack() as stack:
        yield lambda handler: stack.enter_context(serving(handler))


@pytest.fixture
def cache_home(tmp_path, monkeypatch):
    """An empty cache, and none of the variables that change where files come from."""
    for name in (
        "FRAMEWORK_OFFLINE",
        "FRAMEWORK_URL_MAPPING",
        "http_proxy",
        "HTTP_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FRAMEWORK_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def cached(cache_home):
    """A function that lists the names of the files in the cache, locks aside."""

    def names():
        return sorted(
            path.name for path in cache_home.rglob("*") if path.is_file() and path.suffix != ".lock"
        )

    return names


@pytest.fixture
def no_waiting(cache_home, monkeypatch):
    """An empty cache, and no pauses between the attempts of a transfer."""
    monkeypatch.setattr(transfer, "PAUSES", (0.0, 0.0, 0.0))


@dataclass
class Served:
    """A file on the server, and how it is served."""

    body: bytes = bytes(range(256)) * 4000
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
    """A server for files that misbehaves on demand."""
    return Host(loopback)


@pytest.fixture
def filled():
    """A function that gives every tensor of a module values that tell, norms and biases included."""

    def fill(module, seed=0):
        generator = torch.Generator().manual_seed(seed)
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point() and not name.endswith("relative_coords_table"):
                values = torch.randn(tensor.shape, generator=generator)
                scale = 0.2 if tensor.dim() < 2 else min(0.2, tensor[0].numel() ** -0.5)
                one = 0.0 if tensor.dim() > 1 else 0.2 if name.endswith("bias") else 1.0
                tensor.copy_(
                    one + values.abs() * scale if name.endswith("running_var") else one + values * scale
                )
        return module.eval()

    return fill


@pytest.fixture
def assert_close():
    """A function that compares features to 1e-4 of their scale."""

    def check(got, expected):
        assert got.shape == expected.shape, (got.shape, expected.shape)
        error = (got - expected).abs().max() / expected.abs().max()
        assert error < 1e-4, f"the features differ by {error:.2e} of their scale"
        assert expected.std() > 1e-3, "these features tell nothing"

    return check
