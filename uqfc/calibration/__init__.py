"""From calibration data to quantization parameters: observers, data sources, weight rounding."""

from __future__ import annotations

from uqfc.calibration.data import CalibrationData, iterate
from uqfc.calibration.few_levels import binary_weights, signs, ternary_weights
from uqfc.calibration.gram import GramAccumulator, Quadratic
from uqfc.calibration.images import Preprocess
from uqfc.calibration.observers import CalibrationMethod, Observer, make_observer
from uqfc.calibration.parameters import (
    QuantizationParameters,
    activation_parameters,
    affine_parameters,
    float8_scale,
)
from uqfc.calibration.reconstruction import adaptive_round, reconstruction_error
from uqfc.calibration.weights import (
    QuantizedWeights,
    WeightMethod,
    bias_correction,
    equalize,
    integer_range,
    quantize_weights,
)

__all__ = [
    "CalibrationData",
    "CalibrationMethod",
    "GramAccumulator",
    "Observer",
    "Preprocess",
    "Quadratic",
    "QuantizationParameters",
    "QuantizedWeights",
    "WeightMethod",
    "activation_parameters",
    "adaptive_round",
    "affine_parameters",
    "bias_correction",
    "binary_weights",
    "equalize",
    "float8_scale",
    "integer_range",
    "iterate",
    "make_observer",
    "quantize_weights",
    "reconstruction_error",
    "signs",
    "ternary_weights",
]
