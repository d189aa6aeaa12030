"""The definition of 8-bit floating point: FP8 e4m3fn and e5m2 (Micikevicius et al., "FP8 Formats
for Deep Learning", 2022), as ONNX and MLIR have them.

A quantized value is a *code*, the byte of a number of the format; real value = ``number * scale``
with a float32 scale, finite and > 0; there is no zero point.

- ``decode`` is exact: float32 holds every number of both formats.
- ``encode`` rounds half to even, once, to the format's grid (denormals are kept), and saturates:
  what is beyond the largest finite number, and ±inf, becomes that number, as with ``saturate = 1``
  of ONNX. NaN gives code 0, because NaN quantizes to the zero point (NUMERICS; ONNX would keep the
  NaN). So ``encode`` never makes a code that is not finite. The sign of a zero is kept.
- ``quantize(x) = encode(x / scale)`` with one float32 division, ``dequantize(q) = decode(q) *
  scale`` with one multiplication.

A layer's products are exact in float32: two numbers of at most 4 significant bits give one of at
most 8, between ``2**-32`` and ``2**32`` in magnitude, so a fused multiply-add has the bits of a
multiplication and an addition. Sums have the order of all float32 reductions
(``numerics.strided_matmul``), so the formats may be mixed and any number of products summed.

``rounded_code`` and ``finite_number`` are written over an ``Arithmetic``: NumPy evaluates them
here, and ``uqfc.codegen`` emits them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uqfc.numerics import F32, I32, NUMPY, Arithmetic, Vec

U8 = NDArray[np.uint8]

F32_BIAS = 127
F32_MANTISSA_BITS = 23
EXPONENT_BITS_OF_F32 = 0x7F800000
MAGNITUDE_BITS_OF_F32 = 0x7FFFFFFF


@dataclass(frozen=True)
class Float8:
    """A format. ``name`` is MLIR's, ``dtype`` what users and UQR call it."""

    name: str
    dtype: str
    mantissa_bits: int
    bias: int
    largest: float
    largest_code: int

    @property
    def short(self) -> str:
        """For the names of kernels, e.g. ``e4m3``."""
        return self.dtype.removeprefix("fp8_")

    @property
    def shift(self) -> int:
        """From a code to the bits of a float32: the mantissas' first bits then agree."""
        return F32_MANTISSA_BITS - self.mantissa_bits

    @property
    def power(self) -> float:
        """What the bits of a code, shifted, are to be multiplied with: the biases differ."""
        return 2.0 ** (F32_BIAS - self.bias)

    @property
    def smallest_normal(self) -> float:
        return 2.0 ** (1 - self.bias)


E4M3 = Float8("f8E4M3FN", "fp8_e4m3", 3, 7, 448.0, 0x7E)
E5M2 = Float8("f8E5M2", "fp8_e5m2", 2, 15, 57344.0, 0x7B)
FORMATS: dict[str, Float8] = {f.name: f for f in (E4M3, E5M2)}
"""By MLIR's name, which is also that of the storage type."""


def finite_number(xp: Arithmetic, code: Vec, form: Float8) -> Vec:
    """float32 of sign-extended int32 codes (-128 … 127) that are finite.

    Denormal numbers become denormal float32 first; the multiplication is exact in any case.
    """
    magnitude_and_sign = (127 << form.shift) - 2**31
    return xp.as_float((code << form.shift) & magnitude_and_sign) * form.power


def rounded_code(xp: Arithmetic, v: Vec, form: Float8) -> Vec:
    """The int32 code (0 … 255) of float32 that are not NaN.

    Adding ``2**(e + 23 - mantissa_bits)`` to a magnitude in ``[2**e, 2**(e + 1))``, or below the
    smallest normal number with that one's ``e``, rounds it to the grid of the format: the sum's
    last bit is worth one step. The rest is exact.
    """
    bits = xp.as_int(v)
    magnitude = xp.minimum(xp.as_float(bits & MAGNITUDE_BITS_OF_F32), form.largest)
    exponent = xp.as_int(xp.maximum(magnitude, form.smallest_normal)) & EXPONENT_BITS_OF_F32
    coarse = xp.as_float(exponent + (form.shift << F32_MANTISSA_BITS))
    number = (magnitude + coarse) - coarse
    code = xp.as_int(number * (1.0 / form.power)) >> form.shift
    return code | ((bits >> 24) & 128)


def encode(v: F32, form: Float8) -> U8:
    """Codes of float32 values."""
    values = np.asarray(v, np.float32)
    numbers = np.where(np.isnan(values), np.float32(0), values)
    return np.asarray(rounded_code(NUMPY, numbers, form)).astype(np.uint8)


def decode(codes: U8 | I32, form: Float8) -> F32:
    """The float32 numbers of all 256 codes, infinities and NaN included."""
    raw = np.asarray(codes).astype(np.uint8)
    numbers = np.asarray(finite_number(NUMPY, raw.view(np.int8).astype(np.int32), form))
    special = np.where(raw & 0x80, np.float32(-np.inf), np.float32(np.inf))
    magnitude = raw & 0x7F
    is_infinite = magnitude == 0x7C if form is E5M2 else np.zeros_like(magnitude, bool)
    numbers = np.where(is_infinite, special, numbers)
    return np.where((magnitude > form.largest_code) & ~is_infinite, np.float32(np.nan), numbers)


def is_finite(codes: U8, form: Float8) -> bool:
    """Whether all codes are of finite numbers."""
    return bool(np.all((np.asarray(codes) & 0x7F) <= form.largest_code))


def quantize(x: F32, scale: F32 | float, form: Float8) -> U8:
    """``encode(x / scale)``; ``scale`` broadcasts against ``x``."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        return encode(np.asarray(x, np.float32) / np.asarray(scale, np.float32), form)


def dequantize(codes: U8 | I32, scale: F32 | float, form: Float8) -> F32:
    """``decode(codes) * scale``."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        return decode(codes, form) * np.asarray(scale, np.float32)
