"""Where a forward pass of training and the deployed network differ, point by point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from rich.table import Table
from torch import Tensor
from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Operation, SSAValue

from uqfc.dialects.nn import layer_name
from uqfc.dialects.quant import DcastOp, ObserveOp, QcastOp
from uqfc.dialects.tensors import Array
from uqfc.interpreter import Interpreter, input_names, main_function, output_names
from uqfc.pipeline import integer_passes, run_passes
from uqfc.qat.training import ForwardPass

Run = Callable[[ModuleOp, Sequence[Tensor]], list[Tensor]]
"""All outputs of an integer network for a batch."""


@dataclass(frozen=True)
class PointEquality:
    """One quantize point, or one output, of the network.

    ``layer`` and ``op`` are those that computed the value; ``differing`` of ``elements`` have other
    bits, by ``largest`` at most (in real numbers).
    """

    name: str
    layer: str
    op: str
    elements: int
    differing: int
    largest: float


@dataclass(frozen=True)
class Comparison:
    """All points in the order of the network, then its outputs. Prints as a table with rich."""

    points: tuple[PointEquality, ...]

    @property
    def first(self) -> PointEquality | None:
        """The first one that differs: what computes it is what is wrong."""
        return next((point for point in self.points if point.differing), None)

    @property
    def is_equal(self) -> bool:
        """Whether every bit is equal."""
        return self.first is None

    def __str__(self) -> str:
        first = self.first
        if first is None:
            return f"{len(self.points)} points and outputs: all bits are equal"
        return (
            f"layer '{first.layer}' ({first.op}, {first.name}) differs first: "
            f"{first.differing} of {first.elements} elements, by up to {first.largest:g}"
        )

    def __rich__(self) -> Table:
        table = Table("point", "layer", "op", "elements", "differing", "largest")
        for p in self.points:
            style = "red" if p.differing else None
            numbers = str(p.elements), str(p.differing), f"{p.largest:g}"
            table.add_row(p.name, p.layer, p.op, *numbers, style=style)
        return table


def compare(
    forward: ForwardPass, deployed: ModuleOp, inputs: Sequence[Tensor], run: Run
) -> Comparison:
    """Of a pass that is run here, and of ``deploy.quantized_module`` of the same parameters.

    ``deployed`` is lowered in place, with its points as further outputs; ``run`` computes those.
    """
    with torch.no_grad():
        outputs = forward.run(inputs)
    observes = [op for op in forward.plan.module.walk() if isinstance(op, ObserveOp)]
    expose_points(deployed)
    run_passes(deployed, integer_passes())
    found = run(deployed, inputs)
    names = [*(op.point.data for op in observes), *output_names(forward.plan.function)]
    block = forward.plan.function.body.block
    assert isinstance(block.last_op, ReturnOp)
    values = [*(op.x for op in observes), *block.last_op.operands]
    ours = [*(forward.values[op.result].real for op in observes), *outputs]
    theirs = [*found[len(outputs) :], *found[: len(outputs)]]
    pairs = zip(names, values, ours, theirs, strict=True)
    return Comparison(tuple(equality(*pair) for pair in pairs))


def expose_points(module: ModuleOp) -> None:
    """Make every quantize point a further output."""
    function = main_function(module)
    casts = [
        op for op in module.walk() if isinstance(op, DcastOp) and isinstance(op.x.owner, QcastOp)
    ]
    last = function.body.block.last_op
    assert isinstance(last, ReturnOp)
    names = [*output_names(function), *(f"point{i}" for i in range(len(casts)))]
    last.operands = [*last.operands, *(op.result for op in casts)]
    function.attributes["output_names"] = ArrayAttr([StringAttr(name) for name in names])
    function.properties["function_type"] = FuncOp(
        "main", ([a.type for a in function.body.block.args], [v.type for v in last.operands])
    ).function_type


def equality(name: str, value: SSAValue, ours: Tensor, theirs: Tensor) -> PointEquality:
    op = value.owner
    layer, kind = ("", "input") if not isinstance(op, Operation) else (layer_name(op), op.name)
    a, b = (t.detach().cpu().float().contiguous() for t in (ours, theirs))
    batch = max(len(a), len(b))  # a constant's is 1
    a, b = (t.expand(batch, *t.shape[1:]).contiguous() for t in (a, b))
    differs = a.view(torch.int32) != b.view(torch.int32)
    largest = float((a - b)[differs].abs().max()) if bool(differs.any()) else 0.0
    return PointEquality(name, layer, kind, a.numel(), int(differs.sum()), largest)


def interpreted(module: ModuleOp, inputs: Sequence[Tensor]) -> list[Tensor]:
    """A ``Run``: the definition, image by image."""
    names = input_names(main_function(module))
    results: list[list[Array]] = []
    for index in range(len(inputs[0])):
        images = {
            name: np.ascontiguousarray(x[index : index + 1].detach().cpu().numpy())
            for name, x in zip(names, inputs, strict=True)
        }
        results.append(list(Interpreter().run(module, images).values()))
    return [torch.from_numpy(np.concatenate(each)) for each in zip(*results, strict=True)]
