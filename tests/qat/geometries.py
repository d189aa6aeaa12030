"""Random geometries of layers with operands for them, and what the layer computes, in NumPy."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray

torch = pytest.importorskip("torch")

from uqfc.interpreter.products import integer_conv2d, integer_linear  # noqa: E402 - torch first
from uqfc.numerics import F32, I32  # noqa: E402
from uqfc.packing import Storage  # noqa: E402
from uqfc.qat.kernels import Geometry  # noqa: E402
from uqfc.qat.sums import Integers  # noqa: E402

CHANNELS = st.sampled_from([1, 3, 17, 33])
STORAGES: tuple[Storage, ...] = ("u4", "s8", "s16")
CENTRED: dict[Storage, tuple[int, int]] = {"u4": (0, 15), "s8": (-128, 127), "s16": (-255, 255)}
"""Of weights, minus their zero point but for u4."""


@dataclass(frozen=True)
class Operands:
    """Of a layer: ``x`` uint8 [N, …]; ``weight`` as stored; the others [O]."""

    x: NDArray[np.uint8]
    weight: I32
    zero_point: I32
    addend: I32
    multiplier: F32


def expected(geometry: Geometry, operands: Operands) -> F32:
    """``float32(sum((x - zx) * (w - zw)) + bias) * multiplier``; the addend holds ``zx``'s term."""
    g, spread = geometry, (-1, *[1] * (operands.weight.ndim - 1))
    weight = operands.weight - operands.zero_point.reshape(spread)
    if weight.ndim == 2:
        total = integer_linear(operands.x, weight)
    else:
        window = (g.strides, g.padding, g.dilations, g.groups)
        total = integer_conv2d(operands.x, weight, *window, g.x_zero_point)
    sums = np.asarray(total, np.int64) + operands.addend
    assert np.abs(sums).max() < 2**31
    return sums.astype(np.int32).astype(np.float32) * operands.multiplier


def operands_of(geometry: Geometry, batch: int, seed: int) -> Operands:
    """Random ones; extremes, one seed in three; multipliers that are powers of two, one in two."""
    rng = np.random.default_rng(seed)
    low, high = CENTRED[geometry.storage]
    shape, channels = geometry.weight, geometry.weight[0]
    x = rng.integers(0, 256, (batch, *geometry.x[1:]), np.uint8)
    weight = rng.integers(low, high + 1, shape)
    if seed % 3 == 0:
        x[:] = rng.choice([0, 255], x.shape)
        weight = rng.choice([low, high], shape)
    zeros = rng.integers(0, 16, channels) if geometry.storage == "u4" else np.zeros(channels)
    addend = rng.integers(-(2**20), 2**20, channels)
    factor = rng.uniform(1e-5, 1e-2, channels)
    if seed % 2:
        factor = 2.0 ** np.round(np.log2(factor))
    signs = (weight.astype(np.int32), zeros.astype(np.int32), addend.astype(np.int32))
    return Operands(x, *signs, factor.astype(np.float32))


def integers(geometry: Geometry, operands: Operands) -> Integers:
    """The same as tensors."""
    o, spread = operands, (-1, *[1] * (operands.weight.ndim - 1))
    centred = (o.weight - o.zero_point.reshape(spread)).astype(np.int16)
    x, weight = torch.from_numpy(o.x), torch.from_numpy(centred)
    zero_point, addend = torch.from_numpy(o.zero_point), torch.from_numpy(o.addend)
    return Integers(x, weight, zero_point, addend, torch.from_numpy(o.multiplier), geometry)


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    """Linear, 1x1, k x k, grouped and depthwise layers on small images."""
    kind = draw(st.sampled_from(["linear", "1x1", "dense", "grouped", "depthwise"]))
    storage = draw(st.sampled_from(STORAGES))
    zero_point = draw(st.sampled_from([0, 128, 255]))
    inputs, outputs = draw(CHANNELS), draw(CHANNELS)
    if kind == "linear":
        return Geometry((1, inputs), (outputs, inputs), storage, zero_point)
    pair = st.tuples(st.integers(1, 2), st.integers(1, 2))
    kernel = (1, 1) if kind == "1x1" else draw(st.tuples(st.integers(1, 3), st.integers(1, 5)))
    strides = draw(pair)
    dilations = (1, 1) if kind == "1x1" else draw(pair)
    padding = draw(st.sampled_from([(0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 2, 1), (2, 0, 0, 0)]))
    groups = {"depthwise": inputs, "grouped": draw(st.sampled_from([2, 3]))}.get(kind, 1)
    if kind == "grouped":
        inputs, outputs = inputs * groups, outputs * groups
    elif kind == "depthwise":
        outputs = inputs
    sizes = [
        max(1, (k - 1) * d + 1 - sum(ends)) + draw(st.integers(0, 5))
        for k, d, ends in zip(kernel, dilations, (padding[::2], padding[1::2]), strict=True)
    ]
    weight = (outputs, *kernel, inputs // groups)
    window = (strides, padding, dilations, groups)
    return Geometry((1, *sizes, inputs), weight, storage, zero_point, *window)


def smaller(operands: Operands, batch: int) -> Operands:
    """Of the first images."""
    return replace(operands, x=operands.x[:batch])
