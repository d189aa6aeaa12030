"""One forward pass of a plan: integers where the deployed network has them, with gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

import torch
from torch import Tensor, nn
from xdsl.dialects.func import ReturnOp
from xdsl.ir import Operation, SSAValue

from uqfc.calibration import Observer
from uqfc.dialects import nn as ops
from uqfc.dialects.opaque import CallOp
from uqfc.dialects.quant import ObserveOp
from uqfc.passes.support.quantizable import LAYERS, MOVEMENT, activations, has_integer_form
from uqfc.qat.estimators import Estimator, lsq_gradient_scale, quantize
from uqfc.qat.exact import Exact
from uqfc.qat.exact_float import exact_result
from uqfc.qat.float_ops import evaluate
from uqfc.qat.integer_ops import integer_value
from uqfc.qat.layers import LayerModules
from uqfc.qat.partial import KeptModules
from uqfc.qat.plan import Plan
from uqfc.qat.state import Quantization
from uqfc.qat.sums import Backend
from uqfc.qat.training_layers import LayerPass, layer_value
from uqfc.qat.values import Scheme, Value


class Mode(Enum):
    """How layers are computed.

    ``FLOAT``: as in the float network; points observe. ``STATISTICS``: batch norms take the
    statistics of the batch, and update their own. ``DEPLOYED``: batch norms are folded; every bit
    is that of the deployed network.
    """

    FLOAT = "float"
    STATISTICS = "statistics"
    DEPLOYED = "deployed"


class ForwardPass:
    """Evaluates a plan once on a batch."""

    def __init__(
        self,
        plan: Plan,
        model: nn.Module,
        state: Quantization,
        backend: Backend,
        estimator: Estimator,
        mode: Mode,
        observers: Mapping[str, Observer] | None = None,
    ) -> None:
        self.plan = plan
        self.model = model
        self.state = state
        self.backend = backend
        self.estimator = estimator
        self.mode = mode
        self.observers = observers
        self.values: dict[SSAValue, Value] = {}
        self.schemes: dict[str, Scheme] = {}
        if mode != Mode.FLOAT:
            scales = state.scales()
            self.weight_scales = scales.weights
            zero_points = state.activation_zero_point.tolist()
            for name, point in plan.points.items():
                index = point.index
                zero = state.activation_zero_point[index]
                self.schemes[name] = Scheme(
                    point, scales.activations[index], zero_points[index], zero
                )

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The network's outputs for a batch of each of its inputs."""
        block = self.plan.function.body.block
        self.kept = KeptModules(self.model, len(inputs[0]), statistics=self.mode == Mode.STATISTICS)
        for argument, tensor in zip(block.args, inputs, strict=True):
            self.values[argument] = Value(tensor)
        for op in block.ops:
            if isinstance(op, ReturnOp):
                return [self.values[value].real for value in op.operands]
            if isinstance(op, ops.ConstantOp):
                continue
            if isinstance(op, ObserveOp):
                self.values[op.result] = self.observe(op)
            elif self.mode == Mode.FLOAT or not self.waits(op):
                self.values[op.results[0]] = self.compute(op)
        raise ValueError("the network returns nothing")

    def waits(self, op: Operation) -> bool:
        """Whether the point after an op computes it, because it says in which units."""
        users = [use.operation for use in op.results[0].uses]
        if (
            isinstance(op, MOVEMENT)
            or not users
            or not all(isinstance(u, ObserveOp) for u in users)
        ):
            return False
        if isinstance(op, LAYERS):
            return op.layer in self.plan.layers
        quantized = all(
            value in self.values and self.values[value].scheme is not None
            for value in activations(op)
        )
        return has_integer_form(op) and quantized

    def observe(self, op: ObserveOp) -> Value:
        """The value at a point."""
        owner = op.x.owner
        if self.mode == Mode.FLOAT:
            value = Value(self.tensor(op.x))
            if self.observers is not None and "tied" not in op.attributes:
                seen = value.real.detach().cpu().numpy()
                self.observers[op.point.data].update(seen, name=op.point.data)
            return value
        scheme = self.schemes[op.point.data]
        if op.x not in self.values and not isinstance(owner, ops.ConstantOp):
            assert isinstance(owner, Operation)
            if isinstance(owner, LAYERS):
                return self.layer(owner, scheme)
            inputs = [self.values[value] for value in activations(owner)]
            return integer_value(owner, inputs, scheme, self.estimator)
        real, value = self.tensor(op.x), self.values[op.x]
        if value.scheme is scheme:
            return value
        point = scheme.point
        real, q = quantize(
            real,
            scheme.scale,
            scheme.zero_point_tensor,
            point.qmin,
            point.qmax,
            self.estimator,
            gradient_scale=lsq_gradient_scale(real[0].numel(), point.qmax),
        )
        # The deployed network has no integer ops on a constant and an activation.
        return Value(real) if isinstance(owner, ops.ConstantOp) else Value(real, q, scheme)

    def compute(self, op: Operation) -> Value:
        """The value of an op that no point waits for."""
        if isinstance(op, LAYERS):
            if self.mode != Mode.FLOAT and op.layer in self.plan.layers:
                return self.layer(op, None)
            return Value(self.floats(op, self.layer_operands(op)))
        operands = [self.tensor(value) for value in op.operands]
        if isinstance(op, CallOp):
            return Value(self.kept.result(op, operands))
        if isinstance(op, MOVEMENT):
            scheme = self.values[op.operands[0]].scheme if has_integer_form(op) else None
            return Value(evaluate(op, operands), None, scheme)
        return Value(self.floats(op, operands))

    def floats(self, op: Operation, operands: Sequence[Tensor]) -> Tensor:
        """The result of a float op: with torch's bits, or with those of the deployed network."""
        result = evaluate(op, operands)
        if self.mode != Mode.DEPLOYED or isinstance(op, ops.ConcatOp):
            return result
        return Exact.apply(result, exact_result(op, operands), None)

    def layer(self, op: ops.Layer, scheme: Scheme | None) -> Value:
        """A quantized layer."""
        planned = self.plan.layers[op.layer]
        residual = None if op.residual is None else self.values[op.residual]
        statistics = self.mode == Mode.STATISTICS
        work = LayerPass(
            planned,
            LayerModules(self.model, planned.origin),
            self.weight_scales,
            self.state.weight_zero_point,
            self.backend,
            self.estimator,
            statistics,
        )
        return layer_value(work, self.values[op.x], residual, scheme)

    def layer_operands(self, op: ops.Layer) -> list[Tensor]:
        """Of a layer in float: present parameters, batch norm folded."""
        origin = self.plan.origins.get(op.layer)
        if origin is None:
            return [self.tensor(value) for value in op.operands]
        folded = LayerModules(self.model, origin).folded(learned=True)
        operands = [self.tensor(op.x), folded.weight]
        if op.bias is not None:
            assert folded.bias is not None
            operands.append(folded.bias)
        return operands if op.residual is None else [*operands, self.tensor(op.residual)]

    def tensor(self, value: SSAValue) -> Tensor:
        """The real value; constants are parameters of the model only in layers."""
        if value not in self.values:
            owner = value.owner
            assert isinstance(owner, ops.ConstantOp)
            device = next(iter(self.values.values())).real.device
            array = torch.from_numpy(owner.array.copy()).to(device)
            self.values[value] = Value(array)
        return self.values[value].real
