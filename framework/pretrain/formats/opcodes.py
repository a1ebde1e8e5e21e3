"""The opcodes of pickle, one small function each. `pickletools` documents what they mean."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from framework.pretrain.errors import DamagedCheckpointError, UnsafeCheckpointError
from framework.pretrain.formats.arrays import build_array, build_type
from framework.pretrain.formats.lazy import LazyTensor
from framework.pretrain.formats.machine import Machine
from framework.pretrain.formats.stubs import Array, NumpyType, Pairs, Span, Stub

_MAX_INTEGER_BYTES = 1024
_MAX_DIGITS = 2048
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f", b"v": b"\v", b"a": b"\a"}

Operation = Callable[[Machine, int], None]


# Values. `n` is the operand: the value itself, or the length of what follows.


def _constant(value: object) -> Operation:
    return lambda m, n: m.stack.append(value)


def _unsigned(m: Machine, n: int) -> None:
    m.stack.append(n)


def _signed(m: Machine, n: int) -> None:
    m.stack.append(n - (1 << 32) if n >> 31 else n)


def _float(m: Machine, n: int) -> None:
    m.stack.append(struct.unpack(">d", n.to_bytes(8, "little"))[0])


def _long(m: Machine, n: int) -> None:
    if n > _MAX_INTEGER_BYTES:
        raise DamagedCheckpointError(f"the pickle has a whole number of {n} bytes")
    m.stack.append(int.from_bytes(m.take(n), "little", signed=True))


def _text(m: Machine, n: int) -> None:
    m.stack.append(str(m.take(n), "utf-8", "surrogatepass"))


def _bytes(m: Machine, n: int) -> None:
    m.stack.append(m.run_of_bytes(n))


def _python_2_text(m: Machine, n: int) -> None:
    """Text or bytes, which Python 2 does not tell apart; long ones are bytes."""
    data = m.run_of_bytes(n)
    m.stack.append(data if isinstance(data, Span) else str(data, "latin-1"))


def _int_line(m: Machine, n: int) -> None:
    line = m.line()
    m.stack.append(line == b"01" if line in (b"00", b"01") else _digits(line))


def _long_line(m: Machine, n: int) -> None:
    m.stack.append(_digits(m.line().rstrip(b"L")))


def _digits(line: bytes) -> int:
    if len(line) > _MAX_DIGITS:
        raise DamagedCheckpointError(f"the pickle has a number of {len(line)} digits")
    try:
        return int(line)
    except ValueError as error:
        raise DamagedCheckpointError("the pickle has a number that is none") from error


def _float_line(m: Machine, n: int) -> None:
    try:
        m.stack.append(float(m.line()[:64]))
    except ValueError as error:
        raise DamagedCheckpointError("the pickle has a number that is none") from error


def _string_line(m: Machine, n: int) -> None:
    """Python 2's `repr` of a string."""
    line = m.line().strip()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise DamagedCheckpointError("the pickle has a text without quotes")
    m.stack.append(str(_ESCAPE.sub(_unescape, line[1:-1]), "latin-1"))


def _unescape(match: re.Match[bytes]) -> bytes:
    escape = match[1]
    if escape[:1] == b"x" and len(escape) == 3:
        return bytes([int(escape[1:], 16)])
    if b"0" <= escape[:1] <= b"7":
        return bytes([int(escape, 8) & 0xFF])
    return _ESCAPED.get(escape, escape)


def _unicode_line(m: Machine, n: int) -> None:
    m.stack.append(str(m.line(), "raw-unicode-escape"))


# Stack and memo.


def _proto(m: Machine, n: int) -> None:
    if n > 5:
        raise DamagedCheckpointError(f"the pickle claims protocol {n}; Python's highest is 5")


def _nothing(m: Machine, n: int) -> None:
    """FRAME is a hint for readers, READONLY_BUFFER one for writers."""


def _mark(m: Machine, n: int) -> None:
    m.marks.append(m.stack)
    m.stack = []


