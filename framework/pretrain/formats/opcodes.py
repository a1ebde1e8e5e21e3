"""The opcodes of pickle, one small function each. `pickletools` documents what they mean."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from framework.pretrain.errors import DamagedCheckpointError, UnsafeCheckpointError
from framework.pretrain.formats.stubs import Pairs, Span, Stub
from framework.pretrain.formats.unpickle import Machine, build

_MAX_INTEGER_BYTES = 1024
_MAX_DIGITS = 2048
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f", b"v": b"\v", b"a": b"\a"}

Operation = Callable[[Machine], None]


def _push(value: object) -> Operation:
    return lambda m: m.stack.append(value)


def _push_number(size: int) -> Operation:
    return lambda m: m.stack.append(m.number(size))


def _sized(size: int, make: Callable[[Machine, int], object]) -> Operation:
    """An operand with its own length, in `size` bytes, before it."""
    return lambda m: m.stack.append(make(m, m.number(size)))


def _signed_number(m: Machine) -> None:
    m.stack.append(int.from_bytes(m.take(4), "little", signed=True))


def _binary_float(m: Machine) -> None:
    m.stack.append(struct.unpack(">d", m.take(8))[0])


def _text(m: Machine, size: int) -> str:
    return str(m.take(size), "utf-8", "surrogatepass")


def _bytes(m: Machine, size: int) -> bytes | Span:
    return m.run_of_bytes(size)


def _python_2_text(m: Machine, size: int) -> str | Span:
    """Text or bytes, which Python 2 does not tell apart; long ones are bytes."""
    data = m.run_of_bytes(size)
    return data if isinstance(data, Span) else str(data, "latin-1")


def _long(m: Machine, size: int) -> int:
    if size > _MAX_INTEGER_BYTES:
        raise DamagedCheckpointError(f"the pickle has a whole number of {size} bytes")
    return int.from_bytes(m.take(size), "little", signed=True)


def _digits(line: bytes) -> int:
    try:
        return int(line[:_MAX_DIGITS])
    except ValueError as error:
        raise DamagedCheckpointError("the pickle has a number that is none") from error


def _int_line(m: Machine) -> None:
    line = m.line()
    m.stack.append({b"00": False, b"01": True}[line] if line in (b"00", b"01") else _digits(line))


def _long_line(m: Machine) -> None:
    m.stack.append(_digits(m.line().rstrip(b"L")))


def _float_line(m: Machine) -> None:
    try:
        m.stack.append(float(m.line()[:_MAX_DIGITS]))
    except ValueError as error:
        raise DamagedCheckpointError("the pickle has a number that is none") from error


def _string_line(m: Machine) -> None:
    """Python 2's `repr` of a string."""
    line = m.line().strip()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise DamagedCheckpointError("the pickle has a text without quotes")
    m.stack.append(str(_ESCAPE.sub(_unescape, line[1:-1]), "latin-1"))


def _unescape(match: re.Match[bytes]) -> bytes:
    escape = match[1]
    if escape[:1] == b"x" and len(escape) == 3:
        return bytes([int(escape[1:], 16)])
    if escape[:1].isdigit() and escape[:1] not in (b"8", b"9"):
        return bytes([int(escape, 8) & 0xFF])
    return _ESCAPED.get(escape, escape)


def _unicode_line(m: Machine) -> None:
    m.stack.append(str(m.line(), "raw-unicode-escape"))


def _proto(m: Machine) -> None:
    version = m.number(1)
    if version > 5:
        raise DamagedCheckpointError(f"the pickle claims protocol {version}; Python's highest is 5")


def _frame(m: Machine) -> None:
    m.take(8)


def _mark(m: Machine) -> None:
    m.marks.append(m.stack)
    m.stack = []


def _pop(m: Machine) -> None:
    if m.stack:
        m.stack.pop()
    else:
        m.pop_mark()


def _pop_mark(m: Machine) -> None:
    m.pop_mark()


def _duplicate(m: Machine) -> None:
    m.stack.append(m.stack[-1])


def _memo_index(m: Machine) -> int:
    return _digits(m.line()) & 0xFFFFFFFFFF


def _put_line(m: Machine) -> None:
    m.memo[_memo_index(m)] = m.stack[-1]


def _put_1(m: Machine) -> None:
    m.memo[m.number(1)] = m.stack[-1]


def _put_4(m: Machine) -> None:
    m.memo[m.number(4)] = m.stack[-1]


def _memoize(m: Machine) -> None:
    m.memo[len(m.memo)] = m.stack[-1]


def _get_line(m: Machine) -> None:
    m.stack.append(m.memo[_memo_index(m)])


def _get_1(m: Machine) -> None:
    m.stack.append(m.memo[m.number(1)])


def _get_4(m: Machine) -> None:
    m.stack.append(m.memo[m.number(4)])


def _empty_list(m: Machine) -> None:
    m.stack.append([])


def _empty_dict(m: Machine) -> None:
    m.stack.append(Pairs())


def _list(m: Machine) -> None:
    items = m.pop_mark()
    m.stack.append(items)


def _tuple(m: Machine) -> None:
    items = m.pop_mark()
    m.stack.append(tuple(items))


