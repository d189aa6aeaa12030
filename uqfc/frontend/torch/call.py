"""One call of an ATen op as a converter sees it: resolved, typed, accounted-for arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xdsl.dialects.builtin import f32
from xdsl.ir import Attribute, SSAValue

from uqfc.errors import ModelError
from uqfc.frontend.values import (
    Constant,
    Quantized,
    UnsupportedUseError,
    Value,
    kind,
    scalar,
)


class Call:
    """A call with its arguments by their names in the op's schema.

    ``element`` is the element type of the (first) result. Every argument must be read or
    ``ignore``d unless it has its default: one that a converter does not know of is an error,
    because it would change what the call computes.
    """

    def __init__(
        self,
        op: str,
        layer: str,
        arguments: Mapping[str, Any],
        defaults: Mapping[str, Any],
        element: Attribute,
    ) -> None:
        self.op = op
        self.layer = layer
        self.element = element
        self._arguments = {**defaults, **arguments}
        self._unread = {
            name
            for name, value in arguments.items()
            if value is not None and not (name in defaults and same(value, defaults[name]))
        }

    def given(self, name: str) -> bool:
        """Whether there is such an argument, and it is not None."""
        return self._arguments.get(name) is not None

    def get(self, name: str) -> Any:
        """The argument as it is, or None; counts as read."""
        self._unread.discard(name)
        return self._arguments.get(name)

    # --- tensors ----------------------------------------------------------------------------

    def value(self, name: str) -> Value:
        """A tensor."""
        value = self.get(name)
        if not isinstance(value, SSAValue | Constant | Quantized):
            raise UnsupportedUseError(f"argument '{name}' is {value!r}, expected a tensor")
        return value

    def optional(self, name: str) -> Value | None:
        return self.value(name) if self.given(name) else None

    def real_tensor(self, name: str) -> Value:
        """A tensor; UnsupportedUseError if it is not float32."""
        value = self.value(name)
        if kind(value) != f32:
            raise UnsupportedUseError(
                f"argument '{name}' has elements {kind(value)}, expected floats"
            )
        return value

    def optional_real(self, name: str) -> Value | None:
        return self.real_tensor(name) if self.given(name) else None

    def product(self) -> tuple[Value, Value, Value | None]:
        """Input, weight and bias, if there is one, of a layer."""
        x, weight = self.real_tensor("input"), self.real_tensor("weight")
        return x, weight, self.optional_real("bias")

    def operand(self, name: str, element: Attribute) -> Value:
        """A tensor, or a number as a constant of rank 0 and the given element type."""
        value = self._arguments.get(name)
        if isinstance(value, bool | int | float):
            return scalar(self.get(name), element)
        return self.value(name)

    def values(self, name: str) -> list[Value]:
        """A list of tensors; ModelError if it is empty."""
        found: list[Value] = list(self.get(name) or ())
        if not found:
            raise ModelError(f"argument '{name}' has no tensors")
        return found

    # --- numbers ----------------------------------------------------------------------------

    def integer(self, name: str) -> int:
        value = self.get(name)
        if not isinstance(value, int):
            raise UnsupportedUseError(f"argument '{name}' is {value!r}, expected an integer")
        return int(value)

    def real(self, name: str) -> float:
        value = self.get(name)
        if not isinstance(value, int | float):
            raise UnsupportedUseError(f"argument '{name}' is {value!r}, expected a number")
        return float(value)

    def flag(self, name: str) -> bool:
        return bool(self.get(name))

    def ints(self, name: str) -> list[int]:
        """A list of integers; a single one is a list, too, and None an empty one."""
        value = self.get(name)
        if value is None:
            return []
        parts: list[Any] = list(value) if isinstance(value, Sequence) else [value]
        if not all(isinstance(p, int) for p in parts):
            raise UnsupportedUseError(f"argument '{name}' is {value!r}, expected integers")
        return [int(p) for p in parts]

    def must_be(self, name: str, value: object) -> None:
        """UnsupportedUseError if the argument has another value."""
        actual = self.get(name)
        if actual != value:
            raise UnsupportedUseError(f"argument '{name}' is {actual!r}, supported: {value!r}")

    def ignore(self, *names: str) -> None:
        """These arguments do not matter for inference."""
        self._unread.difference_update(names)

    def check_all_read(self) -> None:
        """UnsupportedUseError if an argument was neither read nor ignored."""
        if self._unread:
            raise UnsupportedUseError(f"argument '{min(self._unread)}' is not known")


def same(value: object, default: object) -> bool:
    """Whether a plain argument has its default value; tensors never have."""
    if isinstance(value, SSAValue | Constant | Quantized):
        return False
    if isinstance(value, list | tuple) and isinstance(default, list | tuple):
        return list(value) == list(default)
    return value == default
