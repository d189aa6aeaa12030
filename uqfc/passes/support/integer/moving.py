"""Movement of elements next to quantize points: integers move as well as what they stand for."""

from __future__ import annotations

from xdsl.ir import Block, Operation, SSAValue
from xdsl.rewriter import InsertPoint, Rewriter

from uqfc.dialects import nn
from uqfc.dialects.quant import QcastOp, UniformType, uniform_of
from uqfc.dialects.tensors import element_of, int_tuple
from uqfc.passes.support.integer.values import unsigned
from uqfc.passes.support.quantizable import LAYERS, MOVEMENT, has_integer_form
from uqfc.passes.support.rewriting import rebuilt


def has_integer_form_here(op: Operation) -> bool:
    """``has_integer_form``, where weights may also be constants behind casts."""
    return isinstance(op, LAYERS) or has_integer_form(op)


def only_moves(op: Operation) -> bool:
    """Whether moving integers, then dequantizing, is dequantizing, then moving, to the bit."""
    match op:
        case nn.ReshapeOp() | nn.TransposeOp() | nn.SliceOp() | nn.BroadcastOp() | nn.GatherOp():
            return has_integer_form(op)
        case nn.MaxPool2dOp():
            return not any(int_tuple(op.padding))
        case _:
            return False


def ends_in_casts(op: Operation) -> bool:
    """Whether every use of the result is a cast to 8 bits, maybe behind more movement."""
    users = [use.operation for use in op.results[0].uses]
    return (
        has_integer_form(op)
        and bool(users)
        and all(
            unsigned(uniform_of(user.result)) is not None
            if isinstance(user, QcastOp)
            else isinstance(user, MOVEMENT) and ends_in_casts(user)
            for user in users
        )
    )


def feeds_integer_op(op: Operation) -> bool:
    """Whether some user, through ops that move elements, may run on integers."""
    users = [use.operation for use in op.results[0].uses]
    return any(
        feeds_integer_op(user) if only_moves(user) else has_integer_form_here(user)
        for user in users
    )


def quantize_before_moving(op: QcastOp) -> None:
    """``qcast(move(x))`` as ``move(qcast(x))``, where ``x`` is then the result of an integer op.

    Exact: quantizing works element by element, and per tensor.
    """
    while isinstance(mover := op.x.owner, nn.ReshapeOp | nn.TransposeOp):
        source, uses = origin(mover), (op.x.uses.get_length(), mover.x.uses.get_length())
        computed = isinstance(source, Operation) and has_integer_form_here(source)
        if uniform_of(op.result).axis is not None or uses != (1, 1) or not computed:
            return
        earlier = QcastOp(mover.x, uniform_of(op.result))
        moved = rebuilt(mover, [earlier.result], op.result.type)
        Rewriter.insert_op([earlier, moved], InsertPoint.before(op))
        op.result.replace_all_uses_with(moved.results[0])
        Rewriter.erase_op(op)
        Rewriter.erase_op(mover)
        op = earlier


def origin(mover: nn.ReshapeOp | nn.TransposeOp) -> Operation | Block:
    """What made the elements that it and those before it move."""
    owner = mover.x.owner
    return origin(owner) if isinstance(owner, nn.ReshapeOp | nn.TransposeOp) else owner


def is_quantized(value: SSAValue) -> bool:
    """Whether the elements are of a quantized type."""
    return isinstance(element_of(value), UniformType)
