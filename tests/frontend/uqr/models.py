"""UQR models for tests, and their documents changed at will."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import onnx
from xdsl.dialects.builtin import ModuleOp

from tests.networks import NetworkBuilder, named, quantized
from uqfc.dialects import nn
from uqfc.frontend.uqr import write_uqr
from uqfc.frontend.uqr.meaning import KEY

Change = Callable[[dict[str, Any]], object]
FIRST, SECOND, INPUT = "layer1", "layer2", "input0/QuantizeLinear"


def module(strategy: str = "int4") -> ModuleOp:
    """``layer1`` (Conv, 3 channels, HardSwish) and ``layer2`` (Gemm, 5 outputs)."""
    b = NetworkBuilder([(1, 4, 4, 2)])
    weight, bias = b.weights("plain", 3, 3, 3, 2), b.constant(np.array([0.5, -0.5, 0.0]))
    conv = nn.Conv2dOp(b.block.args[0], weight, bias, activation=nn.fn("hard_swish"))
    flat = b.add(nn.ReshapeOp(b.layer(conv), (1, 12)))
    return quantized(named(b.module([b.linear(flat, 5)])), strategy)


@cache
def model(strategy: str = "int4") -> bytes:
    return write_uqr(module(strategy))


def text(data: bytes) -> str:
    """The document of a model."""
    (found,) = [p.value for p in onnx.load_from_string(data).metadata_props if p.key == KEY]
    return found


def document(strategy: str = "int4") -> dict[str, Any]:
    return json.loads(text(model(strategy)))


def entry(content: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [op for op in content["ops"] if op["name"] == name]
    return found


def with_text(data: bytes, replacement: str) -> bytes:
    """The model with another document."""
    proto = onnx.load_from_string(data)
    (held,) = [p for p in proto.metadata_props if p.key == KEY]
    held.value = replacement
    return proto.SerializeToString()


def changed(change: Change, strategy: str = "int4") -> bytes:
    content = document(strategy)
    change(content)
    return with_text(model(strategy), json.dumps(content))


def of(name: str, part: str, **fields: Any) -> Change:
    """Sets fields of a part of an op's entry."""
    return lambda content: entry(content, name)[part].update(fields)


def without(name: str, part: str, *fields: str) -> Change:
    """Removes fields of a part of an op's entry, or the part."""

    def change(content: dict[str, Any]) -> None:
        held = entry(content, name)
        for field in fields:
            del held[part][field]
        if not fields:
            del held[part]

    return change
