"""Runs one integer kernel in this process, between guard pages, and the definition beside it."""

from __future__ import annotations

import ctypes
import mmap
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.codegen import amx
from uqfc import numerics
from uqfc.codegen import jit
from uqfc.codegen.builder import Builder, new_module
from uqfc.codegen.isa import ISAS, Isa
from uqfc.codegen.isa.amx import configure, release
from uqfc.codegen.kernels import ConvDims, Epilogue, Operands, Scalars
from uqfc.codegen.kernels.saturating import SMALL_SUMS, Known
from uqfc.codegen.parts import Part
from uqfc.numerics import Activation
from uqfc.packing import NARROW_BITS, RANGES, Storage
from uqfc_runtime.cpu import architecture, cpu_features

GUARD = 64
"""Bytes around outputs that must keep their value, and that kernels may read after inputs."""
GUARD_VALUE = 0xA5
PROT_NONE = 0
"""Of ``mprotect``; Python names it only from 3.13 on."""
SEEDS = st.integers(0, 2**32 - 1)
SOME_EXAMPLES = settings.default.max_examples // 8 if settings.default else 12
"""Each example compiles a kernel, on several instruction sets."""
DTYPES: dict[str, Any] = {"u8": np.uint8, "f32": np.float32, "i32": np.int32}
HARD_SWISH = Activation("hard_swish")
EPILOGUES = [
    Epilogue("u8"),
    Epilogue("u8", known=Known(bounded=True)),
    Epilogue("u8", known=Known(whole=True)),
    Epilogue("u8", residual=True, known=Known(bounded=True, whole=True)),
    Epilogue("u8", known=Known(bounded=True, whole=True, from_zero=True)),
    Epilogue("u8", known=Known(bounded=True, whole=True, from_zero=True, small=True)),
    Epilogue("u8", known=Known(bounded=True, from_zero=True, small=True)),
    Epilogue("u8", residual=True),
    Epilogue("u8", HARD_SWISH),
    Epilogue("u8", HARD_SWISH, known=Known(bounded=True, whole=True)),
    Epilogue("u8", HARD_SWISH, residual=True),
    Epilogue("u8", Activation("hard_sigmoid", (0.2, 0.5))),
    Epilogue("u8", Activation("leaky_relu", (0.1,))),
    Epilogue("f32"),
    Epilogue("f32", residual=True),
    Epilogue("f32", Activation("relu"), residual=True),
    Epilogue("f32", HARD_SWISH),
    Epilogue("i32"),
]


def host_isas(*names: str) -> list[Any]:
    """A parameter for each instruction set (of ``names``); what cannot run here is skipped."""
    return [
        pytest.param(isa, id=name, marks=pytest.mark.skipif(why is not None, reason=str(why)))
        for name, isa in ISAS.items()
        if not names or name in names
        for why in (_why_not(name, isa),)
    ]


def _why_not(name: str, isa: Isa) -> str | None:
    """Why code for an instruction set cannot run here."""
    if isa.tiles:
        return amx.why_not()
    missing = architecture() != "x86_64" or not set(isa.required) <= cpu_features()
    return f"no {name} here" if missing else None


@dataclass(frozen=True)
class Problem:
    """The data of one call. ``residual`` has the shape of the output, whatever the epilogue."""

    weights: NDArray[np.int32]
    zero_points: NDArray[np.int32]
    addend: NDArray[np.int32]
    multiplier: NDArray[np.float32]
    scalars: Scalars


