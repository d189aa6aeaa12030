"""``recognize-idioms``: decomposed activations become one ``nn.unary``.

Recognised, with operands of mul and add in either order (``c`` stands for a constant):

- clip: ``min(max(x, a), b)``, and consecutive clips and ReLUs;
- hard-sigmoid: ``clip(x + 3, 0, 6) / 6`` (or ``* 1/6``), ``clip(x * a + b, 0, 1)``;
- hard-swish: ``x * hard_sigmoid(x, 1/6, 1/2)``, ``x * clip(x + 3, 0, 6) / 6`` however grouped;
- SiLU: ``x * sigmoid(x)``; GELU: ``0.5 * x * (1 + erf(x / sqrt 2))`` however grouped, and
  with ``tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))`` for the erf;
- Mish: ``x * tanh(softplus(x))``.

Law: a bound. The function is the same real function; constants of the pattern may differ from it
by 1e-4 relative (exporters write 0.16666667, 0.7071068), and each of the few float operations
rounds once, so results differ by at most 1e-4 relative and 2**-20 absolute for |x| <= 8.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import pi

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

from uqfc.dialects import nn
from uqfc.dialects.tensors import shape_of
from uqfc.numerics import Activation
from uqfc.passes.support.rewriting import (
    apply_patterns,
    defining,
    replace_named,
    scalar_of,
)

LARGEST = float(np.finfo(np.float32).max)


def near(a: float | None, b: float) -> bool:
    return a is not None and abs(a - b) <= 1e-4 * abs(b)


def fn_of(value: SSAValue) -> tuple[Activation, SSAValue] | None:
    """The function and operand of the ``nn.unary`` behind a value."""
    op = defining(value, nn.UnaryOp)
    return None if op is None else (op.fn.data, op.x)


def split(op: nn.MulOp | nn.AddOp) -> Iterator[tuple[SSAValue, SSAValue]]:
    """Both orders of the operands."""
    yield op.lhs, op.rhs
    yield op.rhs, op.lhs


def scaled(value: SSAValue) -> tuple[SSAValue, float] | None:
    """``(x, c)`` if the value is ``x * c`` or ``x / c'`` with a scalar constant."""
    mul = defining(value, nn.MulOp)
    if mul is not None and mul.activation is None:
        for x, c in split(mul):
            factor = scalar_of(c)
            if factor is not None and shape_of(x) == shape_of(value):
                return x, factor
    div = defining(value, nn.DivOp)
    divisor = None if div is None else scalar_of(div.rhs)
    if div is not None and divisor and shape_of(div.lhs) == shape_of(value):
        return div.lhs, 1.0 / divisor
    return None


def shifted(value: SSAValue) -> tuple[SSAValue, float] | None:
    """``(x, c)`` if the value is ``x + c`` with a scalar constant."""
    add = defining(value, nn.AddOp)
    if add is None or add.activation is not None:
        return None
    for x, c in split(add):
        offset = scalar_of(c)
        if offset is not None and shape_of(x) == shape_of(value):
            return x, offset
    return None


def as_hard_sigmoid(value: SSAValue) -> tuple[SSAValue, float, float] | None:
    """``(x, alpha, beta)`` if the value is a hard-sigmoid of x, scaled to [0, 1]."""
    found = fn_of(value)
    if found is not None and found[0].name == "hard_sigmoid":
        return found[1], *found[0].params[:2]  # pyright: ignore[reportReturnType] # two parameters
    if found is not None and found[0].name == "clip" and found[0].params == (0.0, 1.0):
        outer = shifted(found[1])
        inner = None if outer is None else scaled(outer[0])
        if outer is not None and inner is not None:
            return inner[0], inner[1], outer[1]
    by = scaled(value)
    clipped = None if by is None else as_relu6(by[0])
    if by is not None and clipped is not None and near(by[1], 1 / 6):
        return clipped, 1 / 6, 0.5
    return None


def as_relu6(value: SSAValue) -> SSAValue | None:
    """``x`` if the value is ``clip(x + 3, 0, 6)``."""
    found = fn_of(value)
    if found is None or found[0] != Activation("clip", (0.0, 6.0)):
        return None
    moved = shifted(found[1])
    return moved[0] if moved is not None and near(moved[1], 3.0) else None


class HardSigmoid(RewritePattern):
    """``clip(x + 3, 0, 6) / 6`` and ``clip(x * a + b, 0, 1)``."""

    def match_and_rewrite(self, op: object, rewriter: PatternRewriter) -> None:
        if not isinstance(op, nn.MulOp | nn.DivOp | nn.UnaryOp):
            return
        if isinstance(op, nn.UnaryOp) and op.fn.data.name != "clip":
            return
        found = as_hard_sigmoid(op.result)
        if found is not None:
            x, alpha, beta = found
            replace_named(rewriter, op, nn.UnaryOp(x, nn.fn("hard_sigmoid", alpha, beta)))


