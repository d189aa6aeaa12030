from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import FloatAttr, ModuleOp, f64

from tests.networks import NetworkBuilder, networks, run, with_observers
from tests.passes.graphs import assert_exact
from uqfc.dialects import nn
from uqfc.passes.insert_observers import InsertObserversPass
from uqfc.passes.select_bit_width import (
    SENSITIVITY,
    WIDTHS,
    Decision,
    Reason,
    SelectBitWidthPass,
    decision_of,
    narrowest_supported,
)
from uqfc.passes.support.quantizable import LAYERS


def decisions(module: ModuleOp) -> list[Decision | None]:
    return [decision_of(op) for op in module.walk() if isinstance(op, LAYERS)]


@settings(max_examples=25)
@given(networks(), st.sampled_from([*WIDTHS, "mixed_int4_int8"]))
def test_exact(module: ModuleOp, strategy: str) -> None:
    assert_exact(module, InsertObserversPass(), SelectBitWidthPass(strategy, "x86-64"))


@settings(max_examples=25)
@given(networks())
@pytest.mark.parametrize("strategy", WIDTHS)
def test_every_layer_gets_what_was_requested(strategy: str, module: ModuleOp) -> None:
    chosen = run(with_observers(module), SelectBitWidthPass(strategy, "x86-64"))
    assert set(decisions(chosen)) == {Decision(strategy, strategy, Reason.REQUESTED)}


@settings(max_examples=25)
@given(networks(), st.sampled_from(["int4", "mixed_int4_int8"]))
def test_a_target_without_int4_gets_int8(module: ModuleOp, strategy: str) -> None:
    chosen = run(with_observers(module), SelectBitWidthPass(strategy, "edge_device_v2"))
    assert set(decisions(chosen)) == {Decision("int4", "int8", Reason.UNSUPPORTED_BY_TARGET)}


def test_what_a_layer_may_have_depends_on_its_op(tmp_path: Path) -> None:
    source = resources.files("uqfc.targets").joinpath("edge_device_v2.toml").read_text()
    more = '[[kernels]]\nops = ["linear"]\nweights = ["ternary"]\nactivations = ["uint8"]\n'
    path = tmp_path / "device.toml"
    path.write_text(source + more)
    b = NetworkBuilder([(1, 4, 4, 8)])
    weight = b.weights("plain", 8, 3, 3, 1)
    x = b.layer(nn.Conv2dOp(b.block.args[0], weight, groups=8))
    module = with_observers(b.module([b.linear(x, 3)]))
    for strategy, expected in (("binary", "ternary"), ("ternary", "ternary"), ("int4", "int8")):
        run(module, SelectBitWidthPass(strategy, str(path)))
        depthwise, linear = decisions(module)
        assert depthwise == Decision(strategy, "int8", Reason.UNSUPPORTED_BY_TARGET)
        assert linear is not None
        assert (linear.chosen, linear.is_fallback) == (expected, strategy != expected)


def test_a_sensitive_layer_gets_no_type_that_the_target_lacks(tmp_path: Path) -> None:
    source = resources.files("uqfc.targets").joinpath("edge_device_v2.toml").read_text()
    path = tmp_path / "device.toml"
    path.write_text(source.replace('weights = ["int8"]', 'weights = ["int4"]'))
    b = NetworkBuilder([(1, 4)])
    module = with_observers(b.module([b.linear(b.block.args[0], 3)]))
    (layer,) = [op for op in module.walk() if isinstance(op, LAYERS)]
    layer.attributes[SENSITIVITY] = FloatAttr(0.5, f64)
    run(module, SelectBitWidthPass("mixed_int4_int8", str(path)))
    assert decisions(module) == [Decision("int4", "int4", Reason.REQUESTED)]


@given(st.sampled_from(WIDTHS), st.sets(st.sampled_from(["float32", *WIDTHS])))
def test_a_weight_type_falls_back_to_the_next_wider_one(
    requested: str, supported: set[str]
) -> None:
    chosen = narrowest_supported(requested, supported)
    between = WIDTHS[WIDTHS.index(requested) : WIDTHS.index(chosen)]
    assert not supported & set(between)
    assert chosen in supported or chosen == "int8"


@settings(max_examples=25)
@given(networks(), st.floats(0, 1), st.lists(st.floats(0, 1), min_size=1))
def test_mixed_keeps_int8_where_int4_loses_more_than_the_tolerance(
    module: ModuleOp, tolerance: float, losses: list[float]
) -> None:
    observed = with_observers(module)
    layers = [op for op in observed.walk() if isinstance(op, LAYERS)]
    for i, layer in enumerate(layers):
        layer.attributes[SENSITIVITY] = FloatAttr(losses[i % len(losses)], f64)
    run(observed, SelectBitWidthPass("mixed_int4_int8", "x86-64", tolerance))
    for i, layer in enumerate(layers):
        lossy = losses[i % len(losses)] > tolerance
        kept = Decision("int4", "int8", Reason.SENSITIVE)
        assert decision_of(layer) == (kept if lossy else Decision("int4", "int4", Reason.REQUESTED))


def test_a_layer_without_statistics_is_not_sensitive() -> None:
    b = NetworkBuilder([(1, 4)])
    module = with_observers(b.module([b.linear(b.block.args[0], 3)]))
    run(module, SelectBitWidthPass("mixed_int4_int8", "x86-64"))
    assert decisions(module) == [Decision("int4", "int4", Reason.REQUESTED)]


def test_a_layer_that_cannot_run_on_integers_says_so() -> None:
    b = NetworkBuilder([(2, 4), (3, 4)])
    x, weight = b.block.args
    module = with_observers(b.module([b.layer(nn.LinearOp(x, weight))]))
    run(module, SelectBitWidthPass("int8", "x86-64"))
    assert decisions(module) == [Decision("int8", "float32", Reason.NO_KERNEL)]
