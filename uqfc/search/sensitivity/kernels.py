"""Compiled kernels whose constants can be replaced: one network, many weights, compiled once.

The code of a network depends on sizes and on quantize points, hardly on the weights themselves:
these are constants that the kernels read. ``assemble`` lowers a network so that each constant has
a place of its own; networks with the same code then differ in the bytes of ``Assembled.constants``
alone, and ``Runner`` runs any of them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import ModuleOp, UnitAttr

from uqfc.cache import Cache
from uqfc.codegen.isa import Isa, isa_for
from uqfc.codegen.jit import compile_objects, load
from uqfc.codegen.module import RUN, emit_module
from uqfc.dialects.nn import layer_name
from uqfc.dialects.qkernel import ALIGNMENT
from uqfc.dialects.qnn import IntegerLayerOp
from uqfc.dialects.tensors import Array, numpy_dtype, type_of
from uqfc.interpreter import input_names, main_function
from uqfc.passes.support.quantizable import LAYERS
from uqfc.pipeline import kernel_passes, run_passes
from uqfc.targets import load_target
from uqfc_runtime.binding import aligned_bytes

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Assembled:
    """Kernels and constants of a network on this machine.

    ``code``: what calls the kernels, whose names say what they compute, as text.
    ``places``: which bytes of ``constants`` a layer's kernels read, by the layer's name.
    """

    code: str = field(repr=False)
    module: Any = field(repr=False)
    isa: Isa
    constants: Bytes = field(repr=False)
    places: Mapping[str, tuple[slice, ...]] = field(repr=False)
    arena_bytes: int
    outputs: tuple[tuple[tuple[int, ...], np.dtype[Any]], ...]
    inputs: tuple[str, ...]

    def fits(self, base: Assembled) -> bool:
        """Whether the code of ``base`` runs this network, given these constants."""
        return (self.code, self.places, len(self.constants)) == (
            base.code,
            base.places,
            len(base.constants),
        )

    def differs_in_layers_only(self, other: Assembled) -> bool:
        """Whether all constants but those of layers are the same."""
        mine, theirs = self.constants.copy(), other.constants.copy()
        for place in [place for places in self.places.values() for place in places]:
            mine[place] = theirs[place] = 0
        return np.array_equal(mine, theirs)

    def of_layer(self, layer: str) -> list[Bytes]:
        """The bytes of a layer's constants."""
        return [self.constants[place] for place in self.places[layer]]


def assemble(network: ModuleOp, target: str = "host") -> Assembled:
    """Lower an integer (or float) network to kernels of this machine; constants are not shared.

    Kernels rely on no addend or multiplier, but on narrow weights being small.
    """
    function = main_function(network)
    names = input_names(function)
    last = function.body.block.last_op
    assert last is not None
    results = [type_of(value) for value in last.operands]
    kernels, isa = network.clone(), isa_for(load_target(target))
    for op in kernels.walk():
        if isinstance(op, IntegerLayerOp):
            op.properties["replaceable"] = UnitAttr()
    run_passes(kernels, kernel_passes(target))
    compiled = emit_module(kernels, len(names), isa, shared=False)
    constants = np.frombuffer(compiled.weights, np.uint8)
    starts = [*sorted(compiled.offsets.values()), len(constants)]
    ends = dict(pairwise(starts))
    places: dict[str, tuple[slice, ...]] = {}
    for (launch, _), offset in compiled.offsets.items():
        for op in launch.meaning:
            if isinstance(op, (IntegerLayerOp, *LAYERS)) and layer_name(op):
                where = (*places.get(layer_name(op), ()), slice(offset, ends[offset]))
                places[layer_name(op)] = where
    return Assembled(
        compiled.module.functions[RUN],
        compiled.module,
        isa,
        constants,
        places,
        compiled.arena_bytes,
        tuple((tuple(r.get_shape()), numpy_dtype(r.get_element_type())) for r in results),
        names,
    )


class Runner:
    """Runs the code of ``base`` with constants that ``set`` replaces. Not for many threads."""

    def __init__(self, base: Assembled, cache: Cache | None = None) -> None:
        self.base = base
        parameters = [*["ptr"] * 4, "i64", "i64", "ptr"]
        code = load(compile_objects(base.module, base.isa, cache), [RUN])
        self._run = code.function(RUN, *parameters)
        self.constants = aligned_bytes(len(base.constants) + ALIGNMENT, ALIGNMENT)
        self.constants[:] = 0
        self.constants[: len(base.constants)] = base.constants
        self._arena = aligned_bytes(max(base.arena_bytes, 1), ALIGNMENT)

    def set(self, layer: str, values: Sequence[Bytes]) -> None:
        """Replace the bytes of a layer's constants."""
        for place, value in zip(self.base.places[layer], values, strict=True):
            self.constants[place] = value

    def run(self, samples: Iterable[Mapping[str, Array]]) -> list[Array]:
        """Every output of all samples: [samples, *shape] each."""
        collected: list[list[Array]] = [[] for _ in self.base.outputs]
        for sample in samples:
            arrays = [np.ascontiguousarray(sample[name]) for name in self.base.inputs]
            results = [np.empty(shape, dtype) for shape, dtype in self.base.outputs]
            self._call(arrays, results)
            for into, result in zip(collected, results, strict=True):
                into.append(result)
        return [np.stack(each) for each in collected]

    def _call(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        ins = (ctypes.c_void_p * len(inputs))(*[a.ctypes.data for a in inputs])
        outs = (ctypes.c_void_p * len(outputs))(*[a.ctypes.data for a in outputs])
        arena, constants = self._arena.ctypes.data, self.constants.ctypes.data
        self._run(ins, outs, arena, constants, 0, 1, None)