def random_problem(
    rng: np.random.Generator, shape: tuple[int, ...], storage: Storage, epilogue: Epilogue
) -> Problem:
    """Weights [n, …] and parameters; sometimes at the ends of their ranges, sometimes ties.

    Outputs have narrower bounds than u8, sometimes, where these are not known to be whole.
    """
    n, taps = shape[0], int(np.prod(shape[1:]))
    low, high = (-255, 255) if storage == "s16" else RANGES[storage]
    ends = rng.random() < 0.3
    weights = rng.choice([low, high], shape) if ends else rng.integers(low, high + 1, shape)
    zero_points = rng.choice([0, high], n) if ends else rng.integers(0, high + 1, n)
    zero_points = zero_points if storage in NARROW_BITS else np.zeros(n)
    scale = (8.0 if epilogue.activation else 200.0) / (255 * high * np.sqrt(taps))
    multiplier = scale * rng.uniform(0.2, 2.0, n)
    if rng.random() < 0.3:
        multiplier = 2.0 ** np.round(np.log2(multiplier))
    zero_point = 0 if epilogue.known.from_zero else end_or_any(rng)
    narrower = not epilogue.known.whole and rng.random() < 0.5
    qmin, qmax = sorted(rng.integers(0, 256, 2).tolist()) if narrower else (0, 255)
    addend = rng.integers(-(2**16), 2**16, n)
    if epilogue.known.small:
        weights, addend = small_sums(rng, weights, zero_points)
        multiplier = multipliers_of_small(rng, multiplier)
    return Problem(
        weights.astype(np.int32),
        zero_points.astype(np.int32),
        addend.astype(np.int32),
        multiplier.astype(np.float32),
        Scalars(
            low=float(qmin - zero_point),
            high=float(qmax - zero_point),
            zero_point=zero_point,
            residual_zero_point=end_or_any(rng),
            residual_multiplier=float(np.float32(rng.uniform(0.01, 2))),
            reciprocal=float(np.float32(rng.uniform(1, 60))),
            pad_value=end_or_any(rng),
        ),
    )


