from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codegen.toy import toy_model
from uqfc_runtime import ArtifactError, Model, TensorInfo, verification_inputs, verify
from uqfc_runtime.info import DTYPES
from uqfc_runtime.verification import digest, generate, record

M64 = 2**64 - 1


def mix(z: int) -> int:
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & M64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & M64
    return z ^ (z >> 31)


def expected(dtype: str, h: int) -> float:
    """One element, by the words of the module's docstring."""
    if dtype == "float32":
        return ((h >> 40) - 2**23) / 2**23
    top = h >> 56
    if dtype in ("uint8", "int8"):
        return top - 256 if dtype == "int8" and top > 127 else top
    return h >> 63


@given(
    st.sampled_from(list(DTYPES)),
    st.lists(st.integers(1, 5), max_size=3).map(tuple),
    st.integers(0, M64),
    st.integers(0, 3),
)
@settings(max_examples=100)
def test_generator_is_the_documented_one(
    dtype: str, shape: tuple[int, ...], seed: int, index: int
) -> None:
    array = generate(TensorInfo("x", DTYPES[dtype], shape), seed, index)
    assert (array.shape, array.dtype) == (shape, DTYPES[dtype])
    start = mix(seed + index & M64)
    for element, value in enumerate(array.reshape(-1).tolist()):
        h = mix(start + (element + 1) * 0x9E3779B97F4A7C15 & M64)
        assert value == expected(dtype, h)


def test_seed_0_gives_the_published_first_values_of_splitmix64() -> None:
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]
    array = generate(TensorInfo("x", DTYPES["float32"], (2,)), 0, 0)
    assert array.tolist() == [expected("float32", h) for h in published]


def test_inputs_differ_from_each_other_and_between_seeds(jit: Model) -> None:
    a, b = verification_inputs(jit.info, 1), verification_inputs(jit.info, 2)
    assert a.keys() == {"x", "i"}
    assert np.any(a["x"] != b["x"])


def test_digest_is_of_little_endian_row_major_elements() -> None:
    array = np.arange(6, dtype=np.int32).reshape(2, 3)
    want = hashlib.sha256(struct.pack("<6i", *range(6))).hexdigest()
    assert digest(array) == want
    assert digest(np.asfortranarray(array)) == want
    assert digest(array.astype(">i4")) == want


def test_same_bits_on_this_machine(artifact: Path) -> None:
    report = verify(artifact)
    assert report.ok
    assert str(report) == "toy: same bits (seed 123)\n  y: ok\n  z: ok"


def test_other_bits_are_reported() -> None:
    recorded = {"seed": 5, "outputs": {"y": "0" * 64, "z": "0" * 64}}
    model = toy_model(verification=recorded)
    report = verify(model)
    assert not report.ok
    actual = record(model, 5).outputs["y"]
    assert "DIFFERENT BITS" in str(report)
    assert f"y: expected {'0' * 64}, got {actual}" in str(report)


def test_nothing_recorded(jit: Model) -> None:
    with pytest.raises(ArtifactError, match="no verification vectors"):
        verify(jit)
