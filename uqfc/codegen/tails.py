"""Loads and stores of the first ``count`` lanes, which touch no memory past them.

With cheap masks it is one masked access. Elsewhere the count's bits are pieces of 16, 8, 4, 2, 1
elements, which are copied through the stack where the count is known only at run time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uqfc.codegen.elements import BYTES, llvm_type
from uqfc.codegen.llvm import ir
from uqfc.codegen.vector import Pointer, Value

if TYPE_CHECKING:
    from uqfc.codegen.builder import Builder


def lane_mask(b: Builder, count: Value | int, lanes: int) -> Value:
    """i1 per lane: ``lane < count``."""
    if isinstance(count, int):
        return b.vector("i1", [lane < count for lane in range(lanes)])
    narrow = count.trunc("i32") if count.element == "i64" else count
    return b.vector("i32", range(lanes)).lt(narrow)


def load_first(b: Builder, source: Pointer, element: str, count: Value | int, lanes: int) -> Value:
    """``lanes`` elements, a power of two; those from ``count`` on are 0."""
    kind = llvm_type(element, lanes)
    if b.isa.masked_memory:
        mask = lane_mask(b, count, lanes)
        zeros = Value(b, ir.Constant(kind, None))
        name = f"llvm.masked.load.v{lanes}{element}.p0"
        arguments = (_address(source), b.i32(1), mask, zeros)
        return b.intrinsic(name, kind, *arguments)
    slot = b.stack(lanes * BYTES[element])
    slot.store(Value(b, ir.Constant(kind, None)))
    _copy_pieces(b, source, slot, element, count, lanes)
    return slot.load(element, 0, lanes)


def store_first(b: Builder, target: Pointer, value: Value, count: Value | int) -> None:
    """Stores lanes ``0 … count - 1`` of a power of two lanes."""
    element, lanes = value.element, value.lanes
    if b.isa.masked_memory:
        mask = lane_mask(b, count, lanes)
        name = f"llvm.masked.store.v{lanes}{element}.p0"
        b.intrinsic_void(name, value, _address(target), b.i32(1), mask)
        return
    if isinstance(count, int):
        _store_pieces(target, value, count)
        return
    slot = b.stack(lanes * BYTES[element])
    slot.store(value)
    _copy_pieces(b, slot, target, element, count, lanes)


def _address(pointer: Pointer) -> Value:
    return Value(pointer.b, pointer.ir)


def _store_pieces(target: Pointer, value: Value, count: int) -> None:
    size, piece, start = BYTES[value.element], value.lanes, 0
    while piece:
        if count & piece:
            part = value.shuffle(range(start, start + piece))
            target.store(part, start * size)
            start += piece
        piece //= 2


def _copy_pieces(
    b: Builder, source: Pointer, target: Pointer, element: str, count: Value | int, lanes: int
) -> None:
    size = BYTES[element]
    total = count if isinstance(count, Value) else b.i64(count)
    total = total.sext("i64") if total.element == "i32" else total
    piece = lanes
    while piece:
        with b.when((total & piece).ne(0)):
            offset = (total & ~(2 * piece - 1)) * size
            target.store(source.load(element, offset, piece), offset)
        piece //= 2
