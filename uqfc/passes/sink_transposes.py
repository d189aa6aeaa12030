"""Pass ``sink-transposes``: removes the layout changes that the importer put around image ops."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import BlockArgument, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from uqfc.dialects import nn
from uqfc.dialects.nn import layer_name, with_layer
from uqfc.dialects.tensors import int_tuple, shape_of, tensor_type, type_of
from uqfc.passes.support.layout import (
    LAYOUT_RULES,
    Permutation,
    extended,
    inverse,
    is_identity,
    moves_only_units,
    permuted,
    sink_through_reshape,
    unextended_shape,
)
from uqfc.passes.support.rewriting import (
    apply_patterns,
    constant_of,
    defining,
    rebuilt,
    replace_named,
)


def permutation_of(op: nn.TransposeOp) -> Permutation:
    return int_tuple(op.permutation)


class SimplifyTranspose(RewritePattern):
    """Drops unused and identity transposes, merges pairs, evaluates those of constants."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: nn.TransposeOp, rewriter: PatternRewriter, /) -> None:
        p = permutation_of(op)
        if op.result.first_use is None:
            rewriter.erase(op)
        elif is_identity(p):
            rewriter.replace(op, [], [op.x])
        elif (before := defining(op.x, nn.TransposeOp)) is not None:
            merged = permuted(permutation_of(before), p)
            replace_named(rewriter, op, nn.TransposeOp(before.x, merged))
        elif isinstance(constant := op.x.owner, nn.ConstantOp):
            element = constant.value.get_element_type()
            rewriter.replace(op, nn.ConstantOp(constant.array.transpose(p), element))


class ShareTranspose(RewritePattern):
    """One transpose where several of one value have the same permutation."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: nn.TransposeOp, rewriter: PatternRewriter, /) -> None:
        for use in tuple(op.x.uses):
            other = use.operation
            is_twin = (
                isinstance(other, nn.TransposeOp)
                and other is not op
                and other.parent is op.parent
                and other.permutation == op.permutation
                and op.is_before_in_block(other)
            )
            if is_twin:
                rewriter.replace(other, [], [op.result])


# --- down ---------------------------------------------------------------------------------------


def operand_before(value: SSAValue, p: Permutation, rank: int) -> tuple[Operation | None, SSAValue]:
    """``value`` as an operand of the op that runs before ``transpose(·, p)``.

    Gives the op to insert, if any, and the value to use. It is free if it inserts no transpose.
    """
    transpose = defining(value, nn.TransposeOp)
    if transpose is not None and extended(permutation_of(transpose), rank) == p:
        return None, transpose.x
    shape = unextended_shape(shape_of(value), rank)
    back = inverse(p)
    target = permuted(shape, back)
    if all(n == 1 for n in shape) or is_identity(back):
        return None, value
    array = constant_of(value)
    if array is not None:
        element = type_of(value).get_element_type()
        moved = np.ascontiguousarray(array.reshape(shape).transpose(back))
        constant = nn.ConstantOp(moved, element)
        return constant, constant.result
    if moves_only_units(shape, back):
        if target == shape_of(value):
            return None, value
        reshape = nn.ReshapeOp(value, target)
        return reshape, reshape.result
    if len(shape_of(value)) < rank:
        raise ValueError("a broadcast operand cannot be transposed at its own rank")
    other = nn.TransposeOp(value, back)
    return other, other.result


def candidate_permutations(operands: tuple[SSAValue, ...], rank: int) -> list[Permutation]:
    """Of the transposes that feed the operands, without repetition."""
    found: list[Permutation] = []
    for value in operands:
        transpose = defining(value, nn.TransposeOp)
        if transpose is not None:
            p = extended(permutation_of(transpose), rank)
            if p not in found and not is_identity(p):
                found.append(p)
    return found


def is_transposed(value: SSAValue, p: Permutation, rank: int) -> bool:
    transpose = defining(value, nn.TransposeOp)
    return transpose is not None and extended(permutation_of(transpose), rank) == p


def needs_transpose(value: SSAValue, p: Permutation, rank: int) -> bool:
    """Whether ``operand_before`` would have to insert a transpose."""
    if is_transposed(value, p, rank) or constant_of(value) is not None:
        return False
    return not moves_only_units(unextended_shape(shape_of(value), rank), inverse(p))


def all_users_undo(op: Operation, p: Permutation) -> bool:
    """Whether every user is a transpose by the inverse that no other transpose follows."""
    users = [use.operation for use in op.results[0].uses]
    return bool(users) and all(
        isinstance(user, nn.TransposeOp)
        and permutation_of(user) == inverse(p)
        and not any(isinstance(use.operation, nn.TransposeOp) for use in user.result.uses)
        for user in users
    )


class SinkThroughOp(RewritePattern):
    """``op(transpose(x))`` becomes ``transpose(op(x))`` where it adds no transpose."""

    def match_and_rewrite(self, op: Operation, rewriter: PatternRewriter, /) -> None:
        rule = LAYOUT_RULES.get(type(op))
        if rule is None or op.results[0].first_use is None:
            return
        operands = rule.layout_operands(op)
        shape = shape_of(op.results[0])
        for p in candidate_permutations(operands, len(shape)):
            if not self._pays(op, operands, p, len(shape)):
                continue
            properties = rule.properties(op, p)
            if properties is None:
                continue
            pairs = [operand_before(value, p, len(shape)) for value in operands]
            rest = tuple(op.operands)[len(operands) :]
            kind = tensor_type(
                permuted(shape, inverse(p)), type_of(op.results[0]).get_element_type()
            )
            new = rebuilt(op, [*(v for _, v in pairs), *rest], kind, properties)
            added = [inserted for inserted, _ in pairs if inserted is not None]
            after = nn.TransposeOp(new.results[0], p)
            with_layer(after, layer_name(op))
            rewriter.replace(op, [*added, new, after])
            return

    @staticmethod
    def _pays(op: Operation, operands: tuple[SSAValue, ...], p: Permutation, rank: int) -> bool:
        """Fewer or equally many transposes after it, and never back and forth."""
        costly = [v for v in operands if needs_transpose(v, p, rank)]
        if any(len(shape_of(v)) < rank for v in costly):
            return False
        gained = sum(is_transposed(v, p, rank) for v in operands)
        return len(costly) < gained or (len(costly) == gained and all_users_undo(op, p))


class SinkThroughReshape(RewritePattern):
    """Moves a transpose below a reshape that splits or merges only adjacent axes."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: nn.ReshapeOp, rewriter: PatternRewriter, /) -> None:
        transpose = defining(op.x, nn.TransposeOp)
        if transpose is None or op.result.first_use is None:
            return
        source, result = shape_of(transpose.x), shape_of(op.result)
        sunk = sink_through_reshape(source, permutation_of(transpose), result)
        if sunk is None:
            return
        nothing_sinks = moves_only_units(sunk.middle, sunk.last)
        if nothing_sinks and not is_identity(sunk.first):
            return
        first = [] if is_identity(sunk.first) else [nn.TransposeOp(transpose.x, sunk.first)]
        shape = result if nothing_sinks else sunk.middle
        middle = nn.ReshapeOp(first[0] if first else transpose.x, shape)
        middle.attributes.update(op.attributes)
        last = [] if nothing_sinks else [nn.TransposeOp(middle, sunk.last)]
        for after in last:
            with_layer(after, layer_name(op))
        rewriter.replace(op, [*first, middle, *last])


