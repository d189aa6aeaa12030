"""Ops that move or select elements, or do nothing: sizes are static."""

from __future__ import annotations

from uqfc.frontend.builder import Builder
from uqfc.frontend.onnx_ops.movement import reshaped
from uqfc.frontend.torch.call import Call
from uqfc.frontend.torch.registry import converter
from uqfc.frontend.values import UnsupportedUseError, Value, dims


@converter("alias", "clone", "contiguous", "detach", "lift_fresh_copy", moves=True)
def identity(call: Call, b: Builder) -> Value:
    call.ignore("memory_format")
    return call.value("self")


@converter("dropout", "alpha_dropout", "feature_dropout", moves=True)
def dropout(call: Call, b: Builder) -> Value:
    call.ignore("p")
    if call.flag("train"):
        raise UnsupportedUseError("training is on: export the module in eval mode")
    return call.value("input")


@converter("view", "_unsafe_view", "reshape", moves=True)
def view(call: Call, b: Builder) -> Value:
    x, size = call.value("self"), call.ints("shape" if call.given("shape") else "size")
    return b.reshape(x, reshaped(dims(x), size, True))