def _pop(m: Machine, n: int) -> None:
    if m.stack:
        m.stack.pop()
    else:
        m.pop_mark()


def _pop_mark(m: Machine, n: int) -> None:
    m.pop_mark()


def _duplicate(m: Machine, n: int) -> None:
    m.stack.append(m.stack[-1])


def _put(m: Machine, n: int) -> None:
    m.memo[n] = m.stack[-1]


def _get(m: Machine, n: int) -> None:
    m.stack.append(m.memo[n])


def _memoize(m: Machine, n: int) -> None:
    m.memo[len(m.memo)] = m.stack[-1]


def _put_line(m: Machine, n: int) -> None:
    m.memo[_digits(m.line()[:18])] = m.stack[-1]


def _get_line(m: Machine, n: int) -> None:
    m.stack.append(m.memo[_digits(m.line()[:18])])


# Containers. A set is kept as a list.


def _empty_list(m: Machine, n: int) -> None:
    m.stack.append([])


def _empty_dict(m: Machine, n: int) -> None:
    m.stack.append(Pairs())


def _list(m: Machine, n: int) -> None:
    items = m.pop_mark()
    m.stack.append(items)


def _tuple(m: Machine, n: int) -> None:
    items = m.pop_mark()
    m.stack.append(tuple(items))


def _short_tuple(size: int) -> Operation:
    def operation(m: Machine, n: int) -> None:
        stack = m.stack
        if len(stack) < size:
            raise IndexError
        stack[-size:] = [tuple(stack[-size:])]

    return operation


def _dict(m: Machine, n: int) -> None:
    items = m.pop_mark()
    pairs = Pairs()
    _extend_pairs(pairs, items)
    m.stack.append(pairs)


def _append(m: Machine, n: int) -> None:
    value = m.stack.pop()
    _extend_list(m.stack[-1], [value])


def _appends(m: Machine, n: int) -> None:
    items = m.pop_mark()
    _extend_list(m.stack[-1], items)


def _extend_list(target: object, items: list[object]) -> None:
    if isinstance(target, Stub):
        target.items = target.items or []
        target.items.extend(items)
    elif isinstance(target, list) and not isinstance(target, Pairs):
        target.extend(items)
    else:
        raise DamagedCheckpointError("the pickle appends to something that is no list")


def _set_item(m: Machine, n: int) -> None:
    value = m.stack.pop()
    key = m.stack.pop()
    _extend_pairs(m.stack[-1], [key, value])


def _set_items(m: Machine, n: int) -> None:
    items = m.pop_mark()
    _extend_pairs(m.stack[-1], items)


def _extend_pairs(target: object, items: list[object]) -> None:
    if len(items) % 2:
        raise DamagedCheckpointError("the pickle has a key without a value")
    if isinstance(target, Stub):
        target.pairs = target.pairs if target.pairs is not None else Pairs()
        target.pairs.extend(items)
    elif isinstance(target, Pairs):
        target.extend(items)
    else:
        raise DamagedCheckpointError("the pickle sets an item of something that is no dict")


# Names, calls and states.


def _global(m: Machine, n: int) -> None:
    module, name = str(m.line(), "utf-8"), str(m.line(), "utf-8")
    m.stack.append(m.names.resolve(module, name))


def _stack_global(m: Machine, n: int) -> None:
    name = m.stack.pop()
    module = m.stack.pop()
    m.stack.append(m.names.resolve(module, name))


def _call(m: Machine, n: int) -> None:
    """REDUCE and NEWOBJ."""
    args = m.stack.pop()
    m.stack[-1] = m.names.call(m.stack[-1], args)


def _call_with_keywords(m: Machine, n: int) -> None:
    keywords = m.stack.pop()
    args = m.stack.pop()
    made = m.names.call(m.stack[-1], args)
    if isinstance(made, Stub):
        made.state = keywords
    m.stack[-1] = made