# --- up -----------------------------------------------------------------------------------------


def varying_operand(op: Operation) -> SSAValue | None:
    """The only operand in the result's layout that is not constant, if there is just one."""
    rule = LAYOUT_RULES.get(type(op))
    if rule is None:
        return None
    varying = [v for v in rule.layout_operands(op) if constant_of(v) is None]
    same_rank = len(varying) == 1 and len(shape_of(varying[0])) == len(shape_of(op.results[0]))
    return varying[0] if same_rank else None


def starts_at_input(value: SSAValue, p: Permutation) -> bool:
    """Whether ``transpose(value, p)`` can move up to a graph input or a constant."""
    while not isinstance(value, BlockArgument):
        op = value.owner
        if isinstance(op, nn.ConstantOp):
            return True
        rule = LAYOUT_RULES.get(type(op)) if isinstance(op, Operation) else None
        if rule is None or not value.has_one_use() or isinstance(op, nn.TransposeOp):
            return False
        constants = isinstance(op, Operation) and all(
            constant_of(v) is not None for v in rule.layout_operands(op)
        )
        source = varying_operand(op) if isinstance(op, Operation) else None
        if rule.properties(op, inverse(p)) is None:
            return False
        if constants:
            return True
        if source is None:
            return False
        value = source
    return True


class HoistToInput(RewritePattern):
    """``transpose(op(x))`` becomes ``op(transpose(x))`` on the way from an input or constant."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: nn.TransposeOp, rewriter: PatternRewriter, /) -> None:
        producer, p = op.x.owner, permutation_of(op)
        if not isinstance(producer, Operation) or isinstance(producer, nn.ConstantOp):
            return
        if not starts_at_input(op.x, p):
            return
        rule = LAYOUT_RULES[type(producer)]
        properties = rule.properties(producer, inverse(p))
        assert properties is not None
        operands = rule.layout_operands(producer)
        rank = len(p)
        pairs = [operand_before(value, inverse(p), rank) for value in operands]
        rest = tuple(producer.operands)[len(operands) :]
        new = rebuilt(producer, [*(v for _, v in pairs), *rest], op.result.type, properties)
        added = [inserted for inserted, _ in pairs if inserted is not None]
        rewriter.replace(op, [*added, new])
        rewriter.erase(producer)


class TransposeToReshape(RewritePattern):
    """A transpose that only moves axes of size 1 keeps the order of the elements."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: nn.TransposeOp, rewriter: PatternRewriter, /) -> None:
        if moves_only_units(shape_of(op.x), permutation_of(op)):
            replace_named(rewriter, op, nn.ReshapeOp(op.x, shape_of(op.result)))


@dataclass(frozen=True)
class SinkTransposes(ModulePass):
    """Moves ``nn.transpose`` down, where pairs meet and cancel; what is left goes up to the inputs.

    Law: exact. No op is evaluated on other numbers or in another order: transposing commutes with
    elementwise ops, and with reductions whose axes keep their order.

    Steps: (1) down through elementwise ops, reductions, concat, slice, pad, softmax, gather,
    interpolate, casts, and reshapes of adjacent axes, as long as the number of transposes does not
    grow; (2) those that then depend on one input or constant through single-use ops go up to it;
    (3) those that only move axes of size 1 become reshapes.
    """

    name = "sink-transposes"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        del ctx
        apply_patterns(op, SimplifyTranspose(), SinkThroughOp(), SinkThroughReshape())
        apply_patterns(op, SimplifyTranspose(), ShareTranspose(), HoistToInput())
        apply_patterns(op, TransposeToReshape(), SimplifyTranspose())
