"""The compiled kernel of one layer, as deployed, whose constants are given anew with each call.

A layer's kernel is chosen, emitted and cached as in a deployment. Its constants (packed weights,
addends, multipliers) lie in one block of memory, whose layout depends on nothing but shapes: a
training step packs the present weights into such a block and runs the code on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr, f32
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, Block, Region

from uqfc.cache import Cache
from uqfc.codegen.batch import BatchCode, aligned_bytes
from uqfc.codegen.isa import isa_for
from uqfc.codegen.jit import compile_objects
from uqfc.codegen.lowering import choose
from uqfc.codegen.lowering.integer_layers import layer_kernel
from uqfc.codegen.lowering.registry import operand_index
from uqfc.codegen.module import emit_module
from uqfc.dialects import nn
from uqfc.dialects.qkernel import LaunchOp, yielded
from uqfc.dialects.qnn import Epilogue, IntegerLayerOp, QConv2dOp, QLinearOp
from uqfc.dialects.tensors import i8, i16, numpy_dtype, shape_of, tensor_type, ui4, ui8
from uqfc.numerics import F32, I32
from uqfc.packing import Storage
from uqfc.pipeline import kernel_passes, run_passes
from uqfc.qat.packing_order import PackingOrder
from uqfc.targets import load_target

U8 = NDArray[np.uint8]
ELEMENTS: dict[Storage, Attribute] = {"s8": i8, "u4": ui4, "s16": i16}
FARTHEST: dict[Storage, int] = {"s8": -128, "u4": 15, "s16": -255}
"""Weights as far from a zero point of 0 as any are from theirs."""


@dataclass(frozen=True)
class Geometry:
    """What a layer's code depends on, beside the target.

    ``x`` is the shape of one image's input, [1, H, W, C] or [1, K]; ``weight`` [O, kh, kw,
    C / groups] or [O, K]; ``padding`` (top, left, bottom, right).
    """

    x: tuple[int, ...]
    weight: tuple[int, ...]
    storage: Storage
    x_zero_point: int
    strides: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0, 0, 0)
    dilations: tuple[int, ...] = (1, 1)
    groups: int = 1


class LayerCode:
    """Code for one geometry and target; ``name`` is that of its kernel."""

    def __init__(self, geometry: Geometry, target: str, cache: Cache | None) -> None:
        isa = isa_for(load_target(target))
        module, result_shape = layer_module(geometry)
        run_passes(module, kernel_passes(target))
        launch, layer = layer_launch(module)
        self._kernel = layer_kernel(launch, layer, isa)
        self._order = PackingOrder(self._kernel.pack, geometry.weight, geometry.storage)
        self.name = choose(launch, isa).name
        self.result_shape = result_shape
        """Of one image."""
        compiled = emit_module(module, 1, isa)
        constants = (layer.weight, layer.addend, layer.multiplier)
        self._places = [compiled.offsets[launch, operand_index(value)] for value in constants]
        self._bytes = len(compiled.weights)
        objects = compile_objects(compiled.module, isa, cache)
        sizes = [prod(geometry.x)], [4 * prod(result_shape)]
        self._code = BatchCode(objects, isa, *sizes, compiled.arena_bytes)

    def pack(self, weight: I32, zero_points: I32, addend: I32, multiplier: F32) -> U8:
        """The block of constants: integers shaped like the geometry's weight, and three of [O].

        ``zero_points`` are 0 unless the storage is ``u4``.
        """
        pad = self._kernel.pad
        parts = [self._order.pack(weight, zero_points), pad(addend), pad(multiplier)]
        block = aligned_bytes(self._bytes)
        for place, part in zip(self._places, parts, strict=True):
            data = np.ascontiguousarray(part).reshape(-1).view(np.uint8)
            block[place : place + data.size] = data
        return block

    def run(self, x: int, block: U8, out: int, count: int, threads: int = 1) -> None:
        """Compute ``count`` images from the address ``x`` (ui8) to ``out`` (float32), both dense.

        The result is ``f32(sum + addend) * multiplier``. Releases the GIL.
        """
        self._code.run([x, out], block.ctypes.data, count, threads)


@lru_cache(maxsize=1024)
def layer_code(geometry: Geometry, target: str) -> LayerCode:
    """The code, made once in this process; kernels come from the cache on disk where they can."""
    return LayerCode(geometry, target, Cache())


def layer_module(geometry: Geometry) -> tuple[ModuleOp, tuple[int, ...]]:
    """An integer network of the layer alone, and the shape of its result."""
    channels, element = geometry.weight[0], ELEMENTS[geometry.storage]
    farthest = FARTHEST[geometry.storage]
    # No two constants are equal, so that each gets a place of its own in the block. What
    # the code proves of these weights holds for all.
    constants = [
        nn.ConstantOp(np.full(geometry.weight, farthest, numpy_dtype(element)), element),
        nn.ConstantOp(np.zeros(channels, np.int32)),
        nn.ConstantOp(np.arange(1, channels + 1, dtype=np.int32)),
        nn.ConstantOp(np.full(channels, 0.5, np.float32)),
    ]
    block = Block(constants, arg_types=[tensor_type(geometry.x, ui8)])
    operands = [block.args[0], *constants]
    epilogue, zero_point = Epilogue(), geometry.x_zero_point
    layer: IntegerLayerOp
    if len(geometry.weight) == 2:
        layer = QLinearOp(operands, None, x_zero_point=zero_point, epilogue=epilogue, element=f32)
    else:
        layer = QConv2dOp(
            operands,
            None,
            strides=geometry.strides,
            padding=geometry.padding,
            dilations=geometry.dilations,
            groups=geometry.groups,
            x_zero_point=zero_point,
            epilogue=epilogue,
            element=f32,
        )
    block.add_ops([layer, ReturnOp(layer.result)])
    function = FuncOp("main", ([block.args[0].type], [layer.result.type]), Region(block))
    for key, name in (("input_names", "x"), ("output_names", "y")):
        function.attributes[key] = ArrayAttr([StringAttr(name)])
    return ModuleOp([function]), shape_of(layer.result)


def layer_launch(module: ModuleOp) -> tuple[LaunchOp, IntegerLayerOp]:
    """The launch of the layer; another one may copy its input."""
    for launch in module.walk():
        if isinstance(launch, LaunchOp):
            layer = yielded(launch.body).owner
            if isinstance(layer, IntegerLayerOp):
                return launch, layer
    raise ValueError("no launch computes the layer")