def small_sums(
    rng: np.random.Generator, weights: NDArray[Any], zero_points: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Weights that are small enough, and addends with which some sums reach the ends."""
    n, zeros = len(weights), zero_points.reshape(-1, *[1] * (weights.ndim - 1))
    centred = weights - zeros
    bound = (SMALL_SUMS.stop // 255) // max(1, centred[0].size)
    centred = np.clip(centred, -bound, bound)
    flat = 255 * centred.reshape(n, -1)
    least = SMALL_SUMS.start - np.minimum(flat, 0).sum(axis=1)
    most = SMALL_SUMS.stop - 1 - np.maximum(flat, 0).sum(axis=1)
    kind, between = rng.random(n), rng.integers(-(2**16), most + 1)
    addend = np.select([kind < 0.4, kind < 0.5], [most, least], between)
    return centred + zeros, addend


def multipliers_of_small(rng: np.random.Generator, multipliers: NDArray[Any]) -> NDArray[Any]:
    """These, or those that make the largest sums bytes, or the ends of what they may be."""
    n = len(multipliers)
    fitting = rng.uniform(0.2, 2.0, n) * (255 / SMALL_SUMS.stop)
    ends = rng.choice([0.0, -0.0, 1e-45, 1e-39, 128.0], n)
    return (multipliers, fitting, np.where(rng.random(n) < 0.5, ends, fitting))[rng.integers(3)]


def end_or_any(rng: np.random.Generator) -> int:
    """A u8 zero point: 0, 255 or any."""
    return (0, 255, int(rng.integers(0, 256)))[rng.integers(0, 3)]


def random_activations(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    if rng.random() < 0.2:
        return np.full(shape, 255, np.uint8)
    return rng.integers(0, 256, shape, np.uint8)


def definition(
    sums: NDArray[np.int64], problem: Problem, residual: NDArray[np.uint8], epilogue: Epilogue
) -> NDArray[Any]:
    """The output for exact sums [..., n] without their addend; see ``kernels.epilogue``."""
    total = sums + problem.addend
    assert np.abs(total).max() < 2**31
    acc = total.astype(np.int32)
    if epilogue.output == "i32":
        return acc
    scalars = problem.scalars
    low, high = round(scalars.low), round(scalars.high)
    if epilogue.output == "u8" and not (epilogue.residual or epilogue.activation):
        qmin, qmax = low + scalars.zero_point, high + scalars.zero_point
        return numerics.requantize(acc, problem.multiplier, scalars.zero_point, qmin, qmax)
    v = acc.astype(np.float32) * problem.multiplier
    if epilogue.residual:
        centred = (residual.astype(np.int32) - scalars.residual_zero_point).astype(np.float32)
        v = v + centred * np.float32(scalars.residual_multiplier)
    if epilogue.activation:
        v = epilogue.activation(numerics.NUMPY, v)
    if epilogue.output == "f32":
        return v
    if epilogue.activation:
        v = v * np.float32(scalars.reciprocal)
    return scalars.zero_point + numerics.round_clamped(v, low, high)


class GuardedBuffer:
    """Bytes that end ``slack`` bytes before a page that cannot be accessed."""

    def __init__(self, data: NDArray[Any], slack: int) -> None:
        size = data.nbytes + slack
        usable = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        self._memory = mmap.mmap(-1, usable + mmap.PAGESIZE)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        protect: Any = ctypes.CDLL(None, use_errno=True).mprotect
        protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        assert protect(base + usable, mmap.PAGESIZE, PROT_NONE) == 0
        self.address = base + usable - size
        self.bytes: NDArray[np.uint8] = np.frombuffer(self._memory, np.uint8, size, usable - size)
        self.bytes[: data.nbytes] = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        self.bytes[data.nbytes :] = 0x5A


def compile_call(spec: Any, dims: Any, scalars: Scalars, isa: Isa, parts: int = 1) -> Any:
    """A function of the addresses of x, weights, addend, multiplier, out, residual, scratch.

    With several ``parts`` it computes them one after the other, the last first.
    """
    module = new_module(isa, "test")
    names = ["x", "weights", "addend", "multiplier", "out", "residual", "scratch"]
    b = Builder.function(module, isa, "run", internal=False, **dict.fromkeys(names, "ptr"))
    if isa.tiles:
        configure(b)
    operands = Operands(*[b.pointer(name) for name in names])
    for index in reversed(range(parts)):
        part = None if parts == 1 else Part(b.i64(index), b.i64(parts))
        spec.call(b, operands, dims, scalars, part)
    if isa.tiles:
        release(b)
    b.ret()
    assert spec.name in module.globals
    return jit.load(jit.compile_object(module, isa), ["run"]).function("run", *["ptr"] * 7)


def run_kernel(
    spec: Any,
    dims: Any,
    isa: Isa,
    x: NDArray[Any],
    problem: Problem,
    residual: NDArray[np.uint8],
    epilogue: Epilogue,
    *,
    in_place: bool = False,
    slack: int = GUARD,
    parts: int | None = None,
) -> NDArray[Any]:
    """What the kernel writes, in the shape of ``residual``; its neighbours must be unchanged.

    ``in_place``: the residual is the output's memory (u8 output). ``slack``: bytes that may be
    read after x. What can be split is, in so many ``parts``, by default one to three.
    """
    if parts is None:
        parts = 1 + x.size % 3 if spec.splits(dims) else 1
    call = compile_call(spec, dims, problem.scalars, isa, parts)
    packed = spec.pack(dims, problem.weights, problem.zero_points)
    inputs = [
        GuardedBuffer(x, slack),
        GuardedBuffer(packed, 0),
        GuardedBuffer(spec.pad(dims, problem.addend), 0),
        GuardedBuffer(spec.pad(dims, problem.multiplier), 0),
        GuardedBuffer(residual, GUARD),
    ]
    before = [buffer.bytes.copy() for buffer in inputs]
    size = residual.size * np.dtype(DTYPES[epilogue.output]).itemsize
    out = np.full(size + 2 * GUARD, GUARD_VALUE, np.uint8)
    body = slice(GUARD, GUARD + size)
    if in_place:
        out[body] = residual.reshape(-1)
    scratch_bytes = spec.scratch_bytes(dims)
    scratch = GuardedBuffer(np.full(scratch_bytes, 0xC3, np.uint8), GUARD)
    target = out.ctypes.data + GUARD
    addresses = [buffer.address for buffer in inputs]
    source = target if in_place else addresses[4]
    call(*addresses[:4], target, source, scratch.address)
    for buffer, bytes_before in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(buffer.bytes, bytes_before)
    assert (scratch.bytes[scratch_bytes:] == 0x5A).all(), "wrote past the scratch memory"
    assert (out[:GUARD] == GUARD_VALUE).all(), "wrote before the output"
    assert (out[GUARD + size :] == GUARD_VALUE).all(), "wrote past the output"
    return out[body].copy().view(DTYPES[epilogue.output]).reshape(residual.shape)


def convolution_dims(
    draw: st.DrawFn, *, in_channels: int, out_channels: int, groups: int, largest_kernel: int = 5
) -> ConvDims:
    """Dims of a convolution on a small image, with at least one output pixel."""
    small = st.sampled_from([1, 1, 1, 2, 3])
    kernel = (draw(st.integers(1, largest_kernel)), draw(st.integers(1, largest_kernel)))
    stride, dilation = (draw(small), draw(small)), (draw(small), draw(small))
    pads = [(draw(st.integers(0, 3)), draw(st.integers(0, 3))) for _ in range(2)]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    least = [max(1, r - sum(p)) for r, p in zip(reach, pads, strict=True)]
    size = [low + draw(st.integers(0, 9)) for low in least]
    out = [(size[i] + sum(pads[i]) - reach[i]) // stride[i] + 1 for i in (0, 1)]
    return ConvDims(
        batch=draw(st.integers(1, 2)),
        height=size[0],
        width=size[1],
        in_channels=in_channels,
        out_height=out[0],
        out_width=out[1],
        out_channels=out_channels,
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        pad_begin=(pads[0][0], pads[1][0]),
        groups=groups,
    )


def convolution_sums(x: NDArray[np.uint8], problem: Problem, dims: ConvDims) -> NDArray[np.int64]:
    """Sums [batch, out_height, out_width, out_channels] without addends, one tap at a time.

    Weights are [out_channels, kh, kw, in_channels / groups].
    """
    weights = problem.weights - problem.zero_points[:, None, None, None]
    weights = weights.astype(np.int64).reshape(dims.groups, -1, *weights.shape[1:])
    top, left = dims.pad_begin
    reach = [(k - 1) * d + 1 for k, d in zip(dims.kernel, dims.dilation, strict=True)]
    bottom = max(0, (dims.out_height - 1) * dims.stride[0] + reach[0] - top - dims.height)
    right = max(0, (dims.out_width - 1) * dims.stride[1] + reach[1] - left - dims.width)
    pads = ((0, 0), (top, bottom), (left, right), (0, 0))
    padded = np.pad(x.astype(np.int64), pads, constant_values=problem.scalars.pad_value)
    padded = padded.reshape(*padded.shape[:3], dims.groups, -1)
    shape = (dims.batch, dims.out_height, dims.out_width, dims.groups, weights.shape[1])
    sums = np.zeros(shape, np.int64)
    for ky, kx in np.ndindex(*dims.kernel):
        y, x0 = ky * dims.dilation[0], kx * dims.dilation[1]
        rows = slice(y, y + (dims.out_height - 1) * dims.stride[0] + 1, dims.stride[0])
        columns = slice(x0, x0 + (dims.out_width - 1) * dims.stride[1] + 1, dims.stride[1])
        window = padded[:, rows, columns]
        sums += np.einsum("byxgc,goc->byxgo", window, weights[:, :, ky, kx])
    return sums.reshape(*shape[:3], dims.out_channels)
