"""Reading a pickle without running anything: what it calls is written down instead.

Every opcode of protocols 0 to 5 is understood. Long runs of bytes are left where they are. All is bounded:
the number of steps, the lengths, what a step can allocate; nothing recurs, and of what a file chooses only
text and small numbers are hashed.
"""

from __future__ import annotations

from framework.pretrain.errors import CheckpointError, DamagedCheckpointError
from framework.pretrain.formats.blob import Blob
from framework.pretrain.formats.globals import Names
from framework.pretrain.formats.machine import Machine, Persistent
from framework.pretrain.formats.opcodes import OPCODES

MAX_STEPS = 8_000_000
_STOP = ord(".")
_LONGEST_OPERAND = 8


def unpickle(
    blob: Blob, names: Names, persistent: Persistent | None = None, start: int = 0
) -> tuple[object, int]:
    """Read one pickle.

    Args:
        blob: Where it is.
        names: What becomes of globals; shared by the pickles of one file.
        persistent: What stands for an object that the pickle refers to by a persistent id.
        start: Where in the blob it begins.

    Returns:
        What stands for its object, and the offset of the first byte after it.

    Raises:
        DamagedCheckpointError: It is no pickle, or broken off, or beyond all measure.
        UnsafeCheckpointError: It is one of these, and names functions that run code.
    """
    machine = Machine(blob, names, persistent, start)
    try:
        return _run(machine), machine.position
    except (IndexError, KeyError, UnicodeDecodeError) as error:
        names.check()
        raise DamagedCheckpointError(f"the pickle is damaged near byte {machine.position}") from error
    except CheckpointError:
        names.check()
        raise


def _run(machine: Machine) -> object:
    """Do step after step. An operand of fixed size is read here, as an unsigned number."""
    for _ in range(MAX_STEPS):
        start = machine.next + 1
        if start + _LONGEST_OPERAND > len(machine.window):
            machine.refill(1)
            start = 1
        code = machine.window[start - 1]
        size, operation = OPCODES[code]
        end = machine.next = start + size
        if end > len(machine.window):
            raise DamagedCheckpointError("truncated: the pickle breaks off")
        if code == _STOP:
            return machine.stack.pop()
        operation(machine, int.from_bytes(machine.window[start:end], "little") if size else 0)
    raise DamagedCheckpointError(f"the pickle has more than {MAX_STEPS:,} steps")
