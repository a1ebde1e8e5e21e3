"""The directory of a zip archive, believed only where it agrees with the archive."""

from __future__ import annotations

import struct
from collections.abc import Hashable, Mapping
from functools import cached_property
from typing import NamedTuple

from framework.pretrain.errors import DamagedCheckpointError
from framework.pretrain.formats.blob import Blob, PartBlob
from framework.pretrain.formats.deflated import DeflatedBlob

_END = struct.Struct("<4s4H2LH")
_END_64_LOCATOR = struct.Struct("<4sLQL")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_STORED, _DEFLATED = 0, 8
_32 = 0xFFFFFFFF
_END_SIGNATURE = b"PK\5\6"


class Member(NamedTuple):
    """One file of the archive, as the directory has it.

    Attributes:
        name: With `/` between folders.
        method: 0 stored, 8 deflated.
        start: Where its local header begins.
        packed: Number of bytes in the archive.
        size: Number of bytes when unpacked.
        crc: CRC-32 of the unpacked bytes.
        limit: Where the next member, or the directory, begins.
    """

    name: str
    method: int
    start: int
    packed: int
    size: int
    crc: int
    limit: int = 0


def read_zip(archive: Blob) -> dict[str, Blob]:
    """Return the members of a zip archive by name, unread.

    Args:
        archive: All of it.

    Raises:
        DamagedCheckpointError: It is truncated, members overlap or share a name, or the directory is false.
    """
    members = _read_directory(archive)
    if archive.distant:
        return {member.name: _DistantMember(archive, member) for member in members}
    headers = archive.read_each([member.start for member in members], _LOCAL.size)
    return {m.name: _open_member(archive, m, header) for m, header in zip(members, headers, strict=True)}


def _read_directory(archive: Blob) -> list[Member]:
    count, start, size = _find_directory(archive)
    data = archive.read(start, size)
    members: dict[str, Member] = {}
    position = 0
    for _ in range(count):
        member, position = _parse_entry(data, position)
        if member.name in members:
            raise DamagedCheckpointError(f"the zip archive has two members {member.name!r}")
        members[member.name] = member
    return _with_limits(members, start)


def _open_member(archive: Blob, member: Member, header: bytes) -> Blob:
    signature, _, flags, method, _, _, _, packed, _, name_size, extra_size = _LOCAL.unpack(header)
    lies = packed not in (member.packed, _32) and not flags & 8
    start = member.start + _LOCAL.size + name_size + extra_size
    if signature != b"PK\3\4" or method != member.method or lies or start + member.packed > member.limit:
        raise DamagedCheckpointError(f"the zip archive contradicts itself about member {member.name!r}")
    data = archive.part(start, member.packed)
    return data if method == _STORED else DeflatedBlob(data, member.size, member.crc)


class _DistantMember(Blob):
    """A member of an archive far away, whose own header is read when the member is."""

    def __init__(self, archive: Blob, member: Member) -> None:
        self.size = member.size
        self._archive = archive
        self._member = member

    @property
    def key(self) -> Hashable:
        return (self._archive.key, self._member.start)

    @property
    def splits(self) -> bool:
        return self._member.method == _STORED

    @cached_property
    def _data(self) -> Blob:
        header = self._archive.read(self._member.start, _LOCAL.size)
        return _open_member(self._archive, self._member, header)

    def read_into(self, view: memoryview, start: int) -> None:
        self._data.read_into(view, start)

    def _part(self, start: int, size: int) -> Blob:
        return PartBlob(self, start, size)


def _find_directory(archive: Blob) -> tuple[int, int, int]:
    """Return the number of entries, and start and size of the directory, from the end of the archive."""
    tail_start = max(0, archive.size - _END.size - 0xFFFF)
    tail = archive.read(tail_start, archive.size - tail_start)
    at = tail.rfind(_END_SIGNATURE)
    while at >= 0 and not _ends_archive(tail, at):
        at = tail.rfind(_END_SIGNATURE, 0, at)
    if at < 0:
        raise DamagedCheckpointError(
            "truncated: the file begins as a zip archive, but its directory (at the end) is missing"
        )
    _, _, _, _, count, size, start, _ = _END.unpack_from(tail, at)
    end = tail_start + at
    if count == 0xFFFF or _32 in (size, start):
        count, size, start, end = _find_directory_64(archive, end)
    if start + size > end or count * _ENTRY.size > size:
        raise DamagedCheckpointError(
            "truncated: the directory of the zip archive reaches outside of the file"
        )
    return count, start, size


def _ends_archive(tail: bytes, at: int) -> bool:
    return at + _END.size <= len(tail) and at + _END.size + _END.unpack_from(tail, at)[-1] == len(tail)


def _find_directory_64(archive: Blob, end: int) -> tuple[int, int, int, int]:
    locator = archive.read(end - _END_64_LOCATOR.size, _END_64_LOCATOR.size)
    signature, _, at, _ = _END_64_LOCATOR.unpack(locator)
    if signature != b"PK\6\7":
        raise DamagedCheckpointError("the zip archive lacks the locator of its 64-bit directory")
    signature, _, _, _, _, _, _, count, size, start = _END_64.unpack(archive.read(at, _END_64.size))
    if signature != b"PK\6\6":
        raise DamagedCheckpointError("the zip archive lacks its 64-bit directory")
    return count, size, start, at


def _parse_entry(data: bytes, at: int) -> tuple[Member, int]:
    """Return the entry of the directory at that offset, and the offset of the next."""
    if at + _ENTRY.size > len(data):
        raise DamagedCheckpointError("the directory of the zip archive breaks off")
    fields = _ENTRY.unpack_from(data, at)
    signature, flags, method, crc, packed, size = fields[0], fields[3], fields[4], *fields[7:10]
    name_size, extra_size, comment_size, start = *fields[10:13], fields[16]
    name_at = at + _ENTRY.size
    extra_at = name_at + name_size
    after = extra_at + extra_size + comment_size
    if signature != b"PK\1\2" or after > len(data):
        raise DamagedCheckpointError("the directory of the zip archive is damaged")
    name = data[name_at:extra_at].decode("utf-8", "replace")
    if _32 in (packed, size, start):
        size, packed, start = _sizes_64(data[extra_at : extra_at + extra_size], (size, packed, start))
    if flags & 1 or method not in (_STORED, _DEFLATED) or (method == _STORED and packed != size):
        raise DamagedCheckpointError(
            f"member {name!r} of the zip archive is encrypted or packed in an unknown way"
        )
    return Member(name, method, start, packed, size, crc), after


def _sizes_64(extra: bytes, sizes: tuple[int, int, int]) -> tuple[int, ...]:
    """Return unpacked size, packed size and start, those that do not fit taken from the 64-bit field."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1 and length % 8 == 0 and at + 4 + length <= len(extra):
            wide = iter(struct.unpack_from(f"<{length // 8}Q", extra, at + 4))
            return tuple(next(wide, size) if size == _32 else size for size in sizes)
        at += 4 + length
    return sizes


def _with_limits(members: Mapping[str, Member], directory: int) -> list[Member]:
    """Note where each member must end, and raise if two overlap."""
    limit = directory
    limited = {}
    for member in sorted(members.values(), key=lambda m: m.start, reverse=True):
        if member.start + _LOCAL.size + member.packed > limit:
            raise DamagedCheckpointError(
                f"member {member.name!r} of the zip archive overlaps what follows it"
            )
        limited[member.name] = member._replace(limit=limit)
        limit = member.start
    return [limited[name] for name in members]
