"""Exact sizes: which constants of an artifact come from which layer's type.

``pack-weights`` stores a layer's constants by its own type alone, each aligned to 64 bytes, and
equal ones once (``uqfc.codegen.module.Blob``). So it is enough to compile each type once, wherever
it may be, and to look where the constants of each layer are. Constants that several layers share
count once where some layer needs them whatever its type; else for each of these layers, which is
then too much by what they share.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TypeAlias

from xdsl.ir import Operation

from uqfc.dialects.nn import layer_name
from uqfc.dialects.qkernel import ALIGNMENT, LaunchOp, yielded
from uqfc.model import CompiledModel
from uqfc.search.costs import CostModel
from uqfc.search.space import SearchSpace

Constants: TypeAlias = dict[bytes, int]
"""Bytes of each constant, by its digest."""


def constants_by_layer(model: CompiledModel) -> dict[str, Constants]:
    """Constants of the kernels of each layer; under "" those of kernels without a name."""
    compiled = model.lowered.compiled
    starts = sorted({0, *compiled.offsets.values()})
    ends = [*starts[1:], len(compiled.weights) - ALIGNMENT]
    parts = {a: compiled.weights[a:b] for a, b in zip(starts, ends, strict=True)}
    found: dict[str, Constants] = {}
    for (launch, _), offset in compiled.offsets.items():
        content = parts[offset]
        digest = hashlib.sha256(content).digest()
        found.setdefault(name_of(launch), {})[digest] = len(content)
    return found


def name_of(launch: LaunchOp) -> str:
    """The layer that a kernel computes."""
    op = yielded(launch.body).owner
    assert isinstance(op, Operation)
    return layer_name(launch) or layer_name(op)


def size_model(space: SearchSpace, uniform: Mapping[str, Mapping[str, Constants]]) -> CostModel:
    """Bytes of all constants of a configuration. ``uniform``: by type, ``constants_by_layer`` of
    the network that has it wherever the space allows it, and the widest type elsewhere."""
    own = {
        (layer, dtype): uniform[dtype].get(layer, {})
        for layer, choices in zip(space.layers, space.choices, strict=True)
        for dtype in choices
    }
    always: Constants = {}
    for layer, constants in next(iter(uniform.values())).items():
        if layer not in space.layers:
            always |= constants
    for layer, choices in zip(space.layers, space.choices, strict=True):
        first, rest = own[layer, choices[0]], choices[1:]
        always |= {
            digest: size
            for digest, size in first.items()
            if all(digest in own[layer, dtype] for dtype in rest)
        }
    terms = {
        key: float(sum(size for digest, size in constants.items() if digest not in always))
        for key, constants in own.items()
    }
    return CostModel.of(space, terms, constant=float(sum(always.values()) + ALIGNMENT))
