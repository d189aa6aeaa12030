"""One ONNX node as a converter sees it: resolved inputs and typed, accounted-for attributes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import AttributeProto, NodeProto, TensorProto
from xdsl.dialects.builtin import f32

from uqfc.dialects.tensors import Array
from uqfc.errors import ModelError
from uqfc.frontend.values import UnsupportedUseError, Value, kind, known

TYPE_NAMES: dict[int, str] = {v: k.lower() for k, v in AttributeProto.AttributeType.items()}


@dataclass(frozen=True)
class Meant:
    """Least and largest integer of a cast's tensor; the storage, if it is not the file's."""

    limits: tuple[int, int]
    storage: str | None = None


class Node:
    """A node with its inputs; ``version`` is the opset of its domain.

    ``meant`` is what a UQR document says of the integers of a QuantizeLinear or DequantizeLinear.

    Every attribute must be read or ``ignore``d: one that a converter does not know of is an error,
    because it would change what the node computes.
    """

    def __init__(
        self,
        proto: NodeProto,
        layer: str,
        version: int,
        inputs: Sequence[Value | None],
        used: Sequence[bool],
        meant: Meant | None = None,
    ) -> None:
        self.op = proto.op_type
        self.layer = layer
        self.version = version
        self.inputs = tuple(inputs)
        self.used = tuple(used)
        self.meant = meant
        self._attributes = {a.name: a for a in proto.attribute}
        self._unread = set(self._attributes)

    # --- inputs and outputs -----------------------------------------------------------------

    def has(self, index: int) -> bool:
        """Whether input ``index`` is given."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def optional(self, index: int) -> Value | None:
        return self.inputs[index] if index < len(self.inputs) else None

    def input(self, index: int) -> Value:
        """Input ``index``; ModelError if it is not given."""
        value = self.optional(index)
        if value is None:
            raise ModelError(f"input {index} is missing")
        return value

    def float_in(self, index: int) -> Value:
        """Input ``index``; UnsupportedUseError if it is not float32."""
        value = self.input(index)
        if kind(value) != f32:
            raise UnsupportedUseError(f"input {index} has elements {kind(value)}, expected floats")
        return value

    def floats_in(self, *indices: int) -> list[Value]:
        """``float_in`` of each."""
        return [self.float_in(i) for i in indices]

    def all_inputs(self) -> list[Value]:
        """The inputs of a variadic op; ModelError if there is none or a hole."""
        return [self.input(i) for i in range(max(1, len(self.inputs)))]

    def array(self, index: int, what: str) -> Array:
        """Input ``index`` as an array; UnsupportedUseError if it is not a constant."""
        value = known(self.input(index))
        if value is None:
            raise UnsupportedUseError(f"input {index} ({what}) must be a constant")
        return value

    def optional_array(self, index: int, what: str) -> Array | None:
        """``array``, or None if the input is not given."""
        return self.array(index, what) if self.has(index) else None

    def int_list(self, index: int, what: str) -> list[int]:
        """Input ``index``, a constant of rank 0 or 1, as integers."""
        return [int(v) for v in self.array(index, what).reshape(-1)]

    def needs_only_output(self, count: int = 1) -> None:
        """UnsupportedUseError if an output after the first ``count`` is used."""
        if any(self.used[count:]):
            raise UnsupportedUseError(f"only the first {count} output(s) can be used")

    # --- attributes -------------------------------------------------------------------------

    def _read(self, name: str, attribute_type: int) -> AttributeProto | None:
        attribute = self._attributes.get(name)
        if attribute is None:
            return None
        self._unread.discard(name)
        if attribute.type != attribute_type:
            raise ModelError(
                f"attribute '{name}' is of type {TYPE_NAMES[attribute.type]}, "
                f"expected {TYPE_NAMES[attribute_type]}"
            )
        return attribute

    def given(self, name: str) -> bool:
        """Whether the attribute is there."""
        return name in self._attributes

    def integer(self, name: str, default: int) -> int:
        attribute = self._read(name, AttributeProto.INT)
        return default if attribute is None else attribute.i

    def flag(self, name: str, default: bool = False) -> bool:
        return bool(self.integer(name, default))

    def real(self, name: str, default: float) -> float:
        attribute = self._read(name, AttributeProto.FLOAT)
        return default if attribute is None else attribute.f

    def ints(self, name: str) -> list[int] | None:
        attribute = self._read(name, AttributeProto.INTS)
        return None if attribute is None else list(attribute.ints)

    def floats(self, name: str) -> list[float] | None:
        attribute = self._read(name, AttributeProto.FLOATS)
        return None if attribute is None else list(attribute.floats)

    def tensor(self, name: str) -> TensorProto | None:
        attribute = self._read(name, AttributeProto.TENSOR)
        return None if attribute is None else attribute.t

    def choice(self, name: str, default: str, accepted: Sequence[str]) -> str:
        """A string attribute; UnsupportedUseError if it is none of ``accepted``."""
        attribute = self._read(name, AttributeProto.STRING)
        value = default if attribute is None else attribute.s.decode("utf-8", "replace")
        if value not in accepted:
            known_values = ", ".join(accepted)
            raise UnsupportedUseError(f"attribute '{name}' is '{value}', supported: {known_values}")
        return value

    def must_be(self, name: str, value: int, default: int) -> None:
        """UnsupportedUseError if the integer attribute has another value."""
        actual = self.integer(name, default)
        if actual != value:
            raise UnsupportedUseError(f"attribute '{name}' is {actual}, supported: {value}")

    def ignore(self, *names: str) -> None:
        """These attributes do not matter for inference."""
        self._unread.difference_update(names)

    def check_all_read(self) -> None:
        """UnsupportedUseError if an attribute was neither read nor ignored."""
        if self._unread:
            raise UnsupportedUseError(f"attribute '{min(self._unread)}' is not known")

    def axes(self, name: str, index: int) -> list[int] | None:
        """Axes given as attribute ``name`` or, in newer opsets, as input ``index``."""
        if self.given(name):
            return self.ints(name)
        return self.int_list(index, name) if self.has(index) else None


def as_float(array: Array) -> float:
    """The only element of an array; ModelError if there are several."""
    if array.size != 1:
        raise ModelError(f"expected a single value, got shape {list(array.shape)}")
    return float(np.asarray(array).reshape(-1)[0])
