"""From the address of a checkpoint to a file or folder on this machine."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

from framework.pretrain.errors import SpecError
from framework.pretrain.sources import address, digest

# The module of `sources` that fetches from a place, by the scheme; fsspec's drivers know the other schemes.
_PLACES = {
    None: "local",
    "file": "local",
    "local": "local",
    "http": "web",
    "https": "web",
    "hf": "hub",
    "hf-hub": "hub",
    "hf_hub": "hub",
}
# Names that stand for the address of a file elsewhere.
_ZOOS = {"torchvision": "torchvision_address", "timm": "timm_address"}
# Spellings of other projects that have no meaning of their own here.
_REFUSED = {
    "open-mmlab": "give the https:// address from the model's page in its model zoo",
    "openmmlab": "give the https:// address from the model's page in its model zoo",
    "mmcls": "give the https:// address from the model's page in mmpretrain's model zoo",
    "modelzoo": "write torchvision://name",
    "petrel": "write s3://bucket/key",
    "pavi": "give a local path",
}


def fetch(
    uri: str | os.PathLike[str],
    *,
    sha256: str | None = None,
    url_mapping: tuple[str, str] | None = None,
) -> Path:
    """Return a local file or folder for `uri`, fetched into the cache where it is a remote one.

    Args:
        uri: Where the checkpoint is. A local path (`~` allowed), `file://`, `http(s)://`,
            `hf://org/name[@revision][/file]` (also `hf-hub:org/name`), `torchvision://resnet50`,
            `torchvision://ResNet50_Weights.IMAGENET1K_V2`, `timm://name[.tag]`, or any protocol that
            fsspec knows (`s3://`, `gs://`, ...). Of a remote folder, only its weights are fetched. The index
            of a sharded checkpoint brings its shards with it, into the same folder.
        sha256: Full or leading hexadecimal digits that the file's SHA-256 must have. Without it, a remote
            file must have the digits that its name carries, as in `resnet50-0676ba61.pth`.
        url_mapping: (regular expression, replacement), applied to the address as `re.sub` does, and again to
            the one that `torchvision://` or `timm://` stands for. Default: the environment variable
            `FRAMEWORK_URL_MAPPING`, spelt `regex=>replacement`.

    The cache is under `$FRAMEWORK_HOME` (default `~/.cache/framework`); `hf://` uses the hub's own. With
    `FRAMEWORK_OFFLINE=1`, nothing is fetched.

    Raises:
        SpecError: the address or another argument makes no sense.
        NotFoundError: there is nothing at the address.
        NotAllowedError: access to it is refused.
        OfflineError: it needs a network, and there is none or its use is forbidden.
        HashError: the file has another digest.
        DownloadError: the transfer broke off again and again, or gave something else than the file.
        SourceError: it cannot be had for another reason, such as a missing package or a full disk.
    """
    promise = digest.parse_sha256(sha256)
    text = located(uri, url_mapping)
    scheme = None if isinstance(uri, os.PathLike) else address.scheme_of(text)
    if scheme in _REFUSED:
        raise SpecError(f"{text}: {scheme}:// is not known here; {_REFUSED[scheme]}")
    place = importlib.import_module(f"framework.pretrain.sources.{_PLACES.get(scheme, 'storage')}")
    path: Path = place.fetch(text, promise)
    return path


def located(uri: str | os.PathLike[str], url_mapping: tuple[str, str] | None) -> str:
    """Return the address to fetch from: the mirror's, or the one that a zoo's name stands for.

    Raises:
        SpecError: `uri` is no address, or the mapping makes no sense.
    """
    if isinstance(uri, os.PathLike):
        return os.fsdecode(uri)
    if not isinstance(uri, str) or not uri.strip():
        raise SpecError(f"the path of a checkpoint must be a string or a path, got {uri!r}")
    text = address.rewrite(uri, url_mapping)
    scheme = address.scheme_of(text)
    if scheme not in _ZOOS:
        return text
    from framework.pretrain.sources import zoo

    found: str = getattr(zoo, _ZOOS[scheme])(text.partition("://")[2])
    return address.rewrite(found, url_mapping)
