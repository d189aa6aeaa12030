"""A layer's kernel on constants that are given anew has the definition's bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

torch = pytest.importorskip("torch")

from tests.codegen.harness import GUARD, GUARD_VALUE, GuardedBuffer  # noqa: E402 - torch first
from tests.qat.geometries import (  # noqa: E402
    Operands,
    expected,
    geometries,
    integers,
    operands_of,
    smaller,
)
from uqfc.codegen.isa import isa_for  # noqa: E402
from uqfc.numerics import F32  # noqa: E402
from uqfc.qat.kernels import Geometry, LayerCode, layer_code  # noqa: E402
from uqfc.qat.sums import CompiledSums, FloatSums  # noqa: E402
from uqfc.targets import load_target  # noqa: E402
from uqfc_runtime.cpu import architecture, cpu_features  # noqa: E402

TARGETS = ("x86-64", "x86-64-v3", "avx512-vnni")
ISA_NAMES = {"x86-64": "portable", "x86-64-v3": "avx2", "avx512-vnni": "vnni512"}
BITS = {"u4": "i4c", "s8": "i8c", "s16": "i16c"}


def targets_here() -> list[str]:
    """Those whose code this machine runs."""
    if architecture() != "x86_64":
        return []
    return [t for t in TARGETS if set(isa_for(load_target(t)).required) <= cpu_features()]


HERE = targets_here()
pytestmark = pytest.mark.skipif(not HERE, reason="no kernels for this machine")
TARGET = st.sampled_from(HERE or ["x86-64"])
FEW = settings(max_examples=15)
"""Each example compiles a kernel."""
SEEDS = st.integers(0, 2**31)


def run(code: LayerCode, operands: Operands, threads: int = 1) -> F32:
    """Between guards: inputs end where no memory is, and nothing but the result is written."""
    o = operands
    block = code.pack(o.weight, o.zero_point, o.addend, o.multiplier)
    shape = (len(o.x), *code.result_shape[1:])
    size = 4 * int(np.prod(shape))
    out = np.full(size + 2 * GUARD, GUARD_VALUE, np.uint8)
    x = GuardedBuffer(o.x, 0)
    code.run(x.address, block, out.ctypes.data + GUARD, len(o.x), threads)
    np.testing.assert_array_equal(x.bytes, o.x.reshape(-1))
    assert (out[:GUARD] == GUARD_VALUE).all(), "wrote before the output"
    assert (out[GUARD + size :] == GUARD_VALUE).all(), "wrote past the output"
    return out[GUARD : GUARD + size].view(np.float32).reshape(shape)


def assert_same(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> None:
    np.testing.assert_array_equal(found, wanted, strict=True)


def check_name(code: LayerCode, geometry: Geometry, target: str) -> None:
    """The name says of which operands, algorithm and instructions the kernel is."""
    name = code.name
    assert name.startswith(f"u8_{BITS[geometry.storage]}_"), name
    assert name.endswith(f"_f32__{ISA_NAMES[target]}"), name
    assert "dwconv" not in name or geometry.groups > 1 or geometry.weight[0] == 1, name
    assert len(geometry.weight) == 4 or "gemm" in name or "gemv" in name, name


@FEW
@given(geometries(), SEEDS, st.sampled_from([1, 2, 7]), st.integers(1, 3), TARGET)
def test_kernels_have_the_definitions_bits(
    geometry: Geometry, seed: int, batch: int, threads: int, target: str
) -> None:
    code = LayerCode(geometry, target, None)
    check_name(code, geometry, target)
    operands = operands_of(geometry, batch, seed)
    wanted = expected(geometry, operands)
    assert code.result_shape == (1, *wanted.shape[1:])
    assert_same(run(code, operands, threads), wanted)


@FEW
@given(geometries(), SEEDS, TARGET)
def test_new_constants_need_no_new_code(geometry: Geometry, seed: int, target: str) -> None:
    """One code, other weights, batches and threads; and the code is kept."""
    code = layer_code(geometry, target)
    assert layer_code(geometry, target) is code
    for batch, threads in ((7, 3), (1, 1), (2, 3)):
        operands = operands_of(geometry, batch, seed + batch)
        assert_same(run(code, operands, threads), expected(geometry, operands))


@pytest.mark.parametrize("target", HERE)
@pytest.mark.parametrize("weight", [(17, 300), (17, 3, 3, 33), (33, 7, 7, 1)])
@pytest.mark.parametrize("lowest", [False, True])
def test_the_code_proves_nothing_of_its_first_weights(
    target: str, weight: tuple[int, ...], lowest: bool
) -> None:
    """Sums as large as there are, of constants that are given later."""
    x = (1, 300) if len(weight) == 2 else (1, 7, 7, 33)
    groups = 33 if weight[-1] == 1 else 1
    pads = (weight[1] // 2,) * 4 if len(weight) == 4 else (0, 0, 0, 0)
    geometry = Geometry(x, weight, "u4", 0, padding=pads, groups=groups)
    operands = operands_of(geometry, 2, 1)
    operands.x[:] = 255
    operands.weight[:] = 0 if lowest else 15
    operands.zero_point[:] = 15 if lowest else 0
    assert_same(run(layer_code(geometry, target), operands), expected(geometry, operands))


@FEW
@given(geometries(), SEEDS, TARGET)
def test_images_of_a_batch_do_not_see_each_other(
    geometry: Geometry, seed: int, target: str
) -> None:
    code, operands = layer_code(geometry, target), operands_of(geometry, 7, seed)
    whole = run(code, operands, 2)
    assert_same(run(code, smaller(operands, 2)), whole[:2])


@FEW
@given(geometries(), SEEDS, st.sampled_from([1, 2, 7]), TARGET)
def test_compiled_and_float_sums_are_equal(
    geometry: Geometry, seed: int, batch: int, target: str
) -> None:
    operands = operands_of(geometry, batch, seed)
    wanted = expected(geometry, operands)
    given_ = integers(geometry, operands)
    assert_same(CompiledSums(target)(given_).numpy(), wanted)
    assert_same(FloatSums()(given_).numpy(), wanted)


@given(geometries(), SEEDS)
def test_float_sums_are_the_definition(geometry: Geometry, seed: int) -> None:
    operands = operands_of(geometry, 2, seed)
    wanted = expected(geometry, operands)
    assert_same(FloatSums()(integers(geometry, operands)).numpy(), wanted)


def test_operands_need_not_be_dense() -> None:
    """As of a channel-first tensor."""
    geometry = Geometry((1, 4, 5, 3), (7, 1, 1, 3), "s8", 3)
    operands = operands_of(geometry, 2, 1)
    given_ = integers(geometry, operands)
    strided = given_.x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    assert not strided.is_contiguous()
    again = replace(given_, x=strided)
    assert torch.equal(CompiledSums(HERE[0])(again), CompiledSums(HERE[0])(given_))
