"""How the formats spell element types. Free of torch, so that names and shapes can be had without it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from framework.pretrain.errors import CheckpointError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ElementType:
    """A type of torch, by its name.

    Attributes:
        name: As torch calls it, `float32`.
        itemsize: Bytes of an element.
    """

    name: str
    itemsize: int

    @property
    def is_complex(self) -> bool:
        """Whether an element has a real and an imaginary part."""
        return "complex" in self.name

    @cached_property
    def torch(self) -> torch.dtype:
        """The type itself.

        Raises:
            CheckpointError: This version of torch does not have it.
        """
        import torch

        found = getattr(torch, self.name, None)
        if found is None:
            raise CheckpointError(f"a tensor is of type {self.name}, which torch {torch.__version__} lacks")
        return found

    def __str__(self) -> str:
        return f"torch.{self.name}"


_SIZES = {
    "complex128": 16,
    **dict.fromkeys(("float64", "int64", "uint64", "complex64"), 8),
    **dict.fromkeys(("float32", "int32", "uint32", "complex32", "bcomplex32"), 4),
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16", "bits16"), 2),
    **dict.fromkeys(("int8", "uint8", "bool", "bits8", "bits1x8", "bits2x4", "bits4x2"), 1),
    **dict.fromkeys(("float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"), 1),
    **dict.fromkeys(("float8_e4m3fnuz", "float8_e5m2fnuz", "float4_e2m1fn_x2"), 1),
    **dict.fromkeys((f"{sign}int{bits}" for sign in ("", "u") for bits in range(1, 8)), 1),
}
_ALIASES = {
    "double": "float64",
    "float": "float32",
    "half": "float16",
    "bit": "uint1",
    "long": "int64",
    "int": "int32",
    "short": "int16",
    "cdouble": "complex128",
    "cfloat": "complex64",
    "chalf": "complex32",
}
_TYPES = {name: ElementType(name, size) for name, size in _SIZES.items()}

TORCH: dict[str, ElementType] = {
    **{f"torch.{name}": kind for name, kind in _TYPES.items()},
    **{f"torch.{alias}": _TYPES[name] for alias, name in _ALIASES.items()},
}
"""Torch's types by qualified name; aliases such as `torch.half` included, quantised types left out."""

_STORAGES = {
    "Double": "float64",
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
    "ComplexDouble": "complex128",
    "ComplexFloat": "complex64",
    "Untyped": "uint8",
    "QInt8": "int8",  # quantised tensors become inert, but their bytes stand between others
    "QUInt8": "uint8",
    "QInt32": "int32",
    "QUInt4x2": "uint8",
    "QUInt2x4": "uint8",
}

STORAGES: dict[str, ElementType] = {
    f"{module}.{name}Storage": _TYPES[kind]
    for name, kind in _STORAGES.items()
    for module in ("torch", "torch.cuda", "torch.storage")
}
"""Torch's storage classes, by qualified name."""


def _known(names: dict[str, str]) -> dict[str, ElementType]:
    return {key: _TYPES[name] for key, name in names.items()}


SAFETENSORS: dict[str, ElementType] = _known(
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

ML_DTYPES: dict[str, ElementType] = _known(
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


def numpy_dtype(descr: str) -> tuple[ElementType, str] | None:
    """Return torch's type and the byte order (`'<'`, `'>'` or `'|'`) for numpy's spelling, such as `'<f4'`.

    Args:
        descr: As in an npy header, or the name of the type.

    Returns:
        `None` for types that torch does not have: text, dates, records, objects.
    """
    match = _DESCR.fullmatch(_NUMPY_ALIASES.get(descr, descr))
    dtype = _NUMPY.get(match[2]) if match else None
    return (dtype, match[1] or "|") if match and dtype is not None else None


def swap_unit(dtype: ElementType, *, foreign: bool) -> int:
    """Return the size of the units to reverse in bytes of the other byte order, 0 if there are none.

    Args:
        dtype: Type of the elements.
        foreign: Whether the bytes are in the other byte order than this machine's.
    """
    unit = dtype.itemsize // 2 if dtype.is_complex else dtype.itemsize
    return unit if foreign and unit > 1 else 0
