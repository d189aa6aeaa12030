"""The ONNX graph that is being written: names, initializers, and the layout of every value.

Images are NHWC in the ``nn`` dialect and NCHW in ONNX. So a value of the IR may be several ONNX
tensors that hold it with its axes in different orders: its *layouts*. Axis ``k`` of a tensor in
layout ``l`` is axis ``l[k]`` of the value. A layout that an op needs and that is not there yet is
made by a Transpose; constants are transposed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from onnx import NodeProto, TensorProto, helper
from xdsl.dialects.builtin import f32, i64
from xdsl.ir import Attribute, Operation, SSAValue

from uqfc.dialects import nn
from uqfc.dialects.nn import layer_name
from uqfc.dialects.quant import STORAGE_ELEMENTS, QuantParams, block_grid
from uqfc.dialects.tensors import Array, shape_of
from uqfc.frontend.uqr.export.tensors import tensor
from uqfc.frontend.values import UnsupportedUseError

Layout: TypeAlias = tuple[int, ...]
LAYERS = (nn.Conv2dOp, nn.LinearOp)
IMAGE: Layout = (0, 3, 1, 2)
"""NCHW of an NHWC value, OIHW of OHWI weights."""


def identity(rank: int) -> Layout:
    return tuple(range(rank))


@dataclass(frozen=True, eq=False)
class Known:
    """A constant; with ``params`` the integers of a quantized one, ``real`` if dequantized."""

    array: Array
    element: Attribute
    params: QuantParams | None = None
    real: bool = False
    layer: str = ""


def arranged(params: QuantParams, shape: Sequence[int], layout: Layout) -> tuple[Array, Array, int]:
    """Scale and zero point as ONNX tensors, and the axis, of a tensor in this layout."""
    scale = np.asarray(params.scales, np.float32)
    zero = np.asarray(params.zero_points, np.int32)
    if params.axis is None:
        return scale.reshape(()), zero.reshape(()), 1
    axis = layout.index(params.axis)
    if not params.block:
        return scale, zero, axis
    grid = block_grid(tuple(shape), params.axis, params.block)
    return scale.reshape(grid).transpose(layout), zero.reshape(grid).transpose(layout), axis


class Graph:
    """Nodes and initializers so far, and which tensors hold each value of the IR."""

    def __init__(self, operations: Iterable[Operation], reserved: Iterable[str]) -> None:
        self.nodes: list[NodeProto] = []
        self.initializers: dict[str, TensorProto] = {}
        self.known: dict[SSAValue, Known] = {}
        self.results: dict[SSAValue, str] = {}
        """Values that are outputs of the graph, with the names that they must have."""
        self.limits: dict[str, tuple[int, int]] = {}
        """Least and largest integer of every quantized tensor."""
        self.storages: dict[str, str] = {}
        """Storage types of constants."""
        self.stored: dict[str, QuantParams] = {}
        """How the results of casts to integers are held."""
        self.dequantized: dict[str, tuple[str, QuantParams]] = {}
        """The integers that real values are given by."""
        self._forms: dict[SSAValue, dict[Layout, str]] = {}
        self._owners = owners(operations)
        self._node_names = set(self._owners)
        self._tensor_names = set(reserved)
        self._held: set[str] = set()
        self._shared: dict[tuple[int, tuple[int, ...], bytes], str] = {}

    # --- values -----------------------------------------------------------------------------

    def define(self, value: SSAValue, name: str, layout: Layout | None = None) -> None:
        """``value`` is what the tensor ``name`` holds, in this layout (default: its own)."""
        layout = identity(len(shape_of(value))) if layout is None else layout
        wanted = self.results.get(value)
        is_new = bool(self.nodes) and self.nodes[-1].output[0] == name and name not in self._held
        if wanted is not None and is_new and layout == identity(len(layout)):
            self.nodes[-1].output[0] = name = wanted
            del self.results[value]
        self._held.add(name)
        self._forms[value] = {layout: name}

    def layout_of(self, value: SSAValue) -> Layout:
        """The layout that a value came in; that of a constant is its own."""
        if value in self.known:
            return identity(len(shape_of(value)))
        return next(iter(self._forms[value]))

    def get(self, value: SSAValue, layout: Layout | None = None) -> str:
        """The tensor that holds a value in a layout (default: the value's own)."""
        layout = identity(len(shape_of(value))) if layout is None else layout
        forms = self._forms.setdefault(value, {})
        if layout not in forms:
            made = self._constant(value, layout) if value in self.known else None
            forms[layout] = made or self._transposed(value, layout)
        return forms[layout]

    def finish(self, value: SSAValue, name: str) -> None:
        """Give an output its name: that of the node made for it here, or of an Identity."""
        before = len(self.nodes)
        held = self.get(value)
        if held == name:
            return
        if len(self.nodes) == before:
            self.add("Identity", [held], f"{name}/Identity")
        else:
            self._forms[value][identity(len(shape_of(value)))] = name
        self.nodes[-1].output[0] = name

    def _transposed(self, value: SSAValue, layout: Layout) -> str:
        own, name = next(iter(self._forms[value].items()))
        permutation = [own.index(axis) for axis in layout]
        made = self.add("Transpose", [name], f"{name}/Transpose", perm=permutation)
        self._held.add(made)
        return made

    def _constant(self, value: SSAValue, layout: Layout) -> str:
        known = self.known[value]
        users = [layer_name(use.operation) for use in value.uses]
        base = known.layer or f"{next(filter(None, users), '')}.constant".lstrip(".")
        return self.constant(known, layout, base)

    def weight(self, value: SSAValue, layout: Layout, op: Operation, role: str = "weight") -> str:
        """``get`` of a layer's weights or bias, which are named after the layer."""
        known, forms = self.known.get(value), self._forms.setdefault(value, {})
        if known is not None and layout not in forms:
            forms[layout] = self.constant(known, layout, f"{layer_name(op)}.{role}".lstrip("."))
        return self.get(value, layout)

    def constant(self, known: Known, layout: Layout, base: str) -> str:
        """A tensor with the value of a constant in a layout; its integers are named ``base``."""
        array = np.ascontiguousarray(known.array.transpose(layout)).reshape(
            [known.array.shape[axis] for axis in layout]
        )
        name = self.initializer(base, array, known.element)
        if known.params is None or not known.real:
            return name
        self.limits[name] = known.params.qmin, known.params.qmax
        self.storages[name] = known.params.storage
        names, attributes = self.parameters(name, known.params, known.array.shape, layout)
        return self.add("DequantizeLinear", names, f"{name}/DequantizeLinear", **attributes)

    # --- nodes and initializers -------------------------------------------------------------

    def initializer(self, base: str, array: Array, element: Attribute) -> str:
        """A constant tensor whose name starts with ``base``."""
        name = unique(base, self._tensor_names)
        self.initializers[name] = tensor(name, np.asarray(array), element)
        return name

    def shared(self, base: str, array: Array, element: Attribute) -> str:
        """``initializer`` of a small constant, once for each value."""
        made = tensor("", np.asarray(array), element)
        key = (made.data_type, tuple(made.dims), made.raw_data)
        if key not in self._shared:
            self._shared[key] = self.initializer(base, array, element)
        return self._shared[key]

    def integers(self, values: Sequence[int]) -> str:
        """An int64 list, for shapes and axes."""
        text = "x".join(str(v) for v in values)
        return self.shared(f"ints_{text}", np.asarray(list(values), np.int64), i64)

    def real(self, value: float) -> str:
        """A float32 scalar."""
        return self.shared(f"real_{value:g}", np.asarray(value, np.float32), f32)

    def add(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """A node of one output, which is named like the node."""
        return self._append(kind, inputs, unique(name, self._node_names), attributes)

    def apply(
        self, op: Operation, kind: str, inputs: Sequence[str], name: str = "", /, **attributes: Any
    ) -> str:
        """``add`` with a name that says which op of the IR it is, or is a part of."""
        layer = layer_name(op)
        if layer and self._owners.get(layer) is op:
            del self._owners[layer]
            return self._append(kind, inputs, layer, attributes)
        part = f"{layer}/{kind}" if layer else name or kind
        return self.add(kind, inputs, part, **attributes)

    def _append(
        self, kind: str, inputs: Sequence[str], name: str, attributes: Mapping[str, Any]
    ) -> str:
        output = unique(name, self._tensor_names)
        self.nodes.append(helper.make_node(kind, inputs, [output], name, **attributes))
        return output

    def parameters(
        self, integers: str, params: QuantParams, shape: Sequence[int], layout: Layout
    ) -> tuple[list[str], dict[str, int]]:
        """Inputs (tensor, scale, zero point) and attributes of a cast from or to real values.

        ``shape`` is that of the value in the IR.
        """
        scale, zero, axis = arranged(params, shape, layout)
        names = [integers, self.shared(f"{integers}_scale", scale, f32)]
        if params.storage != "i32":
            element = STORAGE_ELEMENTS[params.storage]
            names.append(self.shared(f"{integers}_zero_point", zero, element))
        elif zero.any():
            raise UnsupportedUseError("int32 elements with a zero point other than 0")
        attributes = {} if params.axis is None else {"axis": axis}
        if params.block:
            attributes["block_size"] = params.block
        return names, attributes


def owners(operations: Iterable[Operation]) -> dict[str, Operation]:
    """Which op a layer's name belongs to: its first layer, or else the first op of that name."""
    found: dict[str, Operation] = {}
    for op in operations:
        name = layer_name(op)
        first = name not in found or not isinstance(found[name], LAYERS)
        if name and (name not in found or (first and isinstance(op, LAYERS))):
            found[name] = op
    return found


def unique(name: str, taken: set[str]) -> str:
    """``name``, or with a number behind it; it is taken from now on."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    taken.add(found)
    return found
