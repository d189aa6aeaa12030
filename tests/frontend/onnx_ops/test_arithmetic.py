"""Elementwise ops, products, reductions and normalisations, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from tests.frontend.single_op import check_same, make_model, node, normal
from uqfc.dialects import nn
from uqfc.errors import ModelError, UnsupportedError
from uqfc.frontend import import_onnx
from uqfc.interpreter import main_function

FEWER = settings(max_examples=50)


def ops_of(model: Any) -> list[str]:
    return [op.name for op in main_function(import_onnx(model)).body.block.ops]


@FEWER
@given(
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(1, 5),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([0.5, 1.0]),
    st.sampled_from(["none", "scalar", "row", "matrix", "column"]),
    st.booleans(),
)
def test_gemm(
    m: int,
    n: int,
    k: int,
    trans_a: bool,
    trans_b: bool,
    beta: float,
    alpha: float,
    addend: str,
    dynamic: bool,
) -> None:
    a = normal(0, *((k, m) if trans_a else (m, k)))
    b = normal(1, *((n, k) if trans_b else (k, n)))
    c = {"scalar": (), "row": (n,), "matrix": (m, n), "column": (m, 1)}
    names, values = ["a", "b"], {"a": a, "b": b}
    if addend != "none":
        names.append("c")
        values["c"] = normal(2, *c[addend])
    op = node("Gemm", names, ["y"], alpha=alpha, beta=beta, transA=trans_a, transB=trans_b)
    inputs = values if dynamic else {"a": a}
    constants = {} if dynamic else {n: v for n, v in values.items() if n != "a"}
    model = make_model([op], {n: v.shape for n, v in inputs.items()}, ["y"], constants)
    check_same(model, inputs)


def test_a_gemm_with_a_constant_bias_is_one_linear_layer() -> None:
    op = node("Gemm", ["x", "w", "b"], ["y"], transB=1)
    constants = {"w": normal(0, 4, 3), "b": normal(1, 4)}
    model = make_model([op], {"x": [2, 3]}, ["y"], constants)
    assert ops_of(model) == ["nn.constant", "nn.constant", "nn.linear", "func.return"]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((3,), (3,)),
        ((3,), (3, 4)),
        ((2, 3), (3,)),
        ((5, 2, 3), (3,)),
        ((2, 3), (3, 4)),
        ((5, 2, 3), (3, 4)),
        ((5, 2, 3), (5, 3, 4)),
        ((2, 3), (5, 3, 4)),
        ((3,), (5, 3, 4)),
        ((6, 1, 2, 3), (5, 3, 4)),
    ],
)
@pytest.mark.parametrize("constant", [True, False])
def test_matmul(left: tuple[int, ...], right: tuple[int, ...], constant: bool) -> None:
    x, w = normal(0, *left), normal(1, *right)
    op = node("MatMul", ["x", "w"], ["y"])
    inputs = {"x": x} if constant else {"x": x, "w": w}
    shapes = {n: v.shape for n, v in inputs.items()}
    check_same(make_model([op], shapes, ["y"], {"w": w} if constant else {}), inputs)


def test_products_that_do_not_fit() -> None:
    model = make_model([node("MatMul", ["x", "w"], ["y"])], {"x": [2, 3], "w": [4, 5]}, ["y"])
    with pytest.raises(ModelError, match=r"model: MatMul 'y_node': \[2, 3\] and \[4, 5\]"):
        import_onnx(model)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5), (2, 3, 4, 5)])
@pytest.mark.parametrize("constant", [True, False])
def test_batch_normalization(shape: tuple[int, ...], constant: bool) -> None:
    parameters = {n: np.abs(normal(i, 3)) for i, n in enumerate("sbmv")}
    x = normal(9, *shape)
    op = node("BatchNormalization", ["x", *parameters], ["y"], epsilon=1e-3)
    inputs = {"x": x} if constant else {"x": x, **parameters}
    shapes = {n: v.shape for n, v in inputs.items()}
    check_same(make_model([op], shapes, ["y"], parameters if constant else {}), inputs)


def test_batch_normalization_is_a_product_and_a_sum() -> None:
    parameters = {n: np.abs(normal(i, 3)) for i, n in enumerate("sbmv")}
    op = node("BatchNormalization", ["x", *parameters], ["y"])
    model = make_model([op], {"x": [1, 3, 4, 4]}, ["y"], parameters)
    names = ["nn.constant", "nn.mul", "nn.constant", "nn.add", "func.return"]
    assert ops_of(model) == names


@FEWER
@given(
    st.sampled_from(["Sum", "Mean", "Max", "Min", "L1", "L2", "SumSquare", "LogSumExp"]),
    st.sets(st.integers(-3, 2)),
    st.booleans(),
    st.sampled_from([13, 21]),
)
def test_reductions(kind: str, axes: set[int], keep: bool, opset: int) -> None:
    chosen = sorted({a % 3 for a in axes})
    x = normal(0, 2, 3, 4)
    constants: dict[str, Any] = {}
    as_input = opset >= 18 or kind == "Sum"
    attributes: dict[str, Any] = {"keepdims": keep}
    if chosen and as_input:
        constants["axes"] = np.array(chosen, np.int64)
    elif chosen:
        attributes["axes"] = chosen
    op = node(f"Reduce{kind}", ["x", *constants], ["y"], **attributes)
    check_same(make_model([op], {"x": x.shape}, ["y"], constants, opset=opset), {"x": x})


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("opset", [11, 13])
def test_softmax_by_the_rules_of_the_opset(op: str, axis: int, opset: int) -> None:
    x = normal(0, 3, 4, 5)
    model = make_model([node(op, ["x"], ["y"], axis=axis)], {"x": x.shape}, ["y"], opset=opset)
    check_same(model, {"x": x})


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
def test_arg_extremes_among_equals(op: str, last: int) -> None:
    x = np.array([[1, 3, 3, -2, -2, 1]], np.float32)
    for keep in (0, 1):
        extreme = node(op, ["x"], ["y"], axis=1, keepdims=keep, select_last_index=last)
        model = make_model([extreme], {"x": x.shape}, ["y"], types={"y": TensorProto.INT64})
        check_same(model, {"x": x})


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.0, 6.0), (0.0, None), (None, 1.0), (-1.0, None), (None, None), (1.0, -1.0)],
)
def test_clip(low: float | None, high: float | None) -> None:
    bounds = {"lo": low, "hi": high}
    constants = {n: np.array(v, np.float32) for n, v in bounds.items() if v is not None}
    names = [n if n in constants else "" for n in bounds]
    x = 5 * normal(0, 40)
    check_same(
        make_model([node("Clip", ["x", *names], ["y"])], {"x": [40]}, ["y"], constants), {"x": x}
    )


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [(0.0, 6.0, nn.fn("clip", 0, 6)), (0.0, None, nn.fn("relu"))],
)
def test_usual_clips_are_functions(low: float, high: float | None, wanted: Any) -> None:
    attributes = {"min": low} | ({} if high is None else {"max": high})
    model = make_model([node("Clip", ["x"], ["y"], **attributes)], {"x": [4]}, ["y"], opset=9)
    (op, _) = main_function(import_onnx(model)).body.block.ops
    assert isinstance(op, nn.UnaryOp)
    assert op.fn == wanted


@pytest.mark.parametrize("slope", [(1,), (3, 1, 1), (4,), (2, 3, 1, 1)])
def test_prelu(slope: tuple[int, ...]) -> None:
    x, s = normal(0, 2, 3, 5, 4), normal(1, *slope)
    op = node("PRelu", ["x", "s"], ["y"])
    check_same(make_model([op], {"x": x.shape}, ["y"], {"s": s}), {"x": x})


UNARY: dict[str, dict[str, Any]] = {
    "Relu": {},
    "Sigmoid": {},
    "Tanh": {},
    "Erf": {},
    "Exp": {},
    "Abs": {},
    "Neg": {},
    "Ceil": {},
    "Floor": {},
    "Round": {},
    "Sign": {},
    "Softplus": {},
    "Softsign": {},
    "Mish": {},
    "HardSwish": {},
    "HardSigmoid": {"alpha": 0.3, "beta": 0.4},
    "Elu": {"alpha": 0.7},
    "Celu": {"alpha": 0.7},
    "Selu": {"alpha": 1.2, "gamma": 1.1},
    "LeakyRelu": {"alpha": 0.2},
    "ThresholdedRelu": {"alpha": 0.4},
    "Shrink": {"lambd": 0.4, "bias": 0.1},
}


@pytest.mark.parametrize("op", sorted(UNARY))
@pytest.mark.parametrize("given_attributes", [True, False])
def test_functions_with_attributes_given_and_default(op: str, given_attributes: bool) -> None:
    """Against ONNX Runtime, whose Mish and Softsign are not the same polynomials.

    Its exponentials and tangents are good to some 2e-6 of 1, and to 1e-4 of small results, which
    are differences of values near 1.
    """
    attributes = UNARY[op] if given_attributes else {}
    x = 3 * normal(0, 200)
    model = make_model([node(op, ["x"], ["y"], **attributes)], {"x": x.shape}, ["y"])
    check_same(model, {"x": x}, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu(approximate: str) -> None:
    x = 3 * normal(0, 200)
    model = make_model([node("Gelu", ["x"], ["y"], approximate=approximate)], {"x": [200]}, ["y"])
    # Both polynomials of erf and tanh err by less than 2**-22 of 1, times |x| / 2 < 5: 1.2e-6.
    check_same(model, {"x": x}, atol=2e-6)


@pytest.mark.parametrize("exponent", [0.5, 2.0, 3.0, [2.0], [[2.0]], [1.0, 2.0, 3.0]])
def test_pow(exponent: Any) -> None:
    constants = {"e": np.array(exponent, np.float32)}
    x = np.abs(normal(0, 3))
    check_same(make_model([node("Pow", ["x", "e"], ["y"])], {"x": [3]}, ["y"], constants), {"x": x})


@pytest.mark.parametrize("fmod", [0, 1])
def test_remainders_of_integers(fmod: int) -> None:
    values = np.array([-7, -6, -1, 0, 1, 6, 7], np.int64)
    x, y = np.repeat(values, 4), np.tile(np.array([-3, -2, 2, 3], np.int64), 7)
    types = dict.fromkeys("xyz", TensorProto.INT64)
    model = make_model(
        [node("Mod", ["x", "y"], ["z"], fmod=fmod)],
        {"x": x.shape, "y": y.shape},
        ["z"],
        types=types,
    )
    check_same(model, {"x": x, "y": y})


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_layer_normalization(axis: int) -> None:
    x = normal(0, 2, 3, 4)
    tail = x.shape[axis % 3 :]
    constants = {"s": normal(1, *tail), "b": normal(2, *tail)}
    for names in (["x", "s", "b"], ["x", "s"]):
        op = node("LayerNormalization", names, ["y"], axis=axis)
        used = {n: constants[n] for n in names[1:]}
        check_same(make_model([op], {"x": x.shape}, ["y"], used), {"x": x})


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 4, 5)])
def test_instance_normalization(shape: tuple[int, ...]) -> None:
    constants = {"s": normal(1, 3), "b": normal(2, 3)}
    op = node("InstanceNormalization", ["x", "s", "b"], ["y"])
    check_same(make_model([op], {"x": shape}, ["y"], constants), {"x": normal(0, *shape)})


def test_a_division_by_a_variance_that_is_not_positive() -> None:
    parameters = {n: np.full(3, -1, np.float32) for n in "sbmv"}
    op = node("BatchNormalization", ["x", *parameters], ["y"])
    with pytest.raises(ModelError, match=r"variance \+ epsilon is not positive"):
        import_onnx(make_model([op], {"x": [1, 3, 4, 4]}, ["y"], parameters))


def test_training_is_unsupported() -> None:
    parameters = {n: np.ones(3, np.float32) for n in "sbmv"}
    op = node("BatchNormalization", ["x", *parameters], ["y", "m2", "v2"], training_mode=1)
    with pytest.raises(UnsupportedError, match="'training_mode' is 1, supported: 0"):
        import_onnx(make_model([op], {"x": [1, 3, 4, 4]}, ["y"], parameters))
