"""Arguments of sliding windows."""

from __future__ import annotations

from uqfc.errors import ModelError
from uqfc.frontend.torch.call import Call


def per_axis(call: Call, name: str, spatial: int) -> list[int]:
    """An argument of one value per spatial axis, or of one value for all."""
    values = call.ints(name)
    if len(values) not in (1, spatial):
        raise ModelError(f"argument '{name}' is {values}, expected {spatial} values")
    return values * spatial if len(values) == 1 else values
