"""Compressed members of zip archives."""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Iterator

from framework.pretrain.errors import DamagedCheckpointError
from framework.pretrain.formats.blob import Blob, PartBlob
from framework.pretrain.formats.file import naming

_MAX_RATIO = 1032  # of deflate, by its definition
_INFLATE_STEP = 1 << 20


class DeflatedBlob(Blob):
    """A compressed member of a zip archive."""

    def __init__(self, packed: Blob, size: int, crc: int) -> None:
        """Name the compressed bytes and what they promise.

        Args:
            packed: A raw deflate stream.
            size: Number of bytes that it unpacks to.
            crc: CRC-32 of those.

        Raises:
            DamagedCheckpointError: No deflate stream can unpack to that much.
        """
        if size > packed.size * _MAX_RATIO + 64:
            raise DamagedCheckpointError(f"{packed.size} compressed bytes claim to hold {size} bytes")
        self.packed = packed
        self.size = size
        self.crc = crc

    @property
    def key(self) -> Hashable:
        """That of the compressed bytes."""
        return self.packed.key

    @property
    def splits(self) -> bool:
        """A stream is unpacked from its beginning, whatever part of it is wanted."""
        return False

    def read_into(self, view: memoryview, start: int) -> None:
        """Unpack, and check length and CRC if it is to the end."""
        with naming(self.packed.path):
            self._read_into(view, start)

    def _read_into(self, view: memoryview, start: int) -> None:
        position, crc, end = 0, 0, start + len(view)
        to_the_end = end == self.size
        for piece in self._inflate(end + to_the_end):
            crc = zlib.crc32(piece, crc)
            low, high = max(start, position), min(end, position + len(piece))
            if low < high:
                view[low - start : high - start] = piece[low - position : high - position]
            position += len(piece)
        if position < end or (to_the_end and crc != self.crc):
            raise DamagedCheckpointError("a compressed zip member does not unpack to what the archive says")

    def _inflate(self, wanted: int) -> Iterator[bytes]:
        """Yield the unpacked bytes in pieces, `wanted` of them in all if there are as many."""
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
        step = min(_INFLATE_STEP, max(wanted, 1 << 12))
        try:
            for start in range(0, self.packed.size, step):
                pending = self.packed.read(start, min(step, self.packed.size - start))
                while wanted and not stream.eof and (piece := stream.decompress(pending, min(step, wanted))):
                    wanted -= len(piece)
                    pending = stream.unconsumed_tail
                    yield piece
                if not wanted or stream.eof:
                    return
        except zlib.error as error:
            raise DamagedCheckpointError(f"a compressed zip member cannot be unpacked: {error}") from error

    def _part(self, start: int, size: int) -> Blob:
        return PartBlob(self, start, size)
