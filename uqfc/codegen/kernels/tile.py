"""The inner kernels of a matrix product: a tile of sums, and the expansion of INT4 panels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.isa.dot import DotKind, Operand, dot_for
from uqfc.codegen.vector import LANES, Value

LOW_NIBBLES = 0x0F0F0F0F
ALL_BYTES = 0x01010101


@dataclass(frozen=True)
class Tile:
    """``rows`` by ``16 * vectors`` sums over K, kept in registers.

    ``source`` is how the panel is stored: ``s8``, ``s16``, ``s4`` (int8 with |w| <= 15) or ``u4``
    (nibbles, decoded in registers, for one row; the zero point meets the sum of the activations).
    """

    rows: int
    vectors: int
    source: Literal["s8", "s4", "s16", "u4"]

    def __post_init__(self) -> None:
        if self.source == "u4" and self.rows != 1:
            raise ValueError("a tile of nibbles has one row")

    @property
    def dot(self) -> DotKind:
        return "s4" if self.source == "u4" else self.source

    @property
    def group(self) -> int:
        """K per step."""
        return 8 if self.source == "u4" else 4

    def chains(self, isa: Isa) -> int:
        """Sums per output, each of every ``chains``-th group of four K: 1, 2 or 4."""
        return max(1, min(4, isa.accumulators // (self.rows * self.vectors)))

    def emit(self, module: Any, isa: Isa) -> Any:
        """``f(a, lda, weights, steps, addend, sums)``: sums int32 [rows, 16 * vectors].

        Rows of ``sums`` are ``isa.panel`` elements apart.

        ``a`` u8 [rows] of stride ``lda``, each read up to ``steps * group`` bytes.
        """
        source = "s8" if (isa.name, self.source) == ("vnni512", "s4") else self.source
        name = f"tile_{source}_{self.rows}x{self.vectors * LANES}__{isa.name}"
        if function := find_function(module, name):
            return function
        parameters = {"a": "ptr", "lda": "i64", "weights": "ptr", "steps": "i64"}
        parameters |= {"addend": "ptr"}
        parameters |= {"zero_points": "ptr"} if self.source == "u4" else {}
        parameters |= {"sums": "noalias"}
        b = Builder.function(module, isa, name, internal=True, **parameters)
        _TileEmitter(self, b).run()
        return b.ret()


class _TileEmitter:
    """The body of a ``Tile``; its state are the sums [chain][row][vector]."""

    def __init__(self, tile: Tile, b: Builder) -> None:
        self.tile = tile
        self.b = b
        self.dot = dot_for(b.isa, tile.dot)
        self.chains = tile.chains(b.isa)
        self.outputs = tile.rows * tile.vectors
        self.row_pointers = [b.pointer("a")]
        for _ in range(1, tile.rows):
            self.row_pointers.append(self.row_pointers[-1] + b.value("lda"))
        self.panel = b.pointer("weights")

    def run(self) -> None:
        b, tile = self.b, self.tile
        zero = b.i32(0, LANES)
        state = self._addends() * tile.rows + [zero] * (self.outputs * (self.chains - 1))
        steps = b.value("steps")
        unroll = max(1, self.chains // (tile.group // 4))
        unrolled = steps & ~(unroll - 1)
        with b.loop(0, unrolled, unroll, carry=state) as step:
            for i in range(unroll):
                self._step(state, step + i, i)
        if unroll > 1:
            with b.loop(unrolled, steps, carry=state) as step:
                self._step(state, step, 0)
        self._store(state)

    def _addends(self) -> list[Value]:
        """Of each vector, with the zero point of nibbles applied to the sum of activations."""
        b, tile = self.b, self.tile
        vectors = range(tile.vectors)
        addends = [b.pointer("addend").load_i32(v * 64) for v in vectors]
        if tile.source != "u4":
            return addends
        zero_points = [b.pointer("zero_points").load_u8_as_i32(v * LANES) for v in vectors]
        total = self._activation_sum()
        return [addend - z * total for addend, z in zip(addends, zero_points, strict=True)]

    def _activation_sum(self) -> Value:
        """The sum of the activations that the steps read: 64 at a time, then 8."""
        b, a = self.b, self.b.pointer("a")
        ones = self.dot.weight((b.i32(ALL_BYTES, LANES),))
        count = b.value("steps") * 8
        wide = [b.i32(0, LANES)]
        with b.loop(0, count & ~63, 64, carry=wide) as k:
            wide[0] = self.dot.add(wide[0], self.dot.activation(a.load_i32(k)), ones)
        narrow = [b.i32(0, 8)]
        with b.loop(count & ~63, count, 8, carry=narrow) as k:
            narrow[0] = narrow[0] + a.load_u8_as_i32(k, 8)
        return b.tree_sum(wide[0]) + b.tree_sum(narrow[0])

    def _step(self, state: list[Value], step: Value, index: int) -> None:
        """``index`` is the step's place in the unrolled loop."""
        tile = self.tile
        groups = self._weights(step)
        for i, weights in enumerate(groups):
            base = (index * len(groups) + i) % self.chains * self.outputs
            for row, pointer in enumerate(self.row_pointers):
                a = self.dot.broadcast(pointer.load_i32(step * tile.group + 4 * i, 0))
                for v, w in enumerate(weights):
                    place = base + row * tile.vectors + v
                    state[place] = self.dot.add(state[place], a, w)

    def _weights(self, step: Value) -> list[list[Operand]]:
        """Per four K of the step, per vector, the weights."""
        vectors = self.tile.vectors
        words = self.dot.words
        start = self.panel + step * (64 * vectors * words)
        loaded = [
            tuple(start.load_i32(64 * (vectors * word + v)) for word in range(words))
            for v in range(vectors)
        ]
        if self.tile.source != "u4":
            return [[self.dot.weight(w) for w in loaded]]
        low = [self.dot.weight((w[0] & LOW_NIBBLES,)) for w in loaded]
        high = [self.dot.weight((w[0].shift_right_logical(4) & LOW_NIBBLES,)) for w in loaded]
        return [low, high]

    def _store(self, state: list[Value]) -> None:
        tile = self.tile
        for i in range(self.outputs):
            total = state[i]
            for chain in range(1, self.chains):
                total = total + state[chain * self.outputs + i]
            row, vector = divmod(i, tile.vectors)
            self.b.pointer("sums").store(total, row * self.b.isa.panel * 4 + vector * 64)


