"""hf:// with the real client of the hub, against an endpoint on loopback that answers as the hub does."""

import hashlib
import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote

import pytest

from framework.pretrain.errors import SpecError
from framework.pretrain.source import fetch
from framework.pretrain.sources.hub import Repo, parse

pytest.importorskip("huggingface_hub")

BODY = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(BODY).hexdigest()
NAMED = f"resnet50-{SHA256[:8]}.pth"
INDEX = json.dumps({"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}).encode()
SHARDS = {"m-1.safetensors": b"one", "m-2.safetensors": b"two"}
COMMITS = {"main": "a" * 40, "v2": "b" * 40, "refs/pr/1": "c" * 40}
REPOS = {
    "org/vit": {
        "model.safetensors": BODY,
        "pytorch_model.bin": b"bin",
        "config.json": b"{}",
        "sub/x.pth": b"x",
    },
    "org/sharded": {
        "model.safetensors.index.json": INDEX,
        "m-1.safetensors": b"one",
        "m-2.safetensors": b"two",
    },
    "org/inner": {"enc/m.index.json": INDEX, "enc/m-1.safetensors": b"one", "enc/m-2.safetensors": b"two"},
    "org/clip": {"open_clip_pytorch_model.bin": BODY, "open_clip_config.json": b"{}"},
    "org/plain": {NAMED: BODY, "readme.md": b"", "training_args.bin": b"no"},
    "org/wrong": {"a-deadbeef.pth": BODY},
    "org/many": {"a.pth": b"a", "b.pth": b"b"},
    "org/text": {"readme.md": b""},
    "org/gated": {"model.safetensors": BODY},
    "org/locked": {"model.safetensors": BODY},
    "org/down": {"model.safetensors": BODY},
}
# Answers one request after another, so that the client is imported once.
WORKER = """
import json, os, sys
from framework.pretrain.source import fetch
for line in sys.stdin:
    uri, sha256, variables = json.loads(line)
    os.environ.pop("FRAMEWORK_OFFLINE", None)
    os.environ.update(variables)
    try:
        answer = {"path": str(fetch(uri, sha256=sha256))}
    except ValueError as error:
        answer = {"error": type(error).__name__, "says": str(error)}
    print(json.dumps(answer), flush=True)
"""


class Hub(BaseHTTPRequestHandler):
    """The two routes that the client asks: what a repository holds, and a file of it."""

    protocol_version = "HTTP/1.1"
    log: list
    gone: set

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def _answer(self):
        self.log.append(f"{self.command} {self.path}")
        parts = self.path.partition("?")[0].removeprefix("/api/models").split("/")
        repo, action, revision = "/".join(parts[1:3]), parts[3], unquote(parts[4])
        if repo == "org/down":
            return self._send(500)
        if repo == "org/locked" and action == "resolve":
            return self._send(403)
        if repo not in REPOS or repo in self.gone:
            return self._send(401, {"X-Error-Code": "RepoNotFound"})
        if repo == "org/gated" and action == "resolve":
            return self._send(403, {"X-Error-Code": "GatedRepo"})
        if revision not in (*COMMITS, *COMMITS.values()):
            return self._send(404, {"X-Error-Code": "RevisionNotFound"})
        commit = COMMITS.get(revision, revision)
        if action == "revision":
            names = [{"rfilename": name} for name in REPOS[repo]]
            return self._send(200, {}, json.dumps({"id": repo, "sha": commit, "siblings": names}).encode())
        body = REPOS[repo].get("/".join(parts[5:]))
        if body is None:
            return self._send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        if commit == COMMITS["v2"]:
            body = body[::-1]
        headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Repo-Commit": commit}
        return self._send(200, headers, body)

    def _send(self, status, headers=(), body=b"{}"):
        self.send_response(status)
        for name, value in dict(headers, **{"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args):
        pass


class Client:
    """A process in which `HF_ENDPOINT` names the endpoint, since the client reads it when it is imported."""

    def __init__(self, endpoint, home, log, **variables):
        self.log, self.home = log, home
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment |= {
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(home / "hf"),
            "FRAMEWORK_HOME": str(home / "own"),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            env=environment | variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, uri, sha256=None, **variables):
        self.log.clear()
        self.process.stdin.write(json.dumps([uri, sha256, variables]) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def path(self, uri, **how):
        answer = self.ask(uri, **how)
        assert "path" in answer, answer
        return Path(answer["path"])

    def error(self, uri, **how):
        answer = self.ask(uri, **how)
        assert "error" in answer, answer
        return answer["error"], answer["says"]

    def close(self):
        self.process.communicate()


@pytest.fixture(scope="module")
def endpoint(module_loopback):
    log, gone = [], set()
    return module_loopback(type("Handler", (Hub,), {"log": log, "gone": gone})), log, gone


@pytest.fixture(scope="module")
def client(endpoint, tmp_path_factory):
    client = Client(endpoint[0], tmp_path_factory.mktemp("hub"), endpoint[1])
    yield client
    client.close()


@pytest.mark.parametrize(
    ("text", "repo"),
    [
        ("hf://org/name", Repo("org/name", "main", None)),
        ("hf://org/name/", Repo("org/name", "main", None)),
        ("hf-hub:timm/vit.mae", Repo("timm/vit.mae", "main", None)),
        ("hf_hub:timm/vit.mae@v2", Repo("timm/vit.mae", "v2", None)),
        ("hf://org/name@v1.0/sub/a.pth", Repo("org/name", "v1.0", "sub/a.pth")),
        ("hf://org/name@refs/pr/1/a.pth", Repo("org/name", "refs/pr/1", "a.pth")),
        ("hf://org/name@refs%2Fpr%2F1", Repo("org/name", "refs/pr/1", None)),
    ],
)
def test_spellings(text, repo):
    assert parse(text) == repo


@pytest.mark.parametrize("text", ["hf://", "hf://name", "hf://org/na me", "hf-hub:name", "hf://org/name@"])
def test_spellings_that_are_none(text):
    with pytest.raises(SpecError, match="hf://organisation/name"):
        fetch(text)


def test_a_repository_gives_its_weights(client):
    path = client.path("hf://org/vit")
    assert path.name == "model.safetensors" and path.read_bytes() == BODY
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["model.safetensors"]
    assert client.path("hf-hub:org/vit") == path
    assert not [line for line in client.log if line.startswith("GET") and "resolve" in line]
    assert client.path("hf://org/clip").name == "open_clip_pytorch_model.bin"
    assert client.path("hf://org/plain").name == NAMED


def test_files_and_revisions(client):
    assert client.path("hf://org/vit/pytorch_model.bin").read_bytes() == b"bin"
    assert client.path("hf://org/vit/sub/x.pth").read_bytes() == b"x"
    assert client.path("hf://org/vit@v2/model.safetensors").read_bytes() == BODY[::-1]
    assert client.path("hf://org/vit@v2").read_bytes() == BODY[::-1]
    assert client.path("hf://org/vit@refs/pr/1/model.safetensors").read_bytes() == BODY


@pytest.mark.parametrize("uri", ["hf://org/sharded", "hf://org/inner/enc/m.index.json"])
def test_shards_come_with_their_index(client, uri):
    path = client.path(uri)
    assert [(path.parent / f"m-{i}.safetensors").read_bytes() for i in (1, 2)] == [b"one", b"two"]


def test_errors_say_what_is_wrong(client, endpoint):
    assert client.error("hf://org/none")[0] == "NotFoundError"
    assert "HF_TOKEN" in client.error("hf://org/none/a.pth")[1]
    assert client.error("hf://org/vit@v9") == (
        "NotFoundError",
        "hf://org/vit@v9 does not exist: the repository has no such revision",
    )
    kind, says = client.error("hf://org/vit/model.safetensor")
    assert kind == "NotFoundError" and "did you mean model.safetensors" in says
    kind, says = client.error("hf://org/gated")
    assert kind == "NotAllowedError" and f"{endpoint[0]}/org/gated" in says and "HF_TOKEN" in says
    kind, says = client.error("hf://org/locked")
    assert kind == "NotAllowedError" and "403" in says
    kind, says = client.error("hf://org/down/model.safetensors")
    assert kind == "DownloadError" and "500" in says and len(client.log) == 1
    kind, says = client.error("hf://org/many")
    assert kind == "NotFoundError" and "hf://org/many/b.pth" in says
    assert client.error("hf://org/text")[0] == "NotFoundError"


def test_digests(client):
    assert client.path(f"hf://org/plain/{NAMED}").read_bytes() == BODY
    kind, says = client.error("hf://org/wrong")
    assert kind == "HashError" and "deadbeef" in says and SHA256 in says and "hf://org/wrong" in says
    assert client.path("hf://org/wrong", sha256=SHA256).read_bytes() == BODY
    assert client.error("hf://org/vit", sha256="00000000")[0] == "HashError"


def test_a_broken_file_of_the_cache_is_fetched_again(client):
    uri = f"hf://org/plain/{NAMED}"
    blob = client.path(uri).resolve()
    blob.write_bytes(b"?" * len(BODY))
    assert client.path(uri).read_bytes() == BODY
    assert sum(line.startswith("GET /org/plain/resolve") for line in client.log) == 1
    blob.write_bytes(b"?" * len(BODY))
    assert client.error(uri, FRAMEWORK_OFFLINE="1")[0] == "HashError"
    assert client.path(uri).read_bytes() == BODY


def test_offline_the_cache_works(client):
    path = client.path("hf://org/vit")
    assert client.path("hf://org/vit", FRAMEWORK_OFFLINE="1") == path
    assert client.path("hf://org/vit/model.safetensors", FRAMEWORK_OFFLINE="1") == path
    assert client.log == []
    for uri in ("hf://org/many/a.pth", "hf://org/text"):
        kind, says = client.error(uri, FRAMEWORK_OFFLINE="1")
        assert (
            kind == "OfflineError" and "hf download org/" in says and str(client.home / "hf" / "hub") in says
        )


def test_a_cached_repository_may_disappear(client, endpoint):
    path = client.path("hf://org/clip")
    endpoint[2].add("org/clip")
    assert client.path("hf://org/clip") == path
    assert client.error("hf://org/clip@v2")[0] == "NotFoundError"


@pytest.mark.parametrize("variables", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_a_hub_that_cannot_be_reached(client, endpoint, variables):
    path = client.path("hf://org/vit")
    cut_off = Client(endpoint[0], client.home, endpoint[1], **variables)
    try:
        assert cut_off.path("hf://org/vit") == path
        assert cut_off.path("hf://org/vit/model.safetensors") == path
        assert cut_off.error("hf://org/many")[0] == "OfflineError"
        assert cut_off.error("hf://org/many/a.pth")[0] == "OfflineError"
    finally:
        cut_off.close()
