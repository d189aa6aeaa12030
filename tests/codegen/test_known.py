"""What the lowering of integer layers tells kernels of their outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from xdsl.dialects.builtin import UnitAttr
from xdsl.ir import Block

from uqfc.codegen.kernels.saturating import Known
from uqfc.codegen.lowering.constant_facts import known_of
from uqfc.dialects.qnn import Epilogue, QConv2dOp, QLinearOp
from uqfc.dialects.tensors import f32, i8, i32, tensor_type, ui4, ui8
from uqfc.numerics import Activation

CHANNELS = 3
NONE_ADDED = np.zeros(CHANNELS, np.int32)
SMALL = np.array([0.001, 0.25, 0.002], np.float32)
"""Products with int32 sums are at most 2**29."""


def layer(epilogue: Epilogue, *, residual: bool = False) -> QLinearOp:
    """u8 [2, 4] by int8 [3, 4]."""
    per_channel: list[Any] = [tensor_type((CHANNELS,), element) for element in (i32, i32, f32)]
    types = [tensor_type((2, 4), ui8), tensor_type((CHANNELS, 4), i8), *per_channel]
    *operands, added = Block(arg_types=[*types, tensor_type((2, CHANNELS), ui8)]).args
    return QLinearOp(operands, added if residual else None, x_zero_point=7, epilogue=epilogue)


@pytest.mark.parametrize(
    ("epilogue", "known"),
    [
        (Epilogue(zero_point=0), Known(bounded=True, whole=True, from_zero=True)),
        (Epilogue(zero_point=128), Known(bounded=True, whole=True)),
        (Epilogue(zero_point=128, qmin=128), Known(bounded=True)),
        (Epilogue(zero_point=0, qmax=200), Known(bounded=True, from_zero=True)),
        (Epilogue(zero_point=255, qmin=1, qmax=255), Known(bounded=True)),
    ],
    ids=["zero point 0", "whole", "relu", "relu6", "from 1"],
)
def test_bounds_and_zero_point(epilogue: Epilogue, known: Known) -> None:
    assert known_of(layer(epilogue), NONE_ADDED, SMALL) == known


def test_unknown_multipliers_bound_nothing() -> None:
    assert known_of(layer(Epilogue()), NONE_ADDED, None) == Known(whole=True, from_zero=True)


def test_one_large_multiplier_bounds_nothing() -> None:
    large = np.array([0.001, -1.0, 0.001], np.float32)
    assert not known_of(layer(Epilogue()), NONE_ADDED, large).bounded


def test_what_follows_the_multiplier_may_exceed_the_bound() -> None:
    """A residual and an activation's reciprocal scale count, with the magnitudes they have."""
    assert known_of(
        layer(Epilogue(residual_multiplier=1.0), residual=True), NONE_ADDED, SMALL
    ).bounded
    residual = Epilogue(residual_multiplier=-(2.0**23))
    assert not known_of(layer(residual, residual=True), NONE_ADDED, SMALL).bounded
    assert known_of(layer(residual), NONE_ADDED, SMALL).bounded
    hard_swish = Activation("hard_swish")
    assert known_of(layer(Epilogue(activation=hard_swish)), NONE_ADDED, SMALL).bounded
    steep = Epilogue(activation=hard_swish, reciprocal=60.0)
    assert not known_of(layer(steep), NONE_ADDED, SMALL).bounded


def depthwise(epilogue: Epilogue, *, weights: Any = i8, residual: bool = False) -> QConv2dOp:
    """u8 [1, 5, 5, 3] with kernels of 3 by 3."""
    per_channel: list[Any] = [tensor_type((CHANNELS,), element) for element in (i32, i32, f32)]
    types = [tensor_type((1, 5, 5, CHANNELS), ui8), tensor_type((CHANNELS, 3, 3, 1), weights)]
    *operands, added = Block(
        arg_types=[*types, *per_channel, tensor_type((1, 3, 3, CHANNELS), ui8)]
    ).args
    return QConv2dOp(
        operands,
        added if residual else None,
        x_zero_point=7,
        epilogue=epilogue,
        strides=(1, 1),
        padding=(0, 0, 0, 0),
        dilations=(1, 1),
        groups=CHANNELS,
    )


MOST = 9 * 255 * 128
"""What weights of int8 add at most."""


@pytest.mark.parametrize(
    ("addend", "small"),
    [
        (0, True),
        (2**23 - 1 - MOST, True),
        (2**23 - MOST, False),
        (-(2**30) + MOST, True),
        (-(2**30) - 1 + MOST, False),
    ],
)
def test_small_sums_are_those_that_fit_with_any_weights(addend: int, small: bool) -> None:
    addends = np.array([0, addend, 0], np.int32)
    known = known_of(depthwise(Epilogue()), addends, SMALL)
    assert known == Known(bounded=True, whole=True, from_zero=True, small=small)


def test_small_sums_bound_larger_multipliers() -> None:
    multipliers = np.array([0.0, 128.0, 0.5], np.float32)
    assert known_of(depthwise(Epilogue()), NONE_ADDED, multipliers).bounded
    assert not known_of(layer(Epilogue()), NONE_ADDED, multipliers).bounded


def test_small_sums_that_are_not_bounded_are_of_no_use() -> None:
    multipliers = np.nextafter(np.array([0.0, 128.0, 0.5], np.float32), np.float32(np.inf))
    known = known_of(depthwise(Epilogue()), NONE_ADDED, multipliers)
    assert known == Known(whole=True, from_zero=True)


def test_replaceable_constants_promise_nothing() -> None:
    layer = depthwise(Epilogue())
    layer.properties["replaceable"] = UnitAttr()
    assert known_of(layer, NONE_ADDED, SMALL) == Known(whole=True, from_zero=True)


def test_sums_are_small_where_it_is_of_use() -> None:
    """Not of products, where results may be negative, or for multipliers that are."""
    hard_swish = Activation("hard_swish")
    assert known_of(depthwise(Epilogue(), weights=ui4), NONE_ADDED, SMALL).small
    assert not known_of(layer(Epilogue()), NONE_ADDED, SMALL).small
    assert not known_of(depthwise(Epilogue(zero_point=1)), NONE_ADDED, SMALL).small
    assert not known_of(depthwise(Epilogue(activation=hard_swish)), NONE_ADDED, SMALL).small
    residual = Epilogue(residual_multiplier=0.5)
    assert not known_of(depthwise(residual, residual=True), NONE_ADDED, SMALL).small
    assert not known_of(depthwise(Epilogue()), NONE_ADDED, -SMALL).small
    assert not known_of(depthwise(Epilogue()), None, SMALL).small
