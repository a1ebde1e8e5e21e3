"""Files of the Hugging Face Hub, in its own cache, which other libraries share."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from framework.errors import did_you_mean
from framework.pretrain.errors import (
    DownloadError,
    NotAllowedError,
    NotFoundError,
    OfflineError,
    SourceError,
    SpecError,
)
from framework.pretrain.sources import address, cache, digest, weights

_logger = logging.getLogger(__name__)
_SPELLING = re.compile(
    r"(?:hf://|hf[-_]hub:(?://)?)(?P<name>[\w.-]+/[\w.-]+)"
    r"(?:@(?P<revision>refs/(?:pr|convert)/[^/]+|[^/]+))?(?:/(?P<file>.+))?"
)
_TIMEOUT = 10.0  # seconds for the list of a repository's files
# The hub's client speaks HTTP through one of these, by its version, and lets their errors through.
_TRANSPORTS = (
    ("httpx2", "TransportError"),
    ("httpx", "TransportError"),
    ("requests", "ConnectionError"),
    ("requests", "Timeout"),
)
# Its own errors, children before parents: name, ours, and what to say.
_MEANINGS = (
    (
        "GatedRepoError",
        NotAllowedError,
        "is gated: accept its terms at {page}, then log in (`hf auth login`) or set HF_TOKEN",
    ),
    (
        "RepositoryNotFoundError",
        NotFoundError,
        "does not exist at {page}, or it is private and no token of yours (HF_TOKEN) opens it",
    ),
    ("RevisionNotFoundError", NotFoundError, "does not exist: the repository has no such revision"),
    ("LocalEntryNotFoundError", OfflineError, "{unreachable}"),
    ("EntryNotFoundError", NotFoundError, "does not exist: the repository has no such file"),
    ("OfflineModeIsEnabled", OfflineError, "{unreachable}"),
    ("HFValidationError", SpecError, "is no valid address: {error}"),
)
_BY_STATUS = {401: NotAllowedError, 403: NotAllowedError, 404: NotFoundError}


@dataclass(frozen=True)
class Repo:
    """A repository of models at a revision, and the file asked for."""

    name: str
    revision: str
    file: str | None

    def __str__(self) -> str:
        at = "" if self.revision == "main" else f"@{self.revision}"
        return f"hf://{self.name}{at}" + (f"/{self.file}" if self.file else "")


def parse(text: str) -> Repo:
    """Take `hf://org/name[@revision][/file]`, or timm's `hf-hub:org/name[@revision]`, apart.

    Raises:
        SpecError: the address is spelt otherwise.
    """
    found = _SPELLING.fullmatch(text.rstrip("/"))
    if found is None:
        raise SpecError(f"{text} must read hf://organisation/name[@revision][/file]")
    return Repo(found["name"], unquote(found["revision"] or "main"), found["file"])


def fetch(text: str, promise: str | None) -> Path:
    """Return the file of a repository; without a file's name, its weights (of shards, their index).

    Raises:
        SourceError: it cannot be had; the subclass says why.
    """
    repo = parse(text)
    try:
        import huggingface_hub  # noqa: F401
    except ImportError as error:
        raise SourceError(f"{text} needs a package that is missing: pip install huggingface_hub") from error
    with _as_our_errors(repo):
        names, reachable = _names(repo)
        name = repo.file or weights.choose(names, str(repo))
        if name not in names:
            raise _no_such_file(repo, names, reachable)
        path = _download(repo, name, reachable)
        if name.endswith(weights.INDEX_SUFFIX):
            for shard in weights.shards_of(path, f"{repo} ({name})"):
                _download(repo, name[: -len(path.name)] + shard, reachable)
        promise = promise or digest.promised_by_name(path.name)
        return path if promise is None else _verified(repo, name, path, promise, reachable)


def _names(repo: Repo) -> tuple[list[str], bool]:
    """Return the names of the repository's files, and whether they come from the hub.

    Where the hub cannot be reached or refuses, they are those of the cache. To ask it first spares the long
    row of attempts that its client makes for a file.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    failures: tuple[type[Exception], ...] = (HfHubHTTPError, OfflineModeIsEnabled, *_transport_errors())
    if address.offline():
        return _cached_names(repo), False
    try:
        info = HfApi().model_info(repo.name, revision=repo.revision, timeout=_TIMEOUT)
    except failures as error:
        try:
            names = _cached_names(repo)
        except LocalEntryNotFoundError:
            raise error from None
        _logger.warning("%s is taken from the cache as it is, since the hub does not answer: %s", repo, error)
        return names, False
    return [entry.rfilename for entry in info.siblings or ()], True


