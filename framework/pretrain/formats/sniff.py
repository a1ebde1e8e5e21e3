"""What a file is, told by how it begins."""

from __future__ import annotations

import re

from framework.pretrain.errors import CheckpointError
from framework.pretrain.formats.blob import Blob
from framework.pretrain.formats.torch_legacy import MAGIC_PICKLE

ACCEPTED = (
    "files of torch.save (old and new), torch.jit.save, safetensors, npz, pickles of arrays or tensors, "
    "folders and *.index.json of Hugging Face, folders of torch.distributed.checkpoint"
)

_HEAD = 4096

_LFS = (
    "this is a Git LFS pointer, not the weights. Run `git lfs pull`, or download the file "
    "itself from the page of the repository"
)
_TAR = (
    "a tar archive: unpack it; if it is a checkpoint of torch before 0.1.10, save it again with a later torch"
)

_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"version https://git-lfs", _LFS),
    (257, b"ustar", _TAR),
    (0, b"\x1f\x8b", "a gzip file: unpack it first"),
    (0, b"BZh", "a bzip2 file: unpack it first"),
    (0, b"\xfd7zXZ\0", "an xz file: unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard file: unpack it first"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive: unpack it first"),
    (0, b"Rar!", "a RAR archive: unpack it first"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras): convert it first"),
    (0, b"GGUF", "a GGUF file: convert it first"),
    (0, b"\x93NUMPY", "a single numpy array (npy), not a set of named ones (npz)"),
    (0, b"\x89PNG", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"GIF8", "a GIF image"),
    (0, b"RIFF", "a RIFF file (image, sound or video)"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a Windows program"),
    (4, b"TFL3", "a TensorFlow Lite model: convert it first"),
)

_MARKUP = re.compile(rb"\s*<(!doctype|html|head|body|\?xml|[a-z]+[\s>])", re.IGNORECASE)
_TEXT = bytes(range(32, 127)) + b"\t\r\n\f"
_PICKLE_2_TO_5 = re.compile(rb"\x80[\x02-\x05]")
_PICKLE_0_TO_1 = re.compile(
    rb"\((?:[ldtp(]|c[\w.]+\n|[SVIFL].*\n|[UTXKJMG])|[}\]](?:[.qrp(cSUXKJIN])|c[\w.]+\n[\w.]+\n"
)


def sniff(file: Blob) -> str:
    """Return 'zip', 'torch legacy', 'pickle', 'safetensors' or 'index'.

    Args:
        file: All of it.

    Raises:
        CheckpointError: It is something else; the message says what.
    """
    head = file.read(0, min(_HEAD, file.size))
    if not head:
        raise CheckpointError(f"the file is empty. Accepted are {ACCEPTED}")
    if head[:4] in (b"PK\3\4", b"PK\5\6"):
        return "zip"
    if head.startswith(MAGIC_PICKLE):
        return "torch legacy"
    if _PICKLE_2_TO_5.match(head):
        return "pickle"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        return "safetensors"
    if head.lstrip()[:1] == b"{" and b'"weight_map"' in file.read(0, min(file.size, 1 << 16)):
        return "index"
    if _PICKLE_0_TO_1.match(head) and file.read(file.size - 1, 1) == b".":
        return "pickle"
    raise CheckpointError(f"no checkpoint: {_guess(head) or _nature(head)}. Accepted are {ACCEPTED}")


def _guess(head: bytes) -> str | None:
    """Return what the file looks like, by signature or markup."""
    for at, signature, name in _SIGNATURES:
        if head[at : at + len(signature)] == signature:
            return name
    if _MARKUP.match(head):
        title = re.search(rb"<title>([^<]{1,80})", head, re.IGNORECASE)
        named = f" ('{title[1].decode('utf-8', 'replace').strip()}')" if title else ""
        return f"a web page{named}: the download went to a page instead of the file"
    return None


def _nature(head: bytes) -> str:
    if not head.strip(b"\0"):
        return "zero bytes: an interrupted download, perhaps"
    if not head.translate(None, _TEXT):
        return f"text, which begins {head[:60].decode('ascii')!r}"
    return f"a file of an unknown kind, which begins with the bytes {head[:8].hex(' ')}"