def emit_expand(module: Any, isa: Isa) -> Any:
    """``f(packed, zero_points, channels, steps, out)``: a ``u4`` panel as an int8 panel.

    The result is ``w - zero point``. ``steps`` of 8 K; ``channels`` is a multiple of 16; ``out``
    int8 [2 * steps][channels][4].
    """
    name = f"expand_u4__{isa.name}"
    if function := find_function(module, name):
        return function
    parameters = {"packed": "ptr", "zero_points": "ptr", "channels": "i64", "steps": "i64"}
    parameters |= {"out": "noalias"}
    b = Builder.function(module, isa, name, internal=True, **parameters)
    row = b.value("channels") * 4
    with b.loop(0, b.value("channels"), LANES) as channel:
        zero_points = b.pointer("zero_points").load_u8_as_i32(channel)
        zero_bytes = zero_points | zero_points << 8
        zero_bytes = (zero_bytes | zero_bytes << 16).bitcast("i8", 64)
        cursor = [b.pointer("packed") + channel * 4, b.pointer("out") + channel * 4]
        with b.loop(0, b.value("steps"), carry=cursor):
            words = cursor[0].load_i32()
            low = (words & LOW_NIBBLES).bitcast("i8", 64)
            high = (words.shift_right_logical(4) & LOW_NIBBLES).bitcast("i8", 64)
            cursor[1].store(low - zero_bytes)
            cursor[1].store(high - zero_bytes, row)
            cursor[:] = [cursor[0] + row, cursor[1] + row * 2]
    return b.ret()
