"""Kernels of ``qnn.conv2d`` and ``qnn.linear``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TypeAlias

import numpy as np
from xdsl.dialects.builtin import f32, i32
from xdsl.ir import SSAValue

from uqfc.codegen.builder import Builder
from uqfc.codegen.cost_model import conv_cycles, gemm_cycles
from uqfc.codegen.isa import Isa
from uqfc.codegen.isa.dot import SUMS_OF_PAIRS
from uqfc.codegen.kernels import (
    ConvDims,
    ConvSpec,
    DepthwiseSpec,
    Epilogue,
    GemmDims,
    GemmSpec,
    GemvSpec,
    Operands,
    Scalars,
    depthwise_spec,
)
from uqfc.codegen.kernels.amx_conv import AmxConvSpec
from uqfc.codegen.kernels.amx_gathered import AmxGatheredSpec
from uqfc.codegen.kernels.amx_gemm import AmxGemmSpec
from uqfc.codegen.kernels.choice import AnyConv, AnyGemm, conv_alternatives, gemm_alternatives
from uqfc.codegen.kernels.epilogue import Output
from uqfc.codegen.kernels.int16_sums import longest_run
from uqfc.codegen.kernels.product import Product
from uqfc.codegen.kernels.quantized_rows import QuantizedRows
from uqfc.codegen.lowering.constant_facts import STORAGES, known_of, weights_fit_int16
from uqfc.codegen.lowering.geometry import conv_dims
from uqfc.codegen.lowering.registry import (
    RESULT,
    Choice,
    choose,
    constant_operand,
    lowering,
    no_kernel,
    operand_index,
)
from uqfc.codegen.parts import Part
from uqfc.codegen.vector import Pointer
from uqfc.dialects.nn import TransposeOp
from uqfc.dialects.qkernel import LaunchOp, Packing, UnpackOp
from uqfc.dialects.qnn import IntegerLayerOp, QConv2dOp, QLinearOp, QuantizeOp
from uqfc.dialects.tensors import element_of, shape_of
from uqfc.packing import I32, U8

OUTPUTS: dict[object, Output] = {f32: "f32", i32: "i32"}

Spec: TypeAlias = AnyGemm | AnyConv | DepthwiseSpec


@dataclass(frozen=True)
class LayerKernel:
    """The spec of one layer with its sizes, which are of the kind that the spec takes.

    Types do not say so: where pyright is told to ignore an argument, this is why.
    """

    spec: Spec
    dims: GemmDims | ConvDims
    packing: Packing

    def pack(self, weight: I32, zero_points: I32) -> U8:
        """Bytes of the weights (any shape that starts with output channels)."""
        return self.spec.pack(self.dims, weight, zero_points)  # pyright: ignore[reportArgumentType]

    def pad(self, values: np.ndarray) -> np.ndarray:
        """A per-channel constant as the kernel reads it."""
        return self.spec.pad(self.dims, values)  # pyright: ignore[reportArgumentType]

    @property
    def scratch_bytes(self) -> int:
        return self.spec.scratch_bytes(self.dims)  # pyright: ignore[reportArgumentType]

    def pitched(self, launch: LaunchOp, op: IntegerLayerOp) -> LayerKernel:
        """The same kernel for operands and a result whose rows are apart."""
        if launch.pitches is None or isinstance(self.spec, DepthwiseSpec):
            return self
        out = launch.pitch(RESULT)
        if isinstance(self.dims, ConvDims):
            return replace(self, dims=replace(self.dims, pitch=out))
        lda = launch.pitch(operand_index(source_of(op))) or self.dims.lda
        ldr = launch.pitch(operand_index(op.residual)) if op.residual is not None else 0
        rows = replace(self.dims, lda=lda, ldc=out or self.dims.ldc, ldr=ldr or self.dims.ldr)
        return replace(self, dims=rows)

    def may_be_pitched(self, op: IntegerLayerOp) -> frozenset[int]:
        """Operands, and ``RESULT``, whose rows ``pitched`` is for."""
        match self.dims:
            case ConvDims():
                return frozenset() if isinstance(self.spec, DepthwiseSpec) else frozenset({RESULT})
            case GemmDims():
                operands = [source_of(op), *([] if op.residual is None else [op.residual])]
                return frozenset({RESULT, *map(operand_index, operands)})

    @property
    def estimate(self) -> float:
        """Cycles by the cost model; 0 where there is no alternative."""
        match self.spec, self.dims:
            case GemmSpec() | GemvSpec() | AmxGemmSpec() as spec, GemmDims() as dims:
                return gemm_cycles(spec, dims)
            case ConvSpec() | AmxConvSpec() | AmxGatheredSpec() as spec, ConvDims() as dims:
                return conv_cycles(spec, dims)
            case _:
                return 0.0

    @property
    def splits(self) -> bool:
        """Whether ``call`` can compute a part."""
        return self.spec.splits(self.dims)  # pyright: ignore[reportArgumentType]

    def int16_steps(self, launch: LaunchOp, op: IntegerLayerOp) -> int:
        """What the packed weights of a layer prove: see ``int16_sums.longest_run``."""
        match self.spec, self.dims:
            case GemmSpec() as spec, GemmDims() as dims:
                layout = spec.layout(dims)
            case ConvSpec() as spec, ConvDims() as dims:
                layout = spec.layout(dims)
            case _:
                return SUMS_OF_PAIRS
        packed = constant_operand(launch, op.weight)
        product = spec.product
        proves = isinstance(product, Product) and product.sums_in_int16
        if not proves or packed is None or not isinstance(op.weight.owner, UnpackOp):
            return SUMS_OF_PAIRS
        return longest_run(layout, *layout.unpack(packed))

    def call(self, b: Builder, operands: Operands, scalars: Scalars, part: Part | None) -> None:
        self.spec.call(b, operands, self.dims, scalars, part)  # pyright: ignore[reportArgumentType]


def epilogue_of(op: IntegerLayerOp) -> Epilogue:
    output: Output = OUTPUTS.get(element_of(op.result), "u8")
    activation = None if output == "i32" else op.epilogue.data.activation
    return Epilogue(output, activation, op.residual is not None)


def scalars_of(op: IntegerLayerOp) -> Scalars:
    e = op.epilogue.data
    return Scalars(
        low=float(e.qmin - e.zero_point),
        high=float(e.qmax - e.zero_point),
        zero_point=e.zero_point,
        residual_zero_point=e.residual_zero_point,
        residual_multiplier=e.residual_multiplier,
        reciprocal=e.reciprocal,
        pad_value=op.x_zero_point.value.data,
    )


def quantized_rows(op: QConv2dOp) -> QuantizedRows | None:
    """How the kernel quantizes its image, if its launch does: see ``form-kernels``."""
    quantize = op.x.owner
    if not isinstance(quantize, QuantizeOp):
        return None
    return QuantizedRows(
        shape_of(quantize.result)[-1],
        quantize.scale.value.data,
        quantize.zero_point.value.data,
        quantize.qmin.value.data,
        quantize.qmax.value.data,
    )


def source_of(op: IntegerLayerOp) -> SSAValue:
    """What the kernel reads as x: the float image if it quantizes it."""
    quantize = op.x.owner
    if not isinstance(quantize, QuantizeOp):
        return op.x
    transpose = quantize.x.owner
    assert isinstance(transpose, TransposeOp)
    return transpose.x


def layer_kernels(launch: LaunchOp, op: IntegerLayerOp, isa: Isa) -> list[LayerKernel]:
    """The kernels for a layer, whose names differ.

    Weights must be in canonical form (``canonicalize-weights``).
    """
    storage = STORAGES[element_of(op.weight)]
    epilogue = epilogue_of(op)
    if epilogue.output == "u8":
        addend, multiplier = (constant_operand(launch, v) for v in (op.addend, op.multiplier))
        epilogue = replace(epilogue, known=known_of(op, addend, multiplier))
    if isinstance(op, QConv2dOp):
        dims = conv_dims(op)
        if op.is_depthwise:
            fits = weights_fit_int16(launch, op, dims, storage)
            depthwise = depthwise_spec(isa, dims, storage, epilogue, fits_int16=fits)
            return [LayerKernel(depthwise, dims, Packing("depthwise", storage))]
        if not dims.is_product:
            source = quantized_rows(op)
            return [
                LayerKernel(spec, dims, conv_packing(spec, dims))
                for spec in conv_alternatives(isa, dims, storage, epilogue, source)
            ]
        product = dims.product
    else:
        n, k = shape_of(op.weight)
        product = GemmDims.dense(prod(shape_of(op.x)[:-1]), k, n)
    gemms = gemm_alternatives(isa, product, storage, epilogue)
    rest = storage, isa.panel
    return [
        LayerKernel(
            s, product, Packing("blocks" if isinstance(s, AmxGemmSpec) else "panels", *rest)
        )
        for s in gemms
    ]


def conv_packing(spec: AnyConv, dims: ConvDims) -> Packing:
    layout = spec.layout(dims)
    kind = "panels" if isinstance(spec, ConvSpec) else "blocks"
    return Packing(kind, layout.storage, layout.panel, layout.groups, layout.segments)


def layer_kernel(launch: LaunchOp, op: IntegerLayerOp, isa: Isa) -> LayerKernel:
    """The kernel that was selected for a layer, or else the fastest by the cost model."""
    name = choose(launch, isa).name
    kernels = layer_kernels(launch, op, isa)
    return next(kernel for kernel in kernels if kernel.spec.name == name)


@lowering(QConv2dOp, QLinearOp)
def integer_layer(launch: LaunchOp, op: IntegerLayerOp, isa: Isa) -> list[Choice]:
    if element_of(op.weight) not in STORAGES:
        raise no_kernel(launch, op.name, isa, f"weights of {element_of(op.weight)}")
    return [layer_choice(launch, op, kernel) for kernel in layer_kernels(launch, op, isa)]


def layer_choice(launch: LaunchOp, op: IntegerLayerOp, dense: LayerKernel) -> Choice:
    kernel, scalars = dense.pitched(launch, op), scalars_of(op)
    x, weight, addend, multiplier = (
        operand_index(v) for v in (source_of(op), op.weight, op.addend, op.multiplier)
    )
    residual = None if op.residual is None else operand_index(op.residual)

    def emit_call(
        b: Builder,
        inputs: Sequence[Pointer],
        out: Pointer,
        scratch: Pointer | None,
        part: Part | None,
    ) -> None:
        operands = Operands(
            inputs[x],
            inputs[weight],
            inputs[addend],
            inputs[multiplier],
            out,
            None if residual is None else inputs[residual],
            scratch,
        )
        steps = kernel.int16_steps(launch, op)
        kernel.call(b, operands, replace(scalars, int16_steps=steps), part)

    return Choice(
        kernel.spec.name,
        emit_call,
        kernel.scratch_bytes,
        kernel.splits,
        {addend: kernel.pad, multiplier: kernel.pad},
        repr(dense.dims),
        dense.estimate,
        dense.may_be_pitched(op),
    )
