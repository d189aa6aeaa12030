"""Runs one ``TensorKernel`` in this process, between guard pages, and the meaning of an op."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any, cast, get_args

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from xdsl.ir import Block, Operation, SSAValue

from tests.codegen.harness import GUARD, GUARD_VALUE, GuardedBuffer, host_isas
from uqfc.codegen import jit
from uqfc.codegen.builder import Builder, new_module
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.elementwise import ElementwiseKernel, Input, Step
from uqfc.codegen.kernels.elementwise_base import ElementwiseOp
from uqfc.codegen.kernels.tensor import Dtype, FunctionKernel, TensorKernel
from uqfc.codegen.parts import Part
from uqfc.dialects.tensors import element_type, tensor_type
from uqfc.interpreter.engine import Interpreter
from uqfc.interpreter.registry import evaluate

Array = NDArray[Any]

every_isa = pytest.mark.parametrize("isa", host_isas())
_MOST = (settings.default or settings()).max_examples
some_examples = settings(max_examples=_MOST // 4)
few_examples = settings(max_examples=_MOST // 10)
"""Where every example compiles a kernel."""

SIZES = st.sampled_from([1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 48, 63, 65])
"""Sizes around those of vectors and blocks."""

DTYPES: st.SearchStrategy[Dtype] = st.sampled_from(get_args(Dtype))

NUMPY_DTYPES: dict[Dtype, Any] = {
    "f32": np.float32,
    "u8": np.uint8,
    "i8": np.int8,
    "i32": np.int32,
    "i64": np.int64,
    "i1": np.bool_,
}

_SPECIAL = (
    "0 -0 nan inf -inf 1e-45 -1e-40 1.1754944e-38 3.4028235e38 0.5 -0.5 1.5 2.5 1 -1 2 255.5 "
    "8388607.5 -8388609 2147483648 -2147483648 9223372036854775808"
)
SPECIAL_FLOATS = np.array([float(s) for s in _SPECIAL.split()], np.float32)

C_TYPES: dict[str, Any] = {
    "ptr": ctypes.c_void_p,
    "i64": ctypes.c_int64,
    "i32": ctypes.c_int32,
    "i8": ctypes.c_int8,
    "float": ctypes.c_float,
}


def random_array(rng: np.random.Generator, dtype: Dtype, shape: Sequence[int]) -> Array:
    """Ordinary values; floats sometimes have special ones among them, or are any bits."""
    kind = rng.integers(0, 4)
    if dtype == "f32":
        if kind == 0:
            return rng.integers(0, 2**32, shape, np.uint32).view(np.float32)
        values = (rng.normal(size=shape) * 2.0 ** rng.integers(-2, 7)).astype(np.float32)
        if kind == 1:
            special = rng.choice(SPECIAL_FLOATS, shape)
            values = np.where(rng.random(shape) < 0.3, special, values)
        return values
    if dtype == "i1":
        return rng.random(shape) < 0.5
    limits = np.iinfo(NUMPY_DTYPES[dtype])
    if kind == 0:
        return rng.choice(np.array([limits.min, limits.max, 0, 1], limits.dtype), shape)
    low, high = (int(limits.min), int(limits.max)) if kind == 1 else (max(limits.min, -99), 99)
    return rng.integers(low, high, shape, limits.dtype, endpoint=True)


def ordinary_floats(rng: np.random.Generator, *shape: int) -> Array:
    return rng.normal(size=shape).astype(np.float32)


# --- running ------------------------------------------------------------------------------------


@cache
def compiled_function(name: str, kernel: FunctionKernel) -> Any:
    """The function of that name, which any kernel of that name calls; ``kernel`` is one of them."""
    module = new_module(kernel.isa, "test")
    function = kernel.emit(module)
    function.linkage = "external"
    loaded = jit.load(jit.compile_object(module, kernel.isa), [name])
    types = [C_TYPES[str(t)] for t in function.function_type.args]
    result = ctypes.CFUNCTYPE(None, *types)(loaded.address(name))
    result.owner = loaded  # pyright: ignore[reportAttributeAccessIssue] # keeps the code alive
    return result


_FUNCTIONS: dict[str, FunctionKernel] = {}


class NumberedPart(Part):
    """A part whose number and count are Python's: so are the arguments of the calls."""

    def share(self, total: int, granule: int = 1) -> Any:
        units = -(-total // granule)
        index, count = cast("tuple[int, int]", (self.index, self.count))
        bounds = (units * i // count * granule for i in (index, index + 1))
        return tuple(min(bound, total) for bound in bounds)


def call_function(kernel: FunctionKernel, inputs: list[int], out: int, scratch: int) -> None:
    """Calls with addresses in the place of pointers: both can be added to.

    What can be split is, in one to three parts, of which the last is computed first.
    """
    arguments: Any = kernel.arguments
    first = _FUNCTIONS.setdefault(kernel.name, kernel)
    function = compiled_function(kernel.name, first)
    whole = arguments(inputs, out, scratch)
    sizes = whole[len(inputs) + 1 :]
    parts = 1 + sum(s for s in sizes if type(s) is int) % 3 if kernel.splits else 1
    if parts == 1:
        function(*whole)
        return
    for index in reversed(range(parts)):
        part: Any = NumberedPart(cast(Any, index), cast(Any, parts))
        function(*kernel.share(list(whole), part))


def call_composite(kernel: TensorKernel, inputs: list[int], out: int, scratch: int) -> None:
    """Compiles a function that does what ``kernel.call`` emits, and calls it."""
    module = new_module(kernel.isa, "test")
    names = [*(f"in{i}" for i in range(len(inputs))), "out", "scratch"]
    b = Builder.function(module, kernel.isa, "run", internal=False, **dict.fromkeys(names, "ptr"))
    pointers = [b.pointer(name) for name in names]
    kernel.call(b, pointers[:-2], pointers[-2], pointers[-1])
    b.ret()
    loaded = jit.load(jit.compile_object(module, kernel.isa), ["run"])
    loaded.function("run", *["ptr"] * len(names))(*inputs, out, scratch)


def run_tensor_kernel(
    kernel: TensorKernel,
    inputs: Sequence[Array],
    shape: Sequence[int],
    dtype: Any,
    *,
    in_place: int | None = None,
) -> Array:
    """The result of one call; reading or writing outside of what the kernel may is an error.

    ``in_place``: the number of the input whose memory is the result's.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    out = np.full(size + 2 * GUARD, GUARD_VALUE, np.uint8)
    target = out.ctypes.data + GUARD
    buffers = [GuardedBuffer(a, kernel.over_read) for a in inputs]
    addresses = [buffer.address for buffer in buffers]
    if in_place is not None:
        source = np.ascontiguousarray(inputs[in_place]).reshape(-1)
        out[GUARD : GUARD + size] = source.view(np.uint8)
        addresses[in_place] = target
    before = [buffer.bytes.copy() for buffer in buffers]
    scratch = GuardedBuffer(np.full(kernel.scratch_bytes, 0xC3, np.uint8), GUARD)
    single = isinstance(kernel, FunctionKernel) and type(kernel).call is FunctionKernel.call
    if single and isinstance(kernel, FunctionKernel):
        call_function(kernel, addresses, target, scratch.address)
    else:
        call_composite(kernel, addresses, target, scratch.address)
    for buffer, bytes_before in zip(buffers, before, strict=True):
        np.testing.assert_array_equal(buffer.bytes, bytes_before)
    assert (scratch.bytes[kernel.scratch_bytes :] == 0x5A).all(), "wrote past the scratch memory"
    assert (out[:GUARD] == GUARD_VALUE).all(), "wrote before the output"
    assert (out[GUARD + size :] == GUARD_VALUE).all(), "wrote past the output"
    return out[GUARD : GUARD + size].view(dtype).reshape(shape).copy()


def assert_same(got: Array, want: Array) -> None:
    """Equal bits; any NaN equals any NaN."""
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    if got.dtype == np.float32:
        nans = np.isnan(got) & np.isnan(want)
        got = np.where(nans, np.float32(0), got).view(np.int32)
        want = np.where(nans, np.float32(0), want).view(np.int32)
    np.testing.assert_array_equal(got, want)


# --- the meaning --------------------------------------------------------------------------------


def operand(array: Array) -> SSAValue:
    """A value of the array's type, to make an op of."""
    return Block(arg_types=[tensor_type(array.shape, element_type(array.dtype))]).args[0]


def meaning(op: Operation, *operands: Array) -> Array:
    """What the interpreter computes for ``op``."""
    with np.errstate(all="ignore"):
        return evaluate(Interpreter(), op, list(operands))[0]


def one_op(
    isa: Isa, op: ElementwiseOp, dtypes: tuple[Dtype, ...], *arrays: Array
) -> ElementwiseKernel:
    """An elementwise kernel of one op, on dense arrays that broadcast."""
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    inputs = tuple(Input(d, a.shape) for d, a in zip(dtypes, arrays, strict=True))
    return ElementwiseKernel(isa, shape, inputs, (Step(op, tuple(range(len(arrays)))),))


def check(
    isa: Isa, kernel: TensorKernel, op: Operation, *operands: Array, in_place: int | None = None
) -> None:
    """The kernel gives the bits of the interpreter."""
    assert kernel.isa is isa
    want = np.ascontiguousarray(meaning(op, *operands))
    got = run_tensor_kernel(kernel, operands, want.shape, want.dtype, in_place=in_place)
    assert_same(got, want)
