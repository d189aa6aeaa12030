from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import ModuleOp, StringAttr

from tests.networks import (
    STORAGES,
    integer,
    networks,
    quantized,
    quantized_networks,
    with_given_weights,
)
from tests.passes.graphs import assert_exact, assert_idempotent
from uqfc.dialects import nn
from uqfc.dialects.qnn import IntegerLayerOp
from uqfc.dialects.tensors import element_of, i8, i16, ui2, ui4
from uqfc.passes.select_bit_width import Decision, Reason, decision_of
from uqfc.passes.widen_weights import WidenWeightsPass

OLD = WidenWeightsPass("edge_device_v2")


def layers_of(module: ModuleOp) -> list[IntegerLayerOp]:
    return [op for op in module.walk() if isinstance(op, IntegerLayerOp)]


@settings(max_examples=30)
@given(quantized_networks(), st.sampled_from(["edge_device_v2", "x86-64"]))
def test_exact(module: ModuleOp, target: str) -> None:
    before = integer(module)
    after = assert_exact(before, WidenWeightsPass(target))
    assert_idempotent(before, WidenWeightsPass(target))
    if target == "x86-64":
        assert str(after) == str(before)


@settings(max_examples=15)
@pytest.mark.parametrize("storage", sorted(STORAGES))
@given(module=networks())
def test_a_model_with_4_bit_weights_says_what_became_of_them(
    storage: str, module: ModuleOp
) -> None:
    before = integer(with_given_weights(module, storage))
    narrow = storage[1:] != "8"
    for old, new in zip(layers_of(before), layers_of(assert_exact(before, OLD)), strict=True):
        requested = "int4" if narrow else "int8"
        reason = Reason.UNSUPPORTED_BY_TARGET if narrow else Reason.REQUESTED
        assert decision_of(old) == Decision(requested, requested, Reason.REQUESTED)
        assert decision_of(new) == Decision(requested, "int8", reason)
        assert element_of(new.weight) in (i8, i16)
        assert element_of(old.weight) == (ui4 if narrow else element_of(new.weight))
        zero_point = new.weight_zero_point.owner
        assert isinstance(zero_point, nn.ConstantOp)
        assert not np.any(zero_point.array)


FOUR_BITS = """
name = "four_bits"
description = "A device without ternary weights"
triple = "x86_64-unknown-linux-gnu"
cpu = "x86-64"
isa = "portable"

[[kernels]]
ops = ["conv2d", "depthwise", "linear"]
weights = ["int8", "int4", "float32"]
activations = ["uint8", "float32"]
"""


@settings(max_examples=10)
@given(networks())
def test_two_bits_become_four_where_the_device_has_these(module: ModuleOp) -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "four_bits.toml"
        table.write_text(FOUR_BITS)
        network = integer(quantized(module, "ternary"))
        widened = assert_exact(network, WidenWeightsPass(str(table)))
    for old, new in zip(layers_of(network), layers_of(widened), strict=True):
        decision = decision_of(old)
        assert decision is not None
        assert (element_of(old.weight) == ui2) == (decision.chosen == "ternary")
        assert element_of(new.weight) != ui2
        if decision.chosen == "ternary":
            expected = Decision("ternary", "int4", Reason.UNSUPPORTED_BY_TARGET)
            assert decision_of(new) == expected
            assert element_of(new.weight) == ui4


@settings(max_examples=10)
@given(networks())
def test_of_two_decisions_the_first_request_stays(module: ModuleOp) -> None:
    """A ternary layer that another target held as int4."""
    network = integer(with_given_weights(module, "i2"))
    for layer in layers_of(network):
        layer.attributes["requested"] = StringAttr("ternary")
    for layer in layers_of(assert_exact(network, OLD)):
        expected = Decision("ternary", "int8", Reason.UNSUPPORTED_BY_TARGET)
        assert decision_of(layer) == expected
