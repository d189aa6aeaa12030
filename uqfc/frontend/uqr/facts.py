"""What the graph of an ONNX model says about quantization: one fact for every tensor of integers.

A fact belongs to the op that the integers are made for: weights to the op that reads them,
activations to the op that computes them, which is the layer where only its bias, residual and
activation lie between. A second fact of the same kind belongs to its own cast.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from onnx import NodeProto, TensorProto

from uqfc.dialects.tensors import Array, Shape
from uqfc.errors import ModelError
from uqfc.frontend.loading import LoadedModel
from uqfc.frontend.tensors import read_tensor
from uqfc.frontend.values import UnsupportedUseError

Role: TypeAlias = Literal["weight_quant", "activation_quant"]

STORAGES: dict[int, str] = {
    TensorProto.INT8: "i8",
    TensorProto.UINT8: "u8",
    TensorProto.INT4: "i4",
    TensorProto.UINT4: "u4",
    TensorProto.INT2: "i2",
    TensorProto.UINT2: "u2",
    TensorProto.FLOAT8E4M3FN: "f8E4M3FN",
    TensorProto.FLOAT8E5M2: "f8E5M2",
}
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
EPILOGUE = ("Add", "Clip", "HardSigmoid", "HardSwish", "LeakyRelu", "Relu")
"""What becomes a part of the layer before it."""


@dataclass(frozen=True, eq=False)
class Fact:
    """How one tensor of integers is quantized. ``shape`` and ``values`` are those of weights."""

    role: Role
    op: str
    kind: str
    tensor: str
    storage: str
    scale: Array
    zero_point: Array
    axis: int
    block: int
    shape: Shape | None = None
    values: TensorProto | None = None

    @property
    def granularity(self) -> str:
        if self.block:
            return "per_block"
        if self.scale.ndim == 0:
            return "per_tensor"
        size = None if self.shape is None else self.shape[self.axis]
        return "per_channel" if self.scale.size > 1 or size == 1 else "per_tensor"


class Gatherer:
    """Goes through the nodes once, in order."""

    def __init__(self, model: LoadedModel) -> None:
        self.nodes = list(zip(model.nodes, model.layers, strict=True))
        self.constants = dict(model.initializers)
        for node in model.nodes:
            for attribute in node.attribute:
                if node.op_type == "Constant" and attribute.name == "value":
                    self.constants[node.output[0]] = attribute.t
        self.producers = {o: (n, name) for n, name in self.nodes for o in n.output}
        self.consumers: dict[str, list[tuple[NodeProto, str]]] = {}
        for node, name in self.nodes:
            for value in node.input:
                self.consumers.setdefault(value, []).append((node, name))
        self.described: set[str] = set()
        self.taken: set[tuple[str, Role]] = set()

    def facts(self) -> Iterator[Fact]:
        for node, name in self.nodes:
            is_quantize = node.op_type == "QuantizeLinear"
            if not is_quantize and node.op_type != "DequantizeLinear":
                continue
            tensor = node.output[0] if is_quantize else node.input[0]
            if tensor in self.described or (is_quantize and node.input[0] in self.constants):
                continue
            fact = self.fact(node, name, tensor)
            if fact is not None:
                self.described.add(tensor)
                self.taken.add((fact.op, fact.role))
                yield fact

    def fact(self, node: NodeProto, name: str, tensor: str) -> Fact | None:
        """None where the scale is known at run time only, or the integers are no quantized type."""
        values = self.constants.get(tensor) if node.op_type == "DequantizeLinear" else None
        scale, zero = self.array(node, 1), self.array(node, 2)
        storage = self.storage(node, values)
        if scale is None or scale.dtype.kind != "f" or storage is None:
            return None
        role: Role = "activation_quant" if values is None else "weight_quant"
        op, kind = (name, node.op_type)
        owner = self.owner(node, tensor) if values is None else self.reader(node)
        if owner is not None and (owner[1], role) not in self.taken:
            op, kind = owner[1], owner[0].op_type
        numbers = {a.name: a.i for a in node.attribute}
        shape = None if values is None else tuple(values.dims)
        zeros = np.zeros((), np.int32) if zero is None else zero
        if zero is not None and zero.dtype.kind not in "iu":
            raise ModelError(f"{node.op_type} '{name}': the zero point is no integer")
        if zeros.size not in (1, scale.size):
            sizes = f"{scale.size} scales, but {zeros.size} zero points"
            raise ModelError(f"{node.op_type} '{name}': {sizes}")
        rank = scale.ndim if shape is None else len(shape)
        axis = numbers.get("axis", 1)
        axis = axis + rank if axis < 0 else axis
        if shape is not None and scale.ndim and not 0 <= axis < len(shape):
            raise ModelError(f"{node.op_type} '{name}': axis {axis} is outside rank {len(shape)}")
        block = numbers.get("block_size", 0)
        zeros = zeros.astype(np.int32)
        return Fact(role, op, kind, tensor, storage, scale, zeros, axis, block, shape, values)

    def array(self, node: NodeProto, index: int) -> Array | None:
        """A constant input's value; None if it is absent, or not a constant."""
        tensor = self.constants.get(node.input[index]) if index < len(node.input) else None
        if tensor is None:
            return None
        try:
            return read_tensor(tensor, f"{node.op_type}: input {index}").array
        except UnsupportedUseError:
            return None

    def storage(self, node: NodeProto, values: TensorProto | None) -> str | None:
        if values is not None:
            return STORAGES.get(values.data_type)
        zero = self.constants.get(node.input[2]) if len(node.input) > 2 else None
        if zero is not None:
            return STORAGES.get(zero.data_type)
        given = next((a.i for a in node.attribute if a.name == "output_dtype"), TensorProto.UINT8)
        return STORAGES.get(given) if node.op_type == "QuantizeLinear" else None

    def reader(self, node: NodeProto) -> tuple[NodeProto, str] | None:
        """The op that first reads a cast's result."""
        readers = self.consumers.get(node.output[0], [])
        return readers[0] if readers else None

    def owner(self, node: NodeProto, tensor: str) -> tuple[NodeProto, str] | None:
        """The op that computes what is quantized, or that moved integers."""
        is_quantize = node.op_type == "QuantizeLinear"
        found = self.producers.get(node.input[0] if is_quantize else tensor)
        return None if found is None else self.layer_of(found)

    def layer_of(self, found: tuple[NodeProto, str]) -> tuple[NodeProto, str]:
        """The layer that ``found`` is the last part of, or ``found`` itself."""
        node = found[0]
        while node.op_type in EPILOGUE:
            before = [self.producers[v] for v in node.input if v in self.producers]
            before = [p for p in before if p[0].op_type in (*EPILOGUE, *LAYERS)]
            before = [p for p in before if len(self.consumers[p[0].output[0]]) == 1]
            if len(before) != 1:
                return found
            if before[0][0].op_type in LAYERS:
                return before[0]
            node = before[0][0]
        return found


def facts_of(model: LoadedModel, source: str) -> list[Fact]:
    """All facts in the order of the casts. ModelError for a cast that is inconsistent."""
    try:
        return list(Gatherer(model).facts())
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from None