def _short_tuple(size: int) -> Operation:
    def operation(m: Machine) -> None:
        stack = m.stack
        if len(stack) < size:
            raise IndexError
        stack[-size:] = [tuple(stack[-size:])]

    return operation


def _dict(m: Machine) -> None:
    items = m.pop_mark()
    pairs = Pairs()
    _extend_pairs(pairs, items)
    m.stack.append(pairs)


def _append(m: Machine) -> None:
    value = m.stack.pop()
    _extend_list(m.stack[-1], [value])


def _appends(m: Machine) -> None:
    items = m.pop_mark()
    _extend_list(m.stack[-1], items)


def _set_item(m: Machine) -> None:
    value = m.stack.pop()
    key = m.stack.pop()
    _extend_pairs(m.stack[-1], [key, value])


def _set_items(m: Machine) -> None:
    items = m.pop_mark()
    _extend_pairs(m.stack[-1], items)


def _extend_list(target: object, items: list[object]) -> None:
    if isinstance(target, Stub):
        target.items = target.items or []
        target.items.extend(items)
    elif isinstance(target, list) and not isinstance(target, Pairs):
        target.extend(items)
    else:
        raise DamagedCheckpointError("the pickle appends to something that is no list")


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


def _global(m: Machine) -> None:
    module, name = str(m.line(), "utf-8"), str(m.line(), "utf-8")
    m.stack.append(m.names.resolve(module, name))


def _stack_global(m: Machine) -> None:
    name = m.stack.pop()
    module = m.stack.pop()
    m.stack.append(m.names.resolve(module, name))


def _reduce(m: Machine) -> None:
    """REDUCE and NEWOBJ: a call either way."""
    args = m.stack.pop()
    m.stack[-1] = m.call(m.stack[-1], args)


def _new_with_keywords(m: Machine) -> None:
    keywords = m.stack.pop()
    args = m.stack.pop()
    made = m.call(m.stack[-1], args)
    if isinstance(made, Stub) and isinstance(keywords, Pairs):
        made.state = keywords
    m.stack[-1] = made


def _instance(m: Machine) -> None:
    module, name = str(m.line(), "ascii"), str(m.line(), "ascii")
    args = tuple(m.pop_mark())
    m.stack.append(m.call(m.names.resolve(module, name), args))


def _object(m: Machine) -> None:
    function, *args = m.pop_mark() or [None]
    m.stack.append(m.call(function, tuple(args)))


def _build(m: Machine) -> None:
    state = m.stack.pop()
    build(m.stack[-1], state)


def _persistent_line(m: Machine) -> None:
    m.stack.append(m.persistent(str(m.line(), "ascii")))


def _persistent(m: Machine) -> None:
    m.stack.append(m.persistent(m.stack.pop()))


def _extension(size: int) -> Operation:
    def operation(m: Machine) -> None:
        raise UnsafeCheckpointError(
            f"the pickle calls function {m.number(size)} of a registry (copyreg) that only its writer has"
        )

    return operation


def _outside_buffer(m: Machine) -> None:
    raise DamagedCheckpointError("the pickle refers to buffers outside of itself")


def _nothing(m: Machine) -> None:
    """READONLY_BUFFER marks what is on the stack; nothing here writes to it."""


OPCODES: dict[int, Operation] = {
    ord(code): operation
    for code, operation in {
        # values
        "N": _push(None), "\x88": _push(True), "\x89": _push(False), ")": _push(()),
        "K": _push_number(1), "M": _push_number(2), "J": _signed_number, "G": _binary_float,
        "\x8a": _sized(1, _long), "\x8b": _sized(4, _long),
        "\x8c": _sized(1, _text), "X": _sized(4, _text), "\x8d": _sized(8, _text),
        "C": _sized(1, _bytes), "B": _sized(4, _bytes), "\x8e": _sized(8, _bytes), "\x96": _sized(8, _bytes),
        "U": _sized(1, _python_2_text), "T": _sized(4, _python_2_text),
        "I": _int_line, "L": _long_line, "F": _float_line, "S": _string_line, "V": _unicode_line,
        # stack and memo
        "\x80": _proto, "\x95": _frame, "(": _mark, "0": _pop, "1": _pop_mark, "2": _duplicate,
        "p": _put_line, "q": _put_1, "r": _put_4, "\x94": _memoize, "g": _get_line, "h": _get_1, "j": _get_4,
        # containers; a set is kept as a list
        "]": _empty_list, "}": _empty_dict, "\x8f": _empty_list, "l": _list, "t": _tuple, "d": _dict,
        "\x91": _list, "\x85": _short_tuple(1), "\x86": _short_tuple(2), "\x87": _short_tuple(3),
        "a": _append, "e": _appends, "\x90": _appends, "s": _set_item, "u": _set_items,
        # names, calls, states
        "c": _global, "\x93": _stack_global, "R": _reduce, "\x81": _reduce, "\x92": _new_with_keywords,
        "i": _instance, "o": _object, "b": _build, "P": _persistent_line, "Q": _persistent,
        "\x82": _extension(1), "\x83": _extension(2), "\x84": _extension(4),
        "\x97": _outside_buffer, "\x98": _nothing,
    }.items()
}  # fmt: skip
"""What to do for each opcode; STOP is the machine's own business."""