class SelfGated(RewritePattern):
    """``x * f(x)``: hard-swish, SiLU, Mish, GELU."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: nn.MulOp, rewriter: PatternRewriter, /) -> None:
        if op.activation is not None or shape_of(op.lhs) != shape_of(op.rhs):
            return
        for x, gate in split(op):
            name = self.function(x, gate)
            if name is not None:
                replace_named(rewriter, op, nn.UnaryOp(x, nn.fn(name)))
                return

    @staticmethod
    def function(x: SSAValue, gate: SSAValue) -> str | None:
        hard = as_hard_sigmoid(gate)
        if hard is not None and hard[0] is x and near(hard[1], 1 / 6) and near(hard[2], 0.5):
            return "hard_swish"
        found = fn_of(gate)
        if found is None:
            by = scaled(gate)
            return gelu_name(by[0], x) if by is not None and near(by[1], 0.5) else None
        if found[0].name == "sigmoid" and found[1] is x:
            return "silu"
        inner = fn_of(found[1])
        if found[0].name == "tanh" and inner is not None and inner[0].name == "softplus":
            return "mish" if inner[1] is x else None
        return None


def gelu_name(value: SSAValue, x: SSAValue) -> str | None:
    """Which GELU has ``value``, ``1 + erf(…)`` or ``1 + tanh(…)``, as its factor."""
    moved = shifted(value)
    found = fn_of(moved[0]) if moved is not None and near(moved[1], 1.0) else None
    argument = None if found is None else scaled(found[1])
    if found is None or argument is None:
        return None
    if found[0].name == "erf" and argument[0] is x and near(argument[1], 2.0**-0.5):
        return "gelu"
    is_tanh = found[0].name == "tanh" and near(argument[1], (2 / pi) ** 0.5)
    return "gelu_tanh" if is_tanh and is_cubic(argument[0], x) else None


def is_cubic(value: SSAValue, x: SSAValue) -> bool:
    """``x + 0.044715 * x**3``."""
    add = defining(value, nn.AddOp)
    if add is None or add.activation is not None:
        return False
    for own, other in split(add):
        by = scaled(other)
        if own is x and by is not None and near(by[1], 0.044715) and is_cube(by[0], x):
            return True
    return False


def is_cube(value: SSAValue, x: SSAValue) -> bool:
    """``x**3`` as a power or two products."""
    power = defining(value, nn.PowOp)
    if power is not None:
        return power.lhs is x and scalar_of(power.rhs) == 3.0
    mul = defining(value, nn.MulOp)
    return mul is not None and any(own is x and is_square(other, x) for own, other in split(mul))


def is_square(value: SSAValue, x: SSAValue) -> bool:
    power, mul = defining(value, nn.PowOp), defining(value, nn.MulOp)
    if power is not None:
        return power.lhs is x and scalar_of(power.rhs) == 2.0
    return mul is not None and mul.activation is None and mul.lhs is x and mul.rhs is x


class ScaledProduct(RewritePattern):
    """``(x * g) * c`` with a gate that needs the constant: regrouped hard-swish and GELU."""

    def match_and_rewrite(self, op: object, rewriter: PatternRewriter) -> None:
        if not isinstance(op, nn.MulOp | nn.DivOp):
            return
        by = scaled(op.result)
        product = None if by is None else defining(by[0], nn.MulOp)
        if by is not None and product is not None and product.activation is None:
            for x, gate in split(product):
                if near(by[1], 1 / 6) and as_relu6(gate) is x:
                    replace_named(rewriter, op, nn.UnaryOp(x, nn.fn("hard_swish")))
                    return
                name = gelu_name(gate, x) if near(by[1], 0.5) else None
                if name is not None:
                    replace_named(rewriter, op, nn.UnaryOp(x, nn.fn(name)))
                    return
        if isinstance(op, nn.MulOp):
            self.scaled_operand(op, rewriter)

    @staticmethod
    def scaled_operand(op: nn.MulOp, rewriter: PatternRewriter) -> None:
        """``(x * c) * g``."""
        for part, gate in split(op):
            by = scaled(part)
            if by is None or op.activation is not None:
                continue
            name = gelu_name(gate, by[0]) if near(by[1], 0.5) else None
            if name is not None:
                replace_named(rewriter, op, nn.UnaryOp(by[0], nn.fn(name)))
                return
            if near(by[1], 1 / 6) and as_relu6(gate) is by[0]:
                replace_named(rewriter, op, nn.UnaryOp(by[0], nn.fn("hard_swish")))
                return


class Clip(RewritePattern):
    """``min(max(x, a), b)`` and merged clamps."""

    def match_and_rewrite(self, op: object, rewriter: PatternRewriter) -> None:
        if isinstance(op, nn.MaximumOp | nn.MinimumOp):
            self.from_bounds(op, rewriter)
        elif isinstance(op, nn.UnaryOp) and op.fn.data.bounds is not None:
            self.merge(op, rewriter)

    @staticmethod
    def from_bounds(op: nn.MaximumOp | nn.MinimumOp, rewriter: PatternRewriter) -> None:
        x, bound = op.lhs, scalar_of(op.rhs)
        if bound is None:
            x, bound = op.rhs, scalar_of(op.lhs)
        if bound is None or not np.isfinite(bound) or shape_of(x) != shape_of(op.result):
            return
        if isinstance(op, nn.MaximumOp):
            function = nn.fn("relu") if bound == 0 else nn.fn("clip", bound, LARGEST)
        else:
            function = nn.fn("clip", -LARGEST, bound)
        replace_named(rewriter, op, nn.UnaryOp(x, function))

    @staticmethod
    def merge(op: nn.UnaryOp, rewriter: PatternRewriter) -> None:
        inner = defining(op.x, nn.UnaryOp)
        if inner is None or inner.fn.data.bounds is None or op.fn.data.bounds is None:
            return
        (a, b), (c, d) = inner.fn.data.bounds, op.fn.data.bounds
        low, high = min(max(a, c), d), max(min(b, d), c)
        high = min(high, LARGEST)
        if low > high:
            return
        function = nn.fn("relu") if (low, high) == (0.0, LARGEST) else nn.fn("clip", low, high)
        replace_named(rewriter, op, nn.UnaryOp(inner.x, function))


@dataclass(frozen=True)
class RecognizeIdiomsPass(ModulePass):
    """See the module's documentation."""

    name = "recognize-idioms"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        apply_patterns(op, Clip(), HardSigmoid(), ScaledProduct(), SelfGated())
