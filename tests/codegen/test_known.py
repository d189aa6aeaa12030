"""What the lowering of integer layers tells kernels of their outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from xdsl.ir import Block

from uqfc.codegen.kernels.saturating import Known
from uqfc.codegen.lowering.integer_layers import known_of
from uqfc.dialects.qnn import Epilogue, QLinearOp
from uqfc.dialects.tensors import f32, i8, i32, tensor_type, ui8
from uqfc.numerics import Activation

CHANNELS = 3
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
    assert known_of(layer(epilogue), SMALL) == known


def test_unknown_multipliers_bound_nothing() -> None:
    assert known_of(layer(Epilogue()), None) == Known(whole=True, from_zero=True)


def test_one_large_multiplier_bounds_nothing() -> None:
    large = np.array([0.001, -1.0, 0.001], np.float32)
    assert not known_of(layer(Epilogue()), large).bounded


def test_what_follows_the_multiplier_may_exceed_the_bound() -> None:
    """A residual and an activation's reciprocal scale count, with the magnitudes they have."""
    assert known_of(layer(Epilogue(residual_multiplier=1.0), residual=True), SMALL).bounded
    residual = Epilogue(residual_multiplier=-(2.0**23))
    assert not known_of(layer(residual, residual=True), SMALL).bounded
    assert known_of(layer(residual), SMALL).bounded
    hard_swish = Activation("hard_swish")
    assert known_of(layer(Epilogue(activation=hard_swish)), SMALL).bounded
    assert not known_of(layer(Epilogue(activation=hard_swish, reciprocal=60.0)), SMALL).bounded
