"""FP8 codes are those of ml_dtypes and of ONNX's own casts, for equality."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from uqfc.float8 import E4M3, E5M2, FORMATS, Float8, decode, dequantize, encode, quantize

THEIRS = {"f8E4M3FN": ml_dtypes.float8_e4m3fn, "f8E5M2": ml_dtypes.float8_e5m2}
ONNX = {"f8E4M3FN": TensorProto.FLOAT8E4M3FN, "f8E5M2": TensorProto.FLOAT8E5M2}
CODES = np.arange(256, dtype=np.uint8)

formats = pytest.mark.parametrize("form", FORMATS.values(), ids=list(FORMATS))


def finite_numbers(form: Float8) -> np.ndarray:
    """All numbers of the format in ascending order."""
    numbers = decode(CODES, form)
    return np.unique(numbers[np.isfinite(numbers)])


def saturated(v: np.ndarray, form: Float8) -> np.ndarray:
    """The codes that ml_dtypes gives values within the largest ones (NaN: 0)."""
    clipped = np.clip(
        np.nan_to_num(v, nan=0.0, posinf=np.inf, neginf=-np.inf), -form.largest, form.largest
    ).astype(np.float32)
    return clipped.astype(THEIRS[form.name]).view(np.uint8)


def hard_values(form: Float8) -> np.ndarray:
    """Numbers, ties between neighbours, float32 next to both, and the ends of float32."""
    numbers = finite_numbers(form)
    ties = (numbers[1:] + numbers[:-1]) / np.float32(2)
    centres = np.concatenate([numbers, ties]).astype(np.float32)
    around = [np.nextafter(centres, np.float32(d)) for d in (-np.inf, np.inf)]
    beyond = np.array(
        [form.largest * f for f in (1 + 1 / 32, 1 + 1 / 16, 1.07, 2, 1e30)], np.float32
    )
    tiny = np.array([1e-45, 1e-40, 1.1754944e-38, 0.0, -0.0], np.float32)
    ends = np.array([np.inf, -np.inf, np.nan, 3.4028235e38], np.float32)
    return np.concatenate([centres, *around, beyond, -beyond, tiny, -tiny, ends])


@formats
def test_decode_is_that_of_ml_dtypes(form: Float8) -> None:
    theirs = CODES.view(THEIRS[form.name]).astype(np.float32)
    assert np.array_equal(decode(CODES, form), theirs, equal_nan=True)
    assert np.signbit(decode(CODES, form)[128])


@formats
def test_decode_is_that_of_onnx(form: Float8) -> None:
    tensor = TensorProto(data_type=ONNX[form.name], dims=[256], raw_data=CODES.tobytes())
    theirs = numpy_helper.to_array(tensor).astype(np.float32)
    assert np.array_equal(decode(CODES, form), theirs, equal_nan=True)


@formats
def test_encode_inverts_decode(form: Float8) -> None:
    magnitudes = CODES & 0x7F
    finite = CODES[magnitudes <= form.largest_code]
    assert np.array_equal(encode(decode(finite, form), form), finite)


@formats
def test_encode_is_that_of_ml_dtypes_at_ties_and_boundaries(form: Float8) -> None:
    values = hard_values(form)
    assert np.array_equal(encode(values, form), saturated(values, form))


@given(bits=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=64))
@formats
def test_encode_is_that_of_ml_dtypes_for_any_float32(form: Float8, bits: list[int]) -> None:
    values = np.array(bits, np.uint32).view(np.float32)
    finite = np.where(np.isnan(values), np.float32(0), values)
    assert np.array_equal(encode(values, form), saturated(finite, form))


@formats
def test_encode_is_that_of_ml_dtypes_for_a_million_random_values(form: Float8) -> None:
    random = np.random.default_rng(0)
    magnitude = np.exp2(random.uniform(-20, 18, 1_000_000))
    values = (magnitude * random.choice([-1.0, 1.0], magnitude.size)).astype(np.float32)
    assert np.array_equal(encode(values, form), saturated(values, form))


@formats
def test_nan_gives_zero_and_infinities_saturate(form: Float8) -> None:
    codes = encode(np.array([np.nan, -np.nan, np.inf, -np.inf], np.float32), form)
    assert list(decode(codes, form)) == [0.0, 0.0, form.largest, -form.largest]
    assert codes[0] == codes[1] == 0


@formats
def test_quantize_is_onnx_quantize_linear(form: Float8) -> None:
    """By ONNX's reference, for numbers: it keeps a NaN, where NUMERICS says zero."""
    scale = np.array(0.0371, np.float32)
    values = hard_values(form)
    values = values[np.abs(values) < 1e30]  # beyond, the reference warns of an overflow
    zero = TensorProto(name="z", data_type=ONNX[form.name], dims=[], raw_data=b"\0")
    graph = helper.make_graph(
        [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], saturate=1)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None])],
        [helper.make_tensor_value_info("q", ONNX[form.name], [None])],
        [numpy_helper.from_array(scale, "s"), zero],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    (theirs,) = ReferenceEvaluator(model).run(None, {"x": values})
    ours = quantize(values, scale, form)
    assert np.array_equal(ours, np.asarray(theirs).view(np.uint8))
    assert np.array_equal(dequantize(ours, scale, form), decode(ours, form) * scale)


def test_products_are_exact_in_float32() -> None:
    """All products of all numbers of both formats: what makes a fused multiply-add harmless."""
    numbers = np.concatenate([finite_numbers(E4M3), finite_numbers(E5M2)])
    exact = numbers.astype(np.float64)[:, None] * numbers.astype(np.float64)
    assert np.array_equal((numbers[:, None] * numbers).astype(np.float64), exact)