def _instance(m: Machine, n: int) -> None:
    module, name = str(m.line(), "utf-8"), str(m.line(), "utf-8")
    args = tuple(m.pop_mark())
    m.stack.append(m.names.call(m.names.resolve(module, name), args))


def _object(m: Machine, n: int) -> None:
    function, *args = m.pop_mark() or [None]
    m.stack.append(m.names.call(function, tuple(args)))


def _build(m: Machine, n: int) -> None:
    state = m.stack.pop()
    target = m.stack[-1]
    if isinstance(target, Stub):
        target.state = state
    elif isinstance(target, Array):
        build_array(target, state)
    elif isinstance(target, NumpyType):
        build_type(target, state)
    elif not isinstance(target, (LazyTensor, list)):
        raise DamagedCheckpointError("the pickle gives a state to something that has none")


def _persistent(m: Machine, n: int) -> None:
    m.stack.append(m.persistent(m.stack.pop()))


def _persistent_line(m: Machine, n: int) -> None:
    m.stack.append(m.persistent(str(m.line(), "utf-8")))


def _extension(m: Machine, n: int) -> None:
    raise UnsafeCheckpointError(
        f"the pickle calls function {n} of a registry (copyreg) that only its writer has"
    )


def _outside_buffer(m: Machine, n: int) -> None:
    raise DamagedCheckpointError("the pickle refers to buffers outside of itself")


def _unknown(m: Machine, n: int) -> None:
    raise DamagedCheckpointError(f"byte {m.position - 1} of the pickle is no opcode")


_KNOWN: dict[str, tuple[int, Operation]] = {
    # values
    "N": (0, _constant(None)), "\x88": (0, _constant(True)), "\x89": (0, _constant(False)),
    ")": (0, _constant(())), "K": (1, _unsigned), "M": (2, _unsigned), "J": (4, _signed), "G": (8, _float),
    "\x8a": (1, _long), "\x8b": (4, _long), "\x8c": (1, _text), "X": (4, _text), "\x8d": (8, _text),
    "C": (1, _bytes), "B": (4, _bytes), "\x8e": (8, _bytes), "\x96": (8, _bytes),
    "U": (1, _python_2_text), "T": (4, _python_2_text), "S": (0, _string_line), "V": (0, _unicode_line),
    "I": (0, _int_line), "L": (0, _long_line), "F": (0, _float_line),
    # stack and memo
    "\x80": (1, _proto), "\x95": (8, _nothing), ".": (0, _nothing), "\x98": (0, _nothing),
    "(": (0, _mark), "0": (0, _pop), "1": (0, _pop_mark), "2": (0, _duplicate),
    "q": (1, _put), "r": (4, _put), "p": (0, _put_line), "\x94": (0, _memoize),
    "h": (1, _get), "j": (4, _get), "g": (0, _get_line),
    # containers
    "]": (0, _empty_list), "}": (0, _empty_dict), "\x8f": (0, _empty_list), "l": (0, _list),
    "\x91": (0, _list), "t": (0, _tuple), "\x85": (0, _short_tuple(1)), "\x86": (0, _short_tuple(2)),
    "\x87": (0, _short_tuple(3)), "d": (0, _dict), "a": (0, _append), "e": (0, _appends),
    "\x90": (0, _appends), "s": (0, _set_item), "u": (0, _set_items),
    # names, calls and states
    "c": (0, _global), "\x93": (0, _stack_global), "R": (0, _call), "\x81": (0, _call),
    "\x92": (0, _call_with_keywords), "i": (0, _instance), "o": (0, _object), "b": (0, _build),
    "P": (0, _persistent_line), "Q": (0, _persistent), "\x97": (0, _outside_buffer),
    "\x82": (1, _extension), "\x83": (2, _extension), "\x84": (4, _extension),
}  # fmt: skip

OPCODES: list[tuple[int, Operation]] = [_KNOWN.get(chr(code), (0, _unknown)) for code in range(256)]
"""For each byte, the size of its operand and what to do. STOP is the business of whoever runs the machine."""
