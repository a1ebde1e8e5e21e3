"""How the formats spell element types."""

from __future__ import annotations

import re

import torch

_STORAGES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexDouble": torch.complex128,
    "ComplexFloat": torch.complex64,
    "Untyped": torch.uint8,
    "QInt8": torch.int8,  # quantised tensors become inert, but their bytes stand between others
    "QUInt8": torch.uint8,
    "QInt32": torch.int32,
    "QUInt4x2": torch.uint8,
    "QUInt2x4": torch.uint8,
}

STORAGES: dict[str, torch.dtype] = {
    f"{module}.{name}Storage": dtype
    for name, dtype in _STORAGES.items()
    for module in ("torch", "torch.cuda", "torch.storage")
}
"""Torch's storage classes, by qualified name."""

TORCH: dict[str, torch.dtype] = {
    f"torch.{name}": value
    for name, value in vars(torch).items()
    if isinstance(value, torch.dtype) and not name.startswith("q")
}
"""Torch's types by qualified name; aliases such as `torch.half` included, quantised types left out."""


def _known(names: dict[str, str]) -> dict[str, torch.dtype]:
    """Leave out what this version of torch does not have."""
    return {key: TORCH[f"torch.{name}"] for key, name in names.items() if f"torch.{name}" in TORCH}


SAFETENSORS: dict[str, torch.dtype] = _known(
    {
        "F64": "float64",
        "F32": "float32",
        "F16": "float16",
        "BF16": "bfloat16",
        "I64": "int64",
        "I32": "int32",
        "I16": "int16",
        "I8": "int8",
        "U64": "uint64",
        "U32": "uint32",
        "U16": "uint16",
        "U8": "uint8",
        "BOOL": "bool",
        "C64": "complex64",
        "F8_E4M3": "float8_e4m3fn",
        "F8_E5M2": "float8_e5m2",
        "F8_E8M0": "float8_e8m0fnu",
        "F8_E4M3FNUZ": "float8_e4m3fnuz",
        "F8_E5M2FNUZ": "float8_e5m2fnuz",
    }
)
"""Types of the safetensors header (https://github.com/huggingface/safetensors)."""

_NUMPY = _known(
    {
        "f8": "float64",
        "f4": "float32",
        "f2": "float16",
        "i8": "int64",
        "i4": "int32",
        "i2": "int16",
        "i1": "int8",
        "u8": "uint64",
        "u4": "uint32",
        "u2": "uint16",
        "u1": "uint8",
        "b1": "bool",
        "?": "bool",
        "c8": "complex64",
        "c16": "complex128",
        "V2": "bfloat16",  # numpy knows no bfloat16: JAX's is written as two bytes of no type
    }
)

_NUMPY_ALIASES = {
    "float64": "f8",
    "float32": "f4",
    "float16": "f2",
    "int64": "i8",
    "int32": "i4",
    "int16": "i2",
    "int8": "i1",
    "uint64": "u8",
    "uint32": "u4",
    "uint16": "u2",
    "uint8": "u1",
    "bool": "b1",
    "bool_": "b1",
    "complex64": "c8",
    "complex128": "c16",
}

ML_DTYPES: dict[str, torch.dtype] = _known(
    {
        "bfloat16": "bfloat16",
        "float8_e4m3fn": "float8_e4m3fn",
        "float8_e5m2": "float8_e5m2",
        "float8_e8m0fnu": "float8_e8m0fnu",
        "float8_e4m3fnuz": "float8_e4m3fnuz",
        "float8_e5m2fnuz": "float8_e5m2fnuz",
    }
)
"""Types that JAX adds to numpy, by the name of their class in `ml_dtypes`."""

_DESCR = re.compile(r"([<>|=]?)([a-zA-Z?]\d{0,2})")


def numpy_dtype(descr: str) -> tuple[torch.dtype, str] | None:
    """Return torch's type and the byte order (`'<'`, `'>'` or `'|'`) for numpy's spelling, such as `'<f4'`.

    Args:
        descr: As in an npy header, or the name of the type.

    Returns:
        `None` for types that torch does not have: text, dates, records, objects.
    """
    match = _DESCR.fullmatch(_NUMPY_ALIASES.get(descr, descr))
    dtype = _NUMPY.get(match[2]) if match else None
    return (dtype, match[1] or "|") if match and dtype is not None else None


def swap_unit(dtype: torch.dtype, *, foreign: bool) -> int:
    """Return the size of the units to reverse in bytes of the other byte order, 0 if there are none.

    Args:
        dtype: Type of the elements.
        foreign: Whether the bytes are in the other byte order than this machine's.
    """
    unit = dtype.itemsize // 2 if dtype.is_complex else dtype.itemsize
    return unit if foreign and unit > 1 else 0
