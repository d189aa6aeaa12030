"""Names of quantized types, the storage they have in a graph, and their integers."""

from __future__ import annotations

from uqfc.dialects.quant import STORAGE_RANGES
from uqfc.float8 import FORMATS

Range = tuple[int, int]

STORAGES: dict[str, tuple[str, ...]] = {
    "int8": ("i8", "u8"),
    "uint8": ("u8",),
    "int4": ("i4", "u4"),
    "uint4": ("u4",),
    "int2": ("i2", "u2"),
    "uint2": ("u2",),
    "ternary": ("i2",),
    "binary": ("i2",),
}
"""Storages of a dtype; the first one whose range holds the given integers is meant."""
FLOAT8: dict[str, tuple[str, ...]] = {f.dtype: (f.name,) for f in FORMATS.values()}
"""8-bit floats: of graphs only, a document beside a float model cannot ask for them."""
HELD_IN: dict[str, tuple[str, ...]] = {"i2": ("i2", "i4"), "u2": ("u2", "u4")}
"""Types of ONNX that hold the integers of a storage, where it is not just the one of its name."""
FEW_LEVELS: Range = (-1, 1)
"""The integers of ternary weights; binary ones are -1 and 1 only."""


def middle(storage: str) -> int:
    """The zero point of symmetric quantization."""
    low, high = STORAGE_RANGES[storage]
    return 0 if low < 0 else (high + 1) // 2


NAMES = {
    "i8": "int8",
    "u8": "uint8",
    "i4": "int4",
    "u4": "uint4",
    "i2": "int2",
    "u2": "uint2",
    **{form.name: form.dtype for form in FORMATS.values()},
}
"""Canonical dtypes by storage."""


def dtype_of(storage: str, limits: Range, is_binary: bool = False) -> str:
    """The canonical name."""
    if storage == "i2" and limits == FEW_LEVELS:
        return "binary" if is_binary else "ternary"
    return NAMES[storage]


def storage_in(dtype: str, held: str) -> str | None:
    """The storage that a dtype means where the graph has ``held``; None if it has no such."""
    found = [s for s in (STORAGES | FLOAT8).get(dtype, ()) if held in HELD_IN.get(s, (s,))]
    return found[0] if found else None


def default_range(dtype: str, storage: str) -> Range:
    """The integers of a dtype where the document does not say."""
    return FEW_LEVELS if dtype in ("ternary", "binary") else STORAGE_RANGES[storage]
