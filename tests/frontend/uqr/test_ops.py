"""Every op of the ``nn`` dialect, alone, as ONNX and back: the same bits, and a valid file."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from xdsl.dialects.builtin import f32, i1, i32, i64
from xdsl.ir import Attribute, SSAValue

from tests.frontend.uqr.test_round_trip import assert_same_results, layers_of, read_back
from tests.networks import NetworkBuilder, named, quantized, run
from uqfc.dialects import nn
from uqfc.dialects.nn import Nn
from uqfc.dialects.quant import ObserveOp
from uqfc.dialects.tensors import Array, i8, shape_of, ui8
from uqfc.elementary import UNARY
from uqfc.errors import UqfcError
from uqfc.frontend.uqr import write_uqr
from uqfc.frontend.uqr.export.registry import EXPORTERS
from uqfc.pipeline import graph_passes, integer_passes

SHAPE = (2, 5, 4, 3)
Make = Callable[[NetworkBuilder, SSAValue, SSAValue], SSAValue]


def check(b: NetworkBuilder, *results: SSAValue) -> None:
    module = run(named(b.module(results)), *graph_passes())
    data = write_uqr(module)
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    assert_same_results(module, read_back(module))


def constant(b: NetworkBuilder, array: Array, element: Attribute | None = None) -> SSAValue:
    return b.add(nn.ConstantOp(array, element))


def image(b: NetworkBuilder, x: SSAValue) -> SSAValue:
    """Something that ONNX has as NCHW."""
    return b.layer(nn.Conv2dOp(x, b.weights("plain", 3, 1, 1, 3)))


@pytest.mark.parametrize("name", sorted(UNARY))
def test_functions(name: str) -> None:
    b = NetworkBuilder([SHAPE])
    params = {"clip": (-0.5, 0.7), "hard_sigmoid": (0.2, 0.5)}.get(name, (0.3,))
    function = nn.fn(name, *params[: UNARY[name].parameters])
    check(b, b.add(nn.UnaryOp(image(b, b.block.args[0]), function)))


def predicate(name: str) -> Make:
    return lambda b, x, y: b.add(
        nn.SelectOp(b.add(nn.CompareOp(x, y, name)), x, b.constant(np.arange(3.0)))
    )


def logic(kind: type[nn.BinaryOp]) -> Make:
    def make(b: NetworkBuilder, x: SSAValue, y: SSAValue) -> SSAValue:
        zero = b.constant(0.0)
        conditions = [b.add(nn.CompareOp(v, zero, "gt")) for v in (x, y)]
        both = b.add(kind(*conditions))
        return b.add(nn.CastOp(b.add(nn.CompareOp(both, conditions[0], "ne")), f32))

    return make


def interpolated(b: NetworkBuilder, x: SSAValue, y: SSAValue) -> SSAValue:
    indices = constant(b, np.array([[0, 1], [1, 2], [3, 3]], np.int64))
    weights = b.constant(np.array([[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]]))
    return b.add(nn.InterpolateOp(x, indices, weights, 1))


def gathered(b: NetworkBuilder, x: SSAValue, y: SSAValue) -> SSAValue:
    rows = constant(b, np.array([[0, -1], [2, 9]], np.int64))
    picked = b.add(nn.GatherOp(x, rows, 1))
    return b.add(nn.ReduceOp(picked, "sum", (1, 2)))


def gathered_at_run_time(b: NetworkBuilder, x: SSAValue, y: SSAValue) -> SSAValue:
    mean = b.add(nn.ReduceOp(b.add(nn.UnaryOp(y, nn.fn("sigmoid"))), "mean", (0, 1, 2, 3)))
    index = b.add(nn.CastOp(b.add(nn.ReshapeOp(mean, (1,))), i64))
    return b.add(nn.GatherOp(x, index, 3))


OTHERS: dict[str, Make] = {
    "add": lambda b, x, y: b.add(nn.AddOp(x, y)),
    "add_channels": lambda b, x, y: b.add(nn.AddOp(x, b.constant(np.arange(3.0)))),
    "add_rows": lambda b, x, y: b.add(nn.AddOp(b.add(nn.ReduceOp(x, "max", (0, 3))), y)),
    "sub_scalar": lambda b, x, y: b.add(nn.SubOp(b.constant(0.5), x)),
    "mul": lambda b, x, y: b.add(nn.MulOp(x, y)),
    "div": lambda b, x, y: b.add(nn.DivOp(x, b.constant(3.0))),
    "maximum": lambda b, x, y: b.add(nn.MaximumOp(x, y)),
    "minimum": lambda b, x, y: b.add(nn.MinimumOp(x, b.constant(np.array([0.1, 0.2, 0.3])))),
    "pow": lambda b, x, y: b.add(nn.PowOp(b.add(nn.UnaryOp(x, nn.fn("exp"))), b.constant(1.7))),
    "pow_2": lambda b, x, y: b.add(nn.PowOp(x, b.constant(2.0))),
    "pow_half": lambda b, x, y: b.add(
        nn.PowOp(b.add(nn.UnaryOp(x, nn.fn("abs"))), b.constant(0.5))
    ),
    **{f"compare_{name}": predicate(name) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    "and": logic(nn.MinimumOp),
    "or": logic(nn.MaximumOp),
    "cast": lambda b, x, y: b.add(nn.CastOp(b.add(nn.CastOp(x, i32)), f32)),
    "cast_bool": lambda b, x, y: b.add(nn.CastOp(b.add(nn.CastOp(x, i1)), f32)),
    "cast_byte": lambda b, x, y: b.add(nn.CastOp(b.add(nn.CastOp(x, ui8)), f32)),
    "concat": lambda b, x, y: b.add(nn.ConcatOp([x, y, x], 2)),
    "slice": lambda b, x, y: b.add(nn.SliceOp(x, (0, 4, 1, 2), (2, 5, 2, 1), (1, -1, 2, 1))),
    "pad": lambda b, x, y: b.add(nn.PadOp(x, (0, 1, 0, 2), (0, 0, 1, 0), -1.5)),
    "pad_reflect": lambda b, x, y: b.add(nn.PadOp(x, (0, 1, 1, 0), (0, 2, 0, 1), 0.0, "reflect")),
    "pad_edge": lambda b, x, y: b.add(nn.PadOp(x, (0, 1, 1, 0), (0, 2, 0, 1), 0.0, "edge")),
    "broadcast": lambda b, x, y: b.add(nn.BroadcastOp(b.add(nn.ReduceOp(x, "min", (1, 2))), SHAPE)),
    "broadcast_rank": lambda b, x, y: b.add(
        nn.BroadcastOp(b.add(nn.ReduceOp(x, "min", (1, 2))), (3, *SHAPE))
    ),
    "gather": gathered,
    "gather_at_run_time": gathered_at_run_time,
    "interpolate": interpolated,
    "transpose": lambda b, x, y: b.add(nn.TransposeOp(x, (3, 1, 0, 2))),
    "reshape": lambda b, x, y: b.add(nn.ReshapeOp(x, (10, 12))),
    "max_pool": lambda b, x, y: b.add(nn.MaxPool2dOp(x, (2, 3), (2, 1), (0, 1, 1, 0))),
    "avg_pool": lambda b, x, y: b.add(nn.AvgPool2dOp(x, (2, 2), (1, 2), (1, 0, 0, 1))),
    "avg_pool_padding": lambda b, x, y: b.add(
        nn.AvgPool2dOp(x, (3, 2), (1, 2), (1, 0, 0, 1), (1, 2), count_include_pad=True)
    ),
    **{
        f"reduce_{kind}": lambda b, x, y, kind=kind: b.add(nn.ReduceOp(x, kind, (1, 3)))
        for kind in ("sum", "mean", "max", "min", "prod")
    },
    "reduce_all": lambda b, x, y: b.add(nn.ReduceOp(x, "sum", (0, 1, 2, 3))),
    "softmax": lambda b, x, y: b.add(nn.SoftmaxOp(x, 3)),
    "layer_norm": lambda b, x, y: b.add(
        nn.LayerNormOp(x, b.constant(np.ones((4, 3))), b.constant(np.zeros((4, 3))), 1e-5)
    ),
    "lrn": lambda b, x, y: b.add(nn.LrnOp(x, 3, 1e-2, 0.75, 1.0)),
    "linear": lambda b, x, y: b.linear(x, 7, nn.fn("relu")),
    "linear_rows": lambda b, x, y: b.linear(b.add(nn.ReshapeOp(x, (40, 3))), 7, nn.fn("relu")),
    "linear_residual": lambda b, x, y: b.layer(
        nn.LinearOp(x, b.weights("plain", 3, 3), b.constant(np.arange(3.0)), y)
    ),
    "linear_run_time": lambda b, x, y: b.layer(
        nn.LinearOp(x, b.add(nn.ReshapeOp(y, (40, 3))), b.constant(np.arange(40.0)))
    ),
    "conv_run_time": lambda b, x, y: b.layer(
        nn.Conv2dOp(x, b.add(nn.SliceOp(y, (0, 0, 0, 0), (2, 3, 2, 3))), padding=(1, 0, 2, 1))
    ),
    "matmul": lambda b, x, y: b.add(nn.MatmulOp(x, b.add(nn.TransposeOp(y, (0, 1, 3, 2))))),
    "matmul_constant": lambda b, x, y: b.add(nn.MatmulOp(x, b.weights("plain", 3, 6))),
    "integers": lambda b, x, y: b.add(
        nn.CastOp(
            b.add(nn.DivOp(b.add(nn.CastOp(x, i32)), constant(b, np.array([-2, 3, 0], np.int32)))),
            i8,
        )
    ),
}


@pytest.mark.parametrize("layout", ["image", "plain"])
@pytest.mark.parametrize("name", OTHERS)
def test_others(name: str, layout: str) -> None:
    b = NetworkBuilder([SHAPE, SHAPE])
    x, y = b.block.args
    check(b, OTHERS[name](b, image(b, x) if layout == "image" else x, y))


def test_every_op_has_an_exporter() -> None:
    assert set(Nn.operations) <= set(EXPORTERS)


@pytest.mark.parametrize("strategy", ["int8", "int4", "ternary", "binary", "mixed_int4_int8"])
def test_linear_layers_of_sequences(strategy: str) -> None:
    """Their bias is an addition of its own in ONNX."""
    b = NetworkBuilder([(2, 5, 6)])
    x = b.block.args[0]
    first = b.linear(x, 8, nn.fn("relu"))
    weight, bias = b.weights("plain", 6, 8), b.constant(np.arange(6.0))
    last = b.layer(nn.LinearOp(first, weight, bias, x, activation=nn.fn("hard_swish")))
    module = quantized(named(b.module([last])), strategy)
    expected, actual = (run(m, *integer_passes()) for m in (module.clone(), read_back(module)))
    assert_same_results(expected, actual)
    assert len(layers_of(expected)) == 2
    assert layers_of(actual) == layers_of(expected)


def test_a_point_that_was_not_calibrated() -> None:
    b = NetworkBuilder([SHAPE])
    module = named(b.module([b.add(ObserveOp(b.block.args[0], "q0"))]))
    with pytest.raises(UqfcError, match=r"quant\.observe"):
        write_uqr(module)


def test_outputs_that_are_inputs_constants_and_each_other() -> None:
    b = NetworkBuilder([SHAPE])
    x = b.block.args[0]
    y = image(b, x)
    turned = b.add(nn.TransposeOp(y, (0, 3, 1, 2)))
    assert shape_of(turned) == (2, 3, 5, 4)
    check(b, x, y, y, turned, b.constant(np.array([1.0, 2.0])), turned)
