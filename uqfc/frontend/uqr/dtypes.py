"""Names of quantized types, the storage they have in a graph, and their integers."""

from __future__ import annotations

from uqfc.dialects.quant import STORAGE_RANGES

Range = tuple[int, int]

STORAGES: dict[str, tuple[str, ...]] = {
    "int8": ("i8", "u8"),
    "uint8": ("u8",),
    "int4": ("i4", "u4"),
    "uint4": ("u4",),
    "ternary": ("i2",),
    "binary": ("i2",),
}
"""Storages of a dtype; the first one whose range holds the given integers is meant."""
FEW_LEVELS: Range = (-1, 1)
"""The integers of ternary weights; binary ones are -1 and 1 only."""


def middle(storage: str) -> int:
    """The zero point of symmetric quantization."""
    low, high = STORAGE_RANGES[storage]
    return 0 if low < 0 else (high + 1) // 2


def dtype_of(storage: str, limits: Range, is_binary: bool = False) -> str | None:
    """The canonical name, or None: of two bits, only -1, 0 and 1 have one."""
    if storage == "i2":
        return ("binary" if is_binary else "ternary") if limits == FEW_LEVELS else None
    names = {s: name for name, storages in STORAGES.items() for s in storages if storages[0] == s}
    return names.get(storage)


def default_range(dtype: str, storage: str) -> Range:
    """The integers of a dtype where the document does not say."""
    return FEW_LEVELS if dtype in ("ternary", "binary") else STORAGE_RANGES[storage]
