"""``table[x]`` for u8 x and a table of 256 u8 values.

Vectors of bytes are looked up with byte shuffles where the instruction set has them: two
``vpermi2b`` of 128 entries each (AVX512-VBMI), or sixteen ``vpshufb`` of 16 entries, each of which
gives 0 for the bytes that are not its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.elements import llvm_type
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.tensor import Argument, FunctionKernel, whole_vectors
from uqfc.codegen.vector import Pointer, Value

Lookup = Callable[[Value], Value]
SHUFFLES = {32: "llvm.x86.avx2.pshuf.b", 64: "llvm.x86.avx512.pshuf.b.512"}
PERMUTE = "llvm.x86.avx512.vpermi2var.qi.512"
ROW = 16


@dataclass(frozen=True)
class LookupKernel(FunctionKernel):
    """Inputs: x u8 [rows, count], table u8 [256]. ``out`` may be x.

    ``pitches``: bytes from row to row of x and of ``out``, for more than one row.
    """

    isa: Isa
    count: int
    rows: int = 1
    pitches: tuple[int, int] = (0, 0)

    @property
    def name(self) -> str:
        return f"u8_lookup{'_rows' if self.rows > 1 else ''}__{self.isa.name}"

    @property
    def lanes(self) -> int:
        """Bytes of a vector; 0 if the instruction set has no byte shuffle."""
        return {"vnni512": 64, "avx2": 32}.get(self.isa.name, 0)

    def emit(self, module: Any) -> Any:
        """``f(x, table, out, count)``, of rows also ``(…, rows, x_pitch, out_pitch)``."""
        if function := find_function(module, self.name):
            return function
        parameters = {"x": "ptr", "table": "ptr", "out": "ptr", "count": "i64"}
        if self.rows > 1:
            parameters |= dict.fromkeys(("rows", "x_pitch", "out_pitch"), "i64")
        b = Builder.function(module, self.isa, self.name, internal=True, **parameters)
        done = whole_vectors(b.value("count"), self.lanes) if self.lanes else b.i64(0)
        lookup = self._vectors(b) if self.lanes else None
        if self.rows == 1:
            self._row(b, lookup, done, b.pointer("x"), b.pointer("out"))
            return b.ret()
        with b.loop(0, b.value("rows")) as row:
            x = b.pointer("x") + row * b.value("x_pitch")
            self._row(b, lookup, done, x, b.pointer("out") + row * b.value("out_pitch"))
        return b.ret()

    def _row(
        self, b: Builder, lookup: Lookup | None, done: Value, x: Pointer, out: Pointer
    ) -> None:
        """``done`` elements in vectors, then the others: one by one, but of many rows together."""
        count = b.value("count")
        if lookup is not None:
            with b.loop(0, done, self.lanes) as i:
                out.store(lookup(x.load("i8", i, self.lanes)), i)
            if self.rows > 1 and self.isa.masked_memory:
                rest = count - done
                with b.when(rest.ne(0)):
                    out.store_first(lookup(x.load_first("i8", rest, done, self.lanes)), rest, done)
                return
        with b.loop(done, count) as i:
            index = x.load("i8", i, 0).zext("i64")
            out.store(b.pointer("table").load("i8", index, 0), i)

    def _vectors(self, b: Builder) -> Lookup:
        table, permutes = b.pointer("table"), "+avx512vbmi" in self.isa.features
        return _by_permutes(b, table) if permutes else _by_shuffles(b, table, self.lanes)

    def arguments(
        self, inputs: Sequence[Pointer], out: Pointer, scratch: Pointer | None
    ) -> list[Argument]:
        rows = [self.rows, *self.pitches] if self.rows > 1 else []
        return [inputs[0], inputs[1], out, self.count, *rows]


def _by_permutes(b: Builder, table: Pointer) -> Lookup:
    parts = [table.load("i8", 64 * i, 64) for i in range(4)]
    kind = llvm_type("i8", 64)

    def look_up(x: Value) -> Value:
        low = b.intrinsic(PERMUTE, kind, parts[0], x, parts[1])
        high = b.intrinsic(PERMUTE, kind, parts[2], x, parts[3])
        return b.select(x.lt(0), high, low)

    return look_up


def _by_shuffles(b: Builder, table: Pointer, lanes: int) -> Lookup:
    """A byte whose high nibble is not the row's gets bit 7 set, and ``vpshufb`` gives 0 for it."""
    repeated = [*range(ROW)] * (lanes // ROW)
    rows = [table.load("i8", ROW * r, ROW).shuffle(repeated) for r in range(256 // ROW)]
    kind = llvm_type("i8", lanes)
    limit = b.constant("i8", 0x70, lanes)

    def look_up(x: Value) -> Value:
        result: Value | None = None
        for r, row in enumerate(rows):
            own = x ^ (((r << 4) + 128) % 256 - 128)
            index = b.intrinsic(f"llvm.uadd.sat.v{lanes}i8", kind, own, limit)
            part = b.intrinsic(SHUFFLES[lanes], kind, row, index)
            result = part if result is None else result | part
        assert result is not None
        return result

    return look_up
