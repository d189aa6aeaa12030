"""Typed SSA values over llvmlite: scalars, vectors of any width, and byte-addressed pointers.

A ``Value`` is a scalar (``lanes == 0``) or a vector of any number of lanes; LLVM splits or widens
vectors to what the machine has, so kernels are written for 16 lanes everywhere. Operators work
lane by lane, Python numbers become constants and a scalar meeting a vector is splat. No
fast-math flag is ever set: each operator is one IEEE operation, rounded once.

Element types are named as in ``elements``; pointers are opaque and offsets are in bytes.
Functions, loops and the ``numerics.Arithmetic`` methods are in ``builder``. A kernel that computes
``y = hard_swish(x * s)`` for ``n`` floats, with a tail that never touches memory past ``n``::

    module = new_module(isa, "example")
    b = Builder.function(
        module, isa, "scaled_hard_swish", x="ptr", y="noalias", n="i64", s="f32"
    )
    x, y, n, s = b.pointer("x"), b.pointer("y"), b.value("n"), b.value("s")
    with b.loop(0, n & ~15, 16) as i:
        v = x.load_f32(i * 4) * s  # 16 lanes; the scalar is splat
        y.store(numerics.hard_swish(b, v), i * 4)
    rest = n & 15
    with b.when(rest.ne(0)):
        start = (n - rest) * 4
        v = x.load_first("f32", rest, start) * s
        y.store_first(numerics.hard_swish(b, v), rest, start)
    b.ret()

    loaded = jit.load(jit.compile_object(module, isa), ["scaled_hard_swish"])
    f = loaded.function("scaled_hard_swish", "ptr", "ptr", "i64", "f32")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from uqfc.codegen.elements import ELEMENTS, constant, element_name, llvm_type, undefined
from uqfc.codegen.llvm import ir

if TYPE_CHECKING:
    from uqfc.codegen.builder import Builder

LANES = 16
"""Lanes of the vectors that kernels work on, on every machine."""
VECTOR_BYTES = 4 * LANES
"""Bytes of a vector of 32-bit lanes."""


@dataclass(frozen=True, eq=False)
class Value:
    """A scalar or vector. ``ir`` is the llvmlite value."""

    b: Builder
    ir: Any

    @property
    def lanes(self) -> int:
        """Number of lanes; 0 for a scalar."""
        return self.ir.type.count if isinstance(self.ir.type, ir.VectorType) else 0

    @property
    def element(self) -> str:
        """Name of the element type, a key of ``ELEMENTS``."""
        return element_name(self.ir.type.element if self.lanes else self.ir.type)

    # --- operators ---------------------------------------------------------------------------

    def _operands(self, other: Value | float) -> tuple[Any, Any]:
        if not isinstance(other, Value):
            return self.ir, self.b.constant(self.element, other, self.lanes).ir
        if self.lanes == other.lanes:
            return self.ir, other.ir
        lanes = max(self.lanes, other.lanes)
        return self.splat(lanes).ir, other.splat(lanes).ir

    def _binary(
        self, other: Value | float, on_float: str, on_int: str, swap: bool = False
    ) -> Value:
        left, right = self._operands(other)
        if swap:
            left, right = right, left
        name = on_float if self.element == "f32" else on_int
        if not name:
            raise TypeError(f"operator is not defined on {self.element}")
        return Value(self.b, getattr(self.b.ir, name)(left, right))

    def __add__(self, other: Value | float) -> Value:
        return self._binary(other, "fadd", "add")

    def __radd__(self, other: float) -> Value:
        return self._binary(other, "fadd", "add", swap=True)

    def __sub__(self, other: Value | float) -> Value:
        return self._binary(other, "fsub", "sub")

    def __rsub__(self, other: float) -> Value:
        return self._binary(other, "fsub", "sub", swap=True)

    def __mul__(self, other: Value | float) -> Value:
        return self._binary(other, "fmul", "mul")

    def __rmul__(self, other: float) -> Value:
        return self._binary(other, "fmul", "mul", swap=True)

    def __truediv__(self, other: Value | float) -> Value:
        return self._binary(other, "fdiv", "")

    def __rtruediv__(self, other: float) -> Value:
        return self._binary(other, "fdiv", "", swap=True)

    def __floordiv__(self, other: Value | int) -> Value:
        """Unsigned division of integers."""
        return self._binary(other, "", "udiv")

    def __mod__(self, other: Value | int) -> Value:
        """Unsigned remainder of integers."""
        return self._binary(other, "", "urem")

    def __and__(self, other: Value | int) -> Value:
        return self._binary(other, "", "and_")

    def __or__(self, other: Value | int) -> Value:
        return self._binary(other, "", "or_")

    def __xor__(self, other: Value | int) -> Value:
        return self._binary(other, "", "xor")

    def __lshift__(self, other: Value | int) -> Value:
        return self._binary(other, "", "shl")

    def __rshift__(self, other: Value | int) -> Value:
        """Arithmetic shift right."""
        return self._binary(other, "", "ashr")

    def shift_right_logical(self, other: Value | int) -> Value:
        return self._binary(other, "", "lshr")

    def __neg__(self) -> Value:
        negate = self.b.ir.fneg if self.element == "f32" else self.b.ir.neg
        return Value(self.b, negate(self.ir))

    # --- comparisons: i1 of the same lanes; signed, or ordered (false on NaN) -------------------

    def compare(self, operator: str, other: Value | float) -> Value:
        """``operator`` is one of ``< <= > >= == !=``."""
        left, right = self._operands(other)
        on_float = self.element == "f32"
        compare = self.b.ir.fcmp_ordered if on_float else self.b.ir.icmp_signed
        return Value(self.b, compare(operator, left, right))

    def lt(self, other: Value | float) -> Value:
        return self.compare("<", other)

    def le(self, other: Value | float) -> Value:
        return self.compare("<=", other)

    def gt(self, other: Value | float) -> Value:
        return self.compare(">", other)

    def ge(self, other: Value | float) -> Value:
        return self.compare(">=", other)

    def below(self, other: Value) -> Value:
        """Unsigned: ``0 <= self < other`` if ``other`` is not below 0."""
        left, right = self._operands(other)
        return Value(self.b, self.b.ir.icmp_unsigned("<", left, right))

    def eq(self, other: Value | float) -> Value:
        return self.compare("==", other)

    def ne(self, other: Value | float) -> Value:
        return self.compare("!=", other)

    # --- conversions and lanes -----------------------------------------------------------------

    def splat(self, lanes: int) -> Value:
        """A scalar in every lane; a vector of that many lanes is returned as it is."""
        if self.lanes == lanes:
            return self
        if self.lanes:
            raise TypeError(f"cannot splat {self.lanes} lanes to {lanes}")
        filler = undefined(self.element, lanes)
        one = self.b.ir.insert_element(filler, self.ir, constant("i32", 0, [0]))
        mask = constant("i32", lanes, [0] * lanes)
        return Value(self.b, self.b.ir.shuffle_vector(one, filler, mask))

    def sext(self, element: str) -> Value:
        return Value(self.b, self.b.ir.sext(self.ir, llvm_type(element, self.lanes)))

    def zext(self, element: str) -> Value:
        return Value(self.b, self.b.ir.zext(self.ir, llvm_type(element, self.lanes)))

    def trunc(self, element: str) -> Value:
        return Value(self.b, self.b.ir.trunc(self.ir, llvm_type(element, self.lanes)))

    def bitcast(self, element: str, lanes: int) -> Value:
        return Value(self.b, self.b.ir.bitcast(self.ir, llvm_type(element, lanes)))

    def shuffle(self, lanes: Sequence[int], other: Value | None = None) -> Value:
        """Lane ``lanes[i]`` of ``self ++ other`` in lane ``i``."""
        mask = constant("i32", len(lanes), lanes)
        second = undefined(self.element, self.lanes) if other is None else other.ir
        return Value(self.b, self.b.ir.shuffle_vector(self.ir, second, mask))

    def extract(self, lane: int) -> Value:
        return Value(self.b, self.b.ir.extract_element(self.ir, constant("i32", 0, [lane])))


@dataclass(frozen=True, eq=False)
class Pointer:
    """An address; offsets are bytes, an int or an i64 ``Value``."""

    b: Builder
    ir: Any

    def __add__(self, offset: Value | int) -> Pointer:
        if isinstance(offset, int) and offset == 0:
            return self
        index = offset.ir if isinstance(offset, Value) else constant("i64", 0, [offset])
        return Pointer(self.b, self.b.ir.gep(self.ir, [index], source_etype=ELEMENTS["i8"]))

    def load(
        self, element: str, offset: Value | int = 0, lanes: int = LANES, align: int = 1
    ) -> Value:
        """``lanes`` elements (0: one scalar); unaligned unless ``align`` says more."""
        kind = llvm_type(element, lanes)
        return Value(self.b, self.b.ir.load((self + offset).ir, align=align, typ=kind))

    def load_f32(self, offset: Value | int = 0, lanes: int = LANES) -> Value:
        return self.load("f32", offset, lanes)

    def load_i32(self, offset: Value | int = 0, lanes: int = LANES) -> Value:
        return self.load("i32", offset, lanes)

    def load_u8_as_i32(self, offset: Value | int = 0, lanes: int = LANES) -> Value:
        return self.load("i8", offset, lanes).zext("i32")

    def load_s8_as_i32(self, offset: Value | int = 0, lanes: int = LANES) -> Value:
        return self.load("i8", offset, lanes).sext("i32")

    def load_pointer(self, offset: Value | int = 0) -> Pointer:
        kind = ir.PointerType()
        return Pointer(self.b, self.b.ir.load((self + offset).ir, align=8, typ=kind))

    def store(self, value: Value | Pointer, offset: Value | int = 0, align: int = 1) -> None:
        """Stores a scalar or all lanes of a vector."""
        self.b.ir.store(value.ir, (self + offset).ir, align=align)

    def prefetch(self, offset: Value | int = 0, level: int = 1) -> None:
        """Asks for a line to be in the cache of that level; the address may be anything."""
        address = Value(self.b, (self + offset).ir)
        hints = [self.b.i32(hint) for hint in (0, 4 - level, 1)]  # to read, how near, data
        self.b.intrinsic_void("llvm.prefetch.p0", address, *hints)

    def store_u8(self, value: Value, offset: Value | int = 0) -> None:
        """Stores int32 lanes that are known to be in [0, 255], a byte each."""
        self.store(value.trunc("i8"), offset)

    def load_first(
        self, element: str, count: Value | int, offset: Value | int = 0, lanes: int = LANES
    ) -> Value:
        """The first ``count`` of ``lanes`` elements (others are 0); reads nothing past them."""
        return self.b.load_first(self + offset, element, count, lanes)

    def store_first(self, value: Value, count: Value | int, offset: Value | int = 0) -> None:
        """Stores the first ``count`` lanes, 0 <= count <= lanes; touches nothing past them."""
        self.b.store_first(self + offset, value, count)

    def store_u8_first(self, value: Value, count: Value | int, offset: Value | int = 0) -> None:
        """``store_first`` of int32 lanes that are known to be in [0, 255], a byte each."""
        self.store_first(value.trunc("i8"), count, offset)