def _cached_names(repo: Repo) -> list[str]:
    from huggingface_hub import snapshot_download

    folder = Path(
        snapshot_download(repo.name, revision=repo.revision, allow_patterns=[], local_files_only=True)
    )
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _no_such_file(repo: Repo, names: list[str], reachable: bool) -> SourceError:
    if not reachable:
        return OfflineError(f"{repo} {_unreachable(repo)}")
    near = did_you_mean(repo.file or "", names)
    return NotFoundError(f"{repo} does not exist: the repository has no such file{near}")


def _download(repo: Repo, name: str, reachable: bool, again: bool = False) -> Path:
    from huggingface_hub import hf_hub_download

    path = hf_hub_download(
        repo.name,
        name,
        revision=repo.revision,
        force_download=again,
        local_files_only=not reachable,
        library_name="framework",
    )
    return Path(path)


def _verified(repo: Repo, name: str, path: Path, promise: str, reachable: bool) -> Path:
    """Return the path if its digest is the promised one; a file that is not is fetched again, once."""
    record_path = cache.folder_for(f"hf://{repo.name}@{repo.revision}/{name}") / f"{path.name}.json"
    record = cache.vouch(path, record_path, str(repo))
    if not digest.keeps(record.sha256, promise) and reachable:
        path = _download(repo, name, reachable, again=True)
        record = cache.vouch(path, record_path, str(repo))
    record.write(record_path)
    if not digest.keeps(record.sha256, promise):
        raise digest.broken_promise(f"{repo} (in {path})", record.sha256, promise)
    return path


@contextlib.contextmanager
def _as_our_errors(repo: Repo) -> Iterator[None]:
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        yield
    except _transport_errors() as error:
        raise OfflineError(f"{repo} {_unreachable(repo)}: {error}") from error
    except (HFValidationError, HfHubHTTPError, OSError, RuntimeError) as error:
        cause = error.__cause__
        raise _translated(cause if isinstance(cause, HfHubHTTPError) else error, repo) from error


def _transport_errors() -> tuple[type[Exception], ...]:
    return tuple(getattr(sys.modules[module], name) for module, name in _TRANSPORTS if module in sys.modules)


def _translated(error: BaseException, repo: Repo) -> SourceError | SpecError:
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{repo.name}"
    for name, kind, words in _MEANINGS:
        if isinstance(error, getattr(errors, name)):
            return kind(f"{repo} {words.format(page=page, error=error, unreachable=_unreachable(repo))}")
    return _BY_STATUS.get(_status(error) or 0, DownloadError)(f"{repo} cannot be fetched: {error}")


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _unreachable(repo: Repo) -> str:
    from huggingface_hub import constants

    file = f" {repo.file}" if repo.file else ""
    folder = Path(constants.HF_HUB_CACHE) / f"models--{repo.name.replace('/', '--')}"
    return (
        f"is not in the cache, and {constants.ENDPOINT} cannot be reached or may not be. Where there is a "
        f"network, run `hf download {repo.name}{file} --revision {repo.revision}` and copy the folder that "
        f"this fills to {folder}; or name the path of a copy. HF_ENDPOINT names a mirror"
    )
