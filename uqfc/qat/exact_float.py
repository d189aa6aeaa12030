"""Float ops of the network with the bits that the deployed network gives them.

They are computed by the steps of ``IntegerNetwork``; a batch is many runs of the network.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from xdsl.ir import Operation

from uqfc.dialects import nn
from uqfc.qat.integer.nn_layers import conv2d_sums, layer_end, linear_sums
from uqfc.qat.integer.registry import MAKERS, Step, constant_of
from uqfc.qat.integer_network import interpreted


def exact_result(op: Operation, operands: Sequence[Tensor]) -> Tensor:
    """The op's result [N, …], without a gradient. Operands are [N, …], or those of constants."""
    tensors = [tensor.detach() for tensor in operands]
    if isinstance(op, nn.Layer):
        return exact_layer(op, tensors)
    return run_step(op, step_of(op, tensors[0]) or interpreted(op), tensors)


def step_of(op: Operation, like: Tensor) -> Step | None:
    """The op on tensors; None if only the interpreter has it."""
    maker = MAKERS.get(type(op))
    return None if maker is None else maker(op, like.device)


def run_step(op: Operation, step: Step, operands: Sequence[Tensor]) -> Tensor:
    """What a step makes of a batch, of which each image is a run."""
    given = dict(zip(op.operands, operands, strict=True))
    runs = [
        given[value][None] if constant_of(value) is not None else given[value].unsqueeze(1)
        for value in step.operands
    ]
    return step.run(*runs).squeeze(1)


def exact_layer(op: nn.Layer, operands: Sequence[Tensor]) -> Tensor:
    """A float layer, its sums in the contract's order."""
    x, weight, *rest = operands
    bias = rest[0] if op.bias is not None else None
    residual = rest[-1][:, None] if op.residual is not None else None
    if isinstance(op, nn.LinearOp):
        sums = linear_sums(x[:, None], weight)
    else:
        sums = conv2d_sums(op, x[:, None], weight)
    return layer_end(op, sums, bias, residual).squeeze(1)
