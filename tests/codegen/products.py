"""Runs the kernel of a matrix product on random data and compares it with the definition."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.codegen.harness import (
    Problem,
    compile_call,
    definition,
    random_activations,
    random_problem,
    run_kernel,
)
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels import Epilogue, GemmDims
from uqfc.packing import Storage


def product_sums(x: NDArray[np.uint8], problem: Problem) -> NDArray[np.int64]:
    """Sums [rows, n] of ``x`` [rows, k] without addends."""
    centred = (problem.weights - problem.zero_points[:, None]).astype(np.int64)
    return x.astype(np.int64) @ centred.T


def check_dense(
    spec: Any,
    dims: GemmDims,
    isa: Isa,
    storage: Storage,
    epilogue: Epilogue,
    seed: int,
    *,
    parts: int | None = None,
) -> None:
    """Contiguous operands; the residual in the output's memory for every second seed."""
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, (dims.n, dims.k), storage, epilogue)
    x = random_activations(rng, (dims.rows, dims.k))
    residual = rng.integers(0, 256, (dims.rows, dims.n), np.uint8)
    in_place = epilogue.residual and epilogue.output == "u8" and seed % 2 == 0
    out = run_kernel(
        spec, dims, isa, x, problem, residual, epilogue, in_place=in_place, parts=parts
    )
    expected = definition(product_sums(x, problem), problem, residual, epilogue)
    np.testing.assert_array_equal(out, expected)


def check_strided(
    spec: Any, dims: GemmDims, isa: Isa, storage: Storage, epilogue: Epilogue
) -> None:
    """Rows of u8 that are further apart than they are long; what is between them stays."""
    rng = np.random.default_rng(7)
    problem = random_problem(rng, (dims.n, dims.k), storage, epilogue)
    x = rng.integers(0, 256, (dims.rows, dims.lda), np.uint8)
    out = rng.integers(0, 256, (dims.rows, dims.ldc), np.uint8)
    residual = rng.integers(0, 256, (dims.rows, dims.ldr), np.uint8)
    before = out.copy()
    arrays = [
        np.concatenate([x.ravel(), np.zeros(64, np.uint8)]),
        spec.pack(dims, problem.weights, problem.zero_points),
        spec.pad(dims, problem.addend),
        spec.pad(dims, problem.multiplier),
        out,
        np.concatenate([residual.ravel(), np.zeros(64, np.uint8)]),
        np.zeros(max(spec.scratch_bytes(dims), 1), np.uint8),
    ]
    compile_call(spec, dims, problem.scalars, isa)(*[array.ctypes.data for array in arrays])
    sums = product_sums(x[:, : dims.k], problem)
    expected = definition(sums, problem, residual[:, : dims.n], epilogue)
    np.testing.assert_array_equal(out[:, : dims.n], expected)
    np.testing.assert_array_equal(out[:, dims.n :], before[:, dims.n :])
