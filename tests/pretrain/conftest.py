"""A cache of its own for each test, and real servers on loopback."""

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


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
