"""What the kernels on float tensors and the data movements share.

A ``TensorKernel`` is a frozen dataclass of static shapes and element types. Its *structure* (what
the code depends on) makes its name; sizes and strides are arguments of the emitted function, so
that tensors of different sizes share code. A caller holds the kernel and pointers::

    kernel = SoftmaxKernel(isa, shape=(2, 10), axis=1)
    kernel.call(b, [x], out, scratch)     # scratch: kernel.scratch_bytes, 64-byte aligned

Tensors are dense and row-major. Nothing is written past the end of ``out``. Inputs are not
``out`` unless a kernel says so. Whether inputs are read past their end is said by
``over_read``: at most that many bytes after the end of every input have to be readable.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar, Literal, TypeAlias, cast

from llvmlite import ir

from uqfc.codegen.builder import Builder
from uqfc.codegen.elements import llvm_type
from uqfc.codegen.isa import Isa
from uqfc.codegen.parts import Part
from uqfc.codegen.vector import LANES, Pointer, Value

Dtype: TypeAlias = Literal["f32", "u8", "i8", "i32", "i64", "i1"]
"""Element types of tensors; ``i1`` takes a byte, 0 or 1."""

Shape: TypeAlias = tuple[int, ...]
Argument: TypeAlias = Pointer | Value | int | float

DTYPE_BYTES: dict[Dtype, int] = {"f32": 4, "u8": 1, "i8": 1, "i32": 4, "i64": 8, "i1": 1}

MEMORY_ELEMENTS: dict[Dtype, str] = {
    "f32": "f32",
    "u8": "i8",
    "i8": "i8",
    "i32": "i32",
    "i64": "i64",
    "i1": "i8",
}
"""Element types of loads and stores, as ``vector`` names them."""


class TensorKernel(ABC):
    """A kernel of static shapes; subclasses are frozen dataclasses with a field ``isa``."""

    isa: Isa
    over_read: ClassVar[int] = 0

    @property
    @abstractmethod
    def name(self) -> str:
        """The same for kernels that share code."""

    @property
    def scratch_bytes(self) -> int:
        """Bytes of 64-byte aligned memory that a call needs."""
        return 0

    @property
    def splits(self) -> bool:
        """Whether there is ``call_part``."""
        return False

    @abstractmethod
    def call(
        self,
        b: Builder,
        inputs: Sequence[Pointer],
        out: Pointer,
        scratch: Pointer | None = None,
    ) -> None:
        """Emits what computes ``out``. ValueError if scratch memory is needed and missing."""

    def call_part(
        self,
        b: Builder,
        inputs: Sequence[Pointer],
        out: Pointer,
        scratch: Pointer | None,
        part: Part,
    ) -> None:
        """Emits what computes a part's share of ``out``; only of kernels that are split."""
        raise TypeError(f"{self.name} cannot be split")


class FunctionKernel(TensorKernel):
    """A kernel that is one call of one function, whose name is the kernel's."""

    @abstractmethod
    def emit(self, module: Any) -> Any:
        """The function in ``module``, emitted if it is not there yet."""

    @abstractmethod
    def arguments(
        self, inputs: Sequence[Pointer], out: Pointer, scratch: Pointer | None
    ) -> list[Argument]:
        """The arguments of a call of the emitted function."""

    def call(
        self,
        b: Builder,
        inputs: Sequence[Pointer],
        out: Pointer,
        scratch: Pointer | None = None,
    ) -> None:
        b.call(self.emit(b.module), *self._checked_arguments(inputs, out, scratch))

    def call_part(
        self,
        b: Builder,
        inputs: Sequence[Pointer],
        out: Pointer,
        scratch: Pointer | None,
        part: Part,
    ) -> None:
        arguments = self._checked_arguments(inputs, out, scratch)
        b.call(self.emit(b.module), *self.share(arguments, part))

    def share(self, arguments: list[Argument], part: Part) -> list[Argument]:
        """The arguments of a call that computes a part; only of kernels that are split."""
        raise TypeError(f"{self.name} cannot be split")

    def _checked_arguments(
        self, inputs: Sequence[Pointer], out: Pointer, scratch: Pointer | None
    ) -> list[Argument]:
        if self.scratch_bytes and scratch is None:
            raise ValueError(f"{self.name} needs scratch memory")
        return self.arguments(inputs, out, scratch)


def structure_name(prefix: str, structure: object, isa: Isa) -> str:
    """``prefix_<digest of the structure>__isa``; ``structure`` has a deterministic ``repr``."""
    digest = hashlib.sha256(repr(structure).encode()).hexdigest()[:12]
    return f"{prefix[:48]}_{digest}__{isa.name}"


def to_lanes(dtype: Dtype, raw: Value) -> Value:
    """What is computed with: f32, i32 (of 8-bit types too), i64, or an i1 mask."""
    match dtype:
        case "u8":
            return raw.zext("i32")
        case "i8":
            return raw.sext("i32")
        case "i1":
            return raw.ne(0)
        case _:
            return raw


def to_memory(dtype: Dtype, value: Value) -> Value:
    """The elements to store."""
    match dtype:
        case "u8" | "i8":
            return value.trunc("i8")
        case "i1":
            return value.zext("i8")
        case _:
            return value


@contextmanager
def nest(b: Builder, sizes: Sequence[Value | int]) -> Generator[list[Value], None, None]:
    """Nested loops from 0 to each size, the last innermost; gives the indices."""
    with ExitStack() as stack:
        yield [stack.enter_context(b.loop(0, size)) for size in sizes]


def insert_lane(vector: Value, lane: int, scalar: Value) -> Value:
    index = ir.Constant(ir.IntType(32), lane)
    return Value(vector.b, vector.b.ir.insert_element(vector.ir, scalar.ir, index))


def undefined(b: Builder, element: str, lanes: int) -> Value:
    nothing: Any = cast("Any", ir).Undefined
    return Value(b, ir.Constant(llvm_type(element, lanes), nothing))


def smaller(a: Value, other: Value | int) -> Value:
    """The signed minimum of integers."""
    limit = other if isinstance(other, Value) else a.b.constant(a.element, other, a.lanes)
    return a.b.select(a.lt(limit), a, limit)


def larger(a: Value, other: Value | int) -> Value:
    """The signed maximum of integers."""
    limit = other if isinstance(other, Value) else a.b.constant(a.element, other, a.lanes)
    return a.b.select(a.gt(limit), a, limit)


def whole_vectors(n: Value, lanes: int = LANES) -> Value:
    """The largest multiple of ``lanes`` (a power of two) that is <= n."""
    return n & -lanes


def product(values: Sequence[int]) -> int:
    result = 1
    for v in values:
        result *= v
    return result
