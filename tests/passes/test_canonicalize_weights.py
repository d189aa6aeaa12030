from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Attribute

from tests.networks import networks, quantized_networks, run, with_given_weights
from tests.passes.graphs import assert_exact, assert_idempotent
from uqfc.dialects import nn
from uqfc.dialects.qnn import IntegerLayerOp
from uqfc.dialects.tensors import NARROW, element_of, i4, i8, i16, numpy_dtype, ui2, ui4, ui8
from uqfc.passes.canonicalize_weights import CanonicalizeWeightsPass, canonical
from uqfc.passes.convert_to_float8 import ConvertToFloat8Pass
from uqfc.passes.convert_to_integer import ConvertToIntegerPass

RANGES: dict[Attribute, tuple[int, int]] = {
    i4: (-8, 7),
    ui4: (0, 15),
    ui2: (0, 3),
    i8: (-128, 127),
    ui8: (0, 255),
    i16: (-(2**15), 2**15 - 1),
}


def converted(module: ModuleOp) -> ModuleOp:
    return run(module.clone(), ConvertToFloat8Pass(), ConvertToIntegerPass())


def layers_of(module: ModuleOp) -> list[IntegerLayerOp]:
    return [op for op in module.walk() if isinstance(op, IntegerLayerOp)]


def is_canonical(layer: IntegerLayerOp) -> bool:
    zero = layer.weight_zero_point.owner
    assert isinstance(zero, nn.ConstantOp)
    element = element_of(layer.weight)
    return element in (ui2, ui4) or (element in (i8, i16) and not zero.array.any())


@settings(max_examples=25)
@given(quantized_networks())
def test_exact(module: ModuleOp) -> None:
    before = converted(module)
    after = assert_exact(before, CanonicalizeWeightsPass())
    assert all(is_canonical(layer) for layer in layers_of(after))
    assert_idempotent(before, CanonicalizeWeightsPass())


@settings(max_examples=8)
@pytest.mark.parametrize("storage", ["u8", "i8", "u4", "i4", "u2", "i2"])
@given(module=networks())
def test_every_storage_type_of_a_model_file(storage: str, module: ModuleOp) -> None:
    given_weights = with_given_weights(module, storage)
    after = assert_exact(converted(given_weights), CanonicalizeWeightsPass())
    expected = (ui4,) if storage[1:] in ("4", "2") else (i8, i16)
    assert all(element_of(layer.weight) in expected for layer in layers_of(after))


@given(st.sampled_from(sorted(RANGES, key=str)), st.integers(0, 999), st.booleans())
def test_weights_keep_their_distance_to_the_zero_point(
    element: Attribute, seed: int, symmetric: bool
) -> None:
    low, high = RANGES[element]
    if element == i16:
        low, high = low // 2, high // 2
    random = np.random.default_rng(seed)
    zero = random.integers(low, high + 1, 3).astype(np.int32) * (not symmetric)
    if element == i16:
        zero[:] = 0
    weight = random.integers(low, high + 1, (3, 2, 2, 5)).astype(numpy_dtype(element))
    new_weight, new_zero, new_element = canonical(weight, zero, element)
    column = (3, 1, 1, 1)
    assert np.array_equal(
        new_weight - new_zero.reshape(column), weight.astype(np.int32) - zero.reshape(column)
    )
    least, most = RANGES[new_element]
    assert new_weight.min() >= least
    assert new_weight.max() <= most
    fits = new_weight.min() >= -128 and new_weight.max() <= 127
    narrow = ui2 if element == ui2 else ui4
    assert new_element == (narrow if element in NARROW else i8 if fits else i16)


@given(
    st.sampled_from(["ternary", "binary", "int4"]),
    st.sampled_from([i4, ui4]),
    st.integers(1, 2),
    st.integers(0, 999),
)
def test_two_bits_where_that_was_decided(
    dtype: str, element: Attribute, reach: int, seed: int
) -> None:
    """And where the weights are within one step of their zero points."""
    low, high = RANGES[element]
    random = np.random.default_rng(seed)
    zero = random.integers(low + reach, high - reach + 1, 3).astype(np.int32)
    steps = random.integers(-reach, reach + 1, (3, 1, 2, 5))
    steps[0, 0, 0, 0] = reach
    weight = (zero.reshape(3, 1, 1, 1) + steps).astype(numpy_dtype(element))
    new_weight, new_zero, new_element = canonical(weight, zero, element, dtype)
    assert new_element == (ui2 if dtype != "int4" and reach == 1 else ui4)
    assert np.array_equal(new_weight - new_zero.reshape(3, 1, 1, 1), steps)
    least, most = RANGES[new_element]
    assert least <= new_weight.min() <= new_weight.max() <= most
