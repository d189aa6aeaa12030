"""Convolutions and pools with any window, against ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.frontend.single_op import check_same, interpreted, make_model, node, normal
from uqfc.errors import ModelError, UnsupportedError
from uqfc.frontend import import_onnx

FEWER = settings(max_examples=60)


@dataclass(frozen=True)
class Case:
    """Spatial sizes and the attributes of a window."""

    size: list[int]
    kernel: list[int]
    attributes: dict[str, Any]


@st.composite
def windows(draw: st.DrawFn, *, auto: bool = True) -> Case:
    """ONNX Runtime neither dilates nor skips pixels where ``auto_pad`` is SAME."""
    spatial = draw(st.integers(1, 2))

    def each(low: int, high: int) -> list[int]:
        return [draw(st.integers(low, high)) for _ in range(spatial)]

    mode = draw(st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    dilated = mode in ("NOTSET", "VALID") or not auto
    kernel, dilations = each(1, 3), each(1, 2) if dilated else [1] * spatial
    size = [k * d + draw(st.integers(0, 5)) for k, d in zip(kernel, dilations, strict=True)]
    widest_stride = min(kernel) if mode.startswith("SAME") and auto else 3
    attributes: dict[str, Any] = {"strides": each(1, widest_stride)}
    if dilated:
        attributes["dilations"] = dilations
    if auto and mode != "NOTSET":
        attributes["auto_pad"] = mode
    else:
        widest = [(k - 1) // 2 for k in kernel]
        attributes["pads"] = [draw(st.integers(0, w)) for w in widest * 2]
    return Case(size, kernel, attributes)


@FEWER
@given(windows(), st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.booleans())
def test_conv(case: Case, groups: int, per_group: int, batch: int, with_bias: bool) -> None:
    channels = 2 * groups
    weight = normal(0, groups * per_group, 2, *case.kernel)
    constants = {"w": weight, "b": normal(1, groups * per_group)}
    names = ["x", "w", "b"] if with_bias else ["x", "w"]
    x = normal(2, batch, channels, *case.size)
    conv = node("Conv", names, ["y"], group=groups, **case.attributes)
    model = make_model([conv], {"x": x.shape}, ["y"], {n: constants[n] for n in names[1:]})
    check_same(model, {"x": x})


def test_conv_with_a_weight_that_is_computed() -> None:
    x, w = normal(0, 1, 3, 5, 6), normal(1, 4, 3, 2, 3)
    nodes = [node("Mul", ["w", "w"], ["v"]), node("Conv", ["x", "v"], ["y"])]
    check_same(make_model(nodes, {"x": x.shape, "w": w.shape}, ["y"]), {"x": x, "w": w})


def test_conv_of_three_dimensions_is_unsupported() -> None:
    model = make_model(
        [node("Conv", ["x", "w"], ["y"])],
        {"x": [1, 2, 4, 4, 4]},
        ["y"],
        {"w": normal(0, 2, 2, 1, 1, 1)},
    )
    with pytest.raises(UnsupportedError, match=r"Conv 'y_node': 3 spatial dimensions"):
        import_onnx(model)


@pytest.mark.parametrize(
    ("weight", "attributes", "message"),
    [
        ((4, 3, 3, 3), {"group": 2}, "weight"),
        ((4, 2, 3, 3), {}, "weight"),
        ((4, 3, 3), {}, "does not fit"),
        ((4, 3, 3, 3), {"kernel_shape": [5, 5]}, "kernel_shape"),
        ((4, 3, 3, 3), {"pads": [1, 1]}, "pads"),
        ((4, 3, 3, 3), {"strides": [0, 1]}, "strides"),
        ((4, 3, 9, 9), {}, "window"),
    ],
)
def test_shapes_that_do_not_fit(
    weight: tuple[int, ...], attributes: dict[str, Any], message: str
) -> None:
    model = make_model(
        [node("Conv", ["x", "w"], ["y"], **attributes)],
        {"x": [1, 3, 8, 8]},
        ["y"],
        {"w": np.zeros(weight, np.float32)},
    )
    with pytest.raises(ModelError, match=f"model: Conv 'y_node': .*{message}"):
        import_onnx(model)


@FEWER
@given(windows(), st.booleans())
def test_max_pool(case: Case, ceil_mode: bool) -> None:
    attributes = case.attributes
    assume(not (ceil_mode and "auto_pad" in attributes))
    x = normal(0, 2, 3, *case.size)
    pool = node(
        "MaxPool", ["x"], ["y"], kernel_shape=case.kernel, ceil_mode=ceil_mode, **attributes
    )
    check_same(make_model([pool], {"x": x.shape}, ["y"]), {"x": x})


@FEWER
@given(windows(), st.booleans(), st.booleans())
def test_average_pool(case: Case, ceil_mode: bool, include: bool) -> None:
    """Without a window that lies in the padding alone, whose mean is not defined."""
    attributes = case.attributes
    assume(not (ceil_mode and "auto_pad" in attributes))
    pool = node(
        "AveragePool",
        ["x"],
        ["y"],
        kernel_shape=case.kernel,
        ceil_mode=ceil_mode,
        count_include_pad=include,
        **attributes,
    )
    x = normal(0, 2, 3, *case.size)
    check_same(make_model([pool], {"x": x.shape}, ["y"]), {"x": x})


@FEWER
@given(windows(auto=False), st.integers(1, 2), st.integers(1, 2), st.integers(0, 1))
def test_conv_transpose(case: Case, groups: int, per_group: int, extra: int) -> None:
    attributes = dict(case.attributes)
    strides, dilations = attributes["strides"], attributes["dilations"]
    output_padding = [
        min(extra, s - 1, d - 1) if s > 1 else 0 for s, d in zip(strides, dilations, strict=True)
    ]
    weight = normal(0, 2 * groups, per_group, *case.kernel)
    x = normal(1, 2, 2 * groups, *case.size)
    op = node(
        "ConvTranspose",
        ["x", "w", "b"],
        ["y"],
        group=groups,
        output_padding=output_padding,
        **attributes,
    )
    constants = {"w": weight, "b": normal(2, groups * per_group)}
    check_same(make_model([op], {"x": x.shape}, ["y"], constants), {"x": x})


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
def test_conv_transpose_with_automatic_padding(mode: str) -> None:
    x = normal(0, 1, 2, 4, 5)
    op = node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2], auto_pad=mode)
    model = make_model([op], {"x": x.shape}, ["y"], {"w": normal(1, 2, 3, 3, 3)})
    assert interpreted(model, {"x": x})[0].shape == (1, 3, 8, 10)
    check_same(model, {"x": x})


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("shape", [(2, 3, 7), (2, 3, 5, 6)])
def test_global_pools(op: str, shape: tuple[int, ...]) -> None:
    check_same(make_model([node(op, ["x"], ["y"])], {"x": shape}, ["y"]), {"x": normal(0, *shape)})


@pytest.mark.parametrize(
    "attributes",
    [{"group": 0}, {"group": 3}, {"pads": [1]}, {"output_padding": [0]}, {"output_shape": [9]}],
)
def test_transposed_convolutions_that_do_not_fit(attributes: dict[str, Any]) -> None:
    op = node("ConvTranspose", ["x", "w"], ["y"], **attributes)
    model = make_model([op], {"x": (1, 2, 4, 5)}, ["y"], {"w": normal(1, 2, 3, 3, 3)})
    with pytest.raises(ModelError, match="model: ConvTranspose 'y_node': "):
        import_onnx(model)
