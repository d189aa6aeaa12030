"""Small helpers for rewrite patterns on tensor ops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.pattern_rewriter import (
    GreedyRewritePatternApplier,
    PatternRewriter,
    PatternRewriteWalker,
    RewritePattern,
)

from uqfc.dialects import nn
from uqfc.dialects.nn import FnAttr, TensorOp, layer_name, with_layer
from uqfc.dialects.tensors import Array

OpT = TypeVar("OpT", bound=Operation)


def apply_patterns(module: ModuleOp, *patterns: RewritePattern) -> bool:
    """Rewrite until no pattern applies; True if anything changed. The first that matches wins.

    Pure ops whose results nobody uses are erased on the way.
    """
    applier = GreedyRewritePatternApplier(list(patterns))
    return PatternRewriteWalker(applier).rewrite_module(module)


def constant_of(value: SSAValue | None) -> Array | None:
    """The array of a constant, or None if the value is absent or not a constant."""
    owner = None if value is None else value.owner
    return owner.array if isinstance(owner, nn.ConstantOp) else None


def scalar_of(value: SSAValue | None) -> float | None:
    """The one number that every element of a float constant equals, or None."""
    array = constant_of(value)
    if array is None or array.size == 0 or array.dtype != np.float32:
        return None
    first = array.reshape(-1)[0]
    return float(first) if bool((array == first).all()) else None


def is_broadcast_scalar(value: SSAValue) -> bool:
    """A float constant whose broadcasting cannot change the other operand's shape."""
    array = constant_of(value)
    return array is not None and array.size == 1 and array.dtype == np.float32


def defining(value: SSAValue | None, op_type: type[OpT]) -> OpT | None:
    """The op of this type that defines ``value``, or None."""
    owner = None if value is None else value.owner
    return owner if isinstance(owner, op_type) else None


def rebuilt(
    op: Operation,
    operands: Sequence[SSAValue],
    result_type: Attribute,
    properties: Mapping[str, Attribute] | None = None,
) -> Operation:
    """A copy of a one-result op with other operands and result type; ``properties`` override."""
    return type(op).create(
        operands=list(operands),
        result_types=[result_type],
        properties={**op.properties, **(properties or {})},
        attributes=dict(op.attributes),
    )


def with_operand_list(
    op: nn.Layer,
    *,
    x: SSAValue | None = None,
    weight: SSAValue | Operation | None = None,
    bias: SSAValue | Operation | None = None,
    residual: SSAValue | None = None,
    activation: FnAttr | None = None,
) -> nn.Layer:
    """A copy of a layer in which what is given replaces what the op has."""
    x = op.x if x is None else x
    weight = op.weight if weight is None else weight
    bias = op.bias if bias is None else bias
    residual = op.residual if residual is None else residual
    activation = op.activation if activation is None else activation
    segments = [x, weight, bias, residual]
    return type(op).build(
        operands=segments,
        result_types=[op.result.type],
        properties={**op.properties, "activation": activation},
        attributes=dict(op.attributes),
    )


def replace_named(rewriter: PatternRewriter, old: TensorOp, new: TensorOp) -> None:
    """Replace ``old`` by ``new``, which takes over the layer's name if it has none."""
    if not layer_name(new) and layer_name(old):
        with_layer(new, layer_name(old))
    rewriter.replace(old, new)
