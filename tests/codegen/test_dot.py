"""Every dot product of every machine is exact, also at the ends of its operands' ranges."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.codegen.harness import SEEDS, SOME_EXAMPLES, host_isas
from uqfc.codegen import jit
from uqfc.codegen.builder import Builder, new_module
from uqfc.codegen.isa import AVX2, AVX_VNNI, ISAS, Isa
from uqfc.codegen.isa.dot import DotKind, dot_for
from uqfc.codegen.vector import LANES
from uqfc.packing import PanelLayout

LARGEST: dict[DotKind, tuple[int, int]] = {"s8": (-128, 127), "s4": (-15, 15), "s16": (-255, 255)}
LONGEST = 9


@cache
def compiled(isa: Isa, kind: DotKind, length: int) -> Any:
    """``f(a, w, sums)``: one group of four after the other at ``a``, a panel of 16 at ``w``."""
    module = new_module(isa, "test")
    b = Builder.function(module, isa, "f", a="ptr", w="ptr", sums="ptr")
    dot = dot_for(isa, kind)
    activations = [dot.broadcast(b.pointer("a").load_i32(4 * i, 0)) for i in range(length)]
    words = [b.pointer("w").load_i32(64 * i) for i in range(length * dot.words)]
    parts = [tuple(words[i : i + dot.words]) for i in range(0, len(words), dot.words)]
    weights = [dot.weight(part) for part in parts]
    sums = b.pointer("sums")
    sums.store(dot.sum(sums.load_i32(), activations, weights))
    b.ret()
    loaded = jit.load(jit.compile_object(module, isa), ["f"])
    return loaded.function("f", "ptr", "ptr", "ptr")


def drawn(rng: np.random.Generator, low: int, high: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """Integers of a range, or only its ends, or only one of them."""
    anything = rng.integers(low, high + 1, shape)
    ends = rng.choice([low, high], shape)
    one = np.full(shape, rng.choice([low, high]))
    return [anything, ends, one][rng.integers(3)].astype(np.int32)


@pytest.mark.parametrize("kind", LARGEST)
@pytest.mark.parametrize("isa", host_isas())
@settings(max_examples=SOME_EXAMPLES)
@given(length=st.integers(1, LONGEST), seed=SEEDS)
def test_sums_are_exact(isa: Isa, kind: DotKind, length: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = drawn(rng, 0, 255, (4 * length,)).astype(np.uint8)
    weights = drawn(rng, *LARGEST[kind], (LANES, 4 * length))
    sums = rng.integers(-(2**20), 2**20, LANES, np.int32)
    storage = "s16" if kind == "s16" else "s8"
    packed = PanelLayout(LANES, 4 * length, storage, LANES).pack(weights)
    out = sums.copy()
    compiled(isa, kind, length)(a.ctypes.data, packed.ctypes.data, out.ctypes.data)
    np.testing.assert_array_equal(out, sums + weights @ a.astype(np.int32))


def test_machines_choose_their_own_instructions() -> None:
    assert {dot_for(isa, "s4").together for isa in ISAS.values()} == {1, 4}
    assert dot_for(AVX2, "s4").together == 4
    assert dot_for(AVX_VNNI, "s8") is dot_for(AVX_VNNI, "s4")
