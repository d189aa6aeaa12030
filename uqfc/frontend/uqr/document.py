"""The document of a UQR model: its fields, which values they take, and its JSON text.

``schema()`` is what ``schema.json`` in this package holds. Spellings of the article that are not
canonical (``"channel"``, ``"Conv_2d"``) are read, and never written.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
)

from uqfc.dialects.quant.decisions import Reason

VERSION = "1.0"
GRANULARITIES = {
    "channel": "per_channel",
    "tensor": "per_tensor",
    "block": "per_block",
    "group": "per_block",
    "per_group": "per_block",
}
"""Other spellings that are accepted."""
OP_SPELLINGS = {
    "conv_2d": "Conv",
    "conv2d": "Conv",
    "depthwise_conv_2d": "Conv",
    "depthwise_conv2d": "Conv",
    "linear": "Gemm",
    "dense": "Gemm",
    "fully_connected": "Gemm",
    "matmul": "MatMul",
}
"""Canonical (ONNX) op types of other spellings, which are compared in lower case."""
PRODUCTS = ("Gemm", "MatMul")
"""What a "linear" may be in the graph."""


def shortest(value: float) -> float:
    """The double whose shortest decimal is the shortest one that reads back as this float32."""
    return float(str(np.float32(value)))


def as_float32(value: float) -> float:
    """The float32 that a decimal stands for; ValueError if it is none."""
    with np.errstate(over="ignore", under="ignore"):
        rounded = float(np.float32(value))
    if not np.isfinite(rounded):
        raise ValueError("is beyond float32; accepted: finite float32 values")
    return rounded


def as_scale(value: float) -> float:
    """``as_float32`` of a number above 0."""
    rounded = as_float32(value)
    if rounded <= 0:
        raise ValueError(f"is {value:g}; accepted: finite float32 values above 0")
    return rounded


def in_list(value: Any) -> Any:
    """One number is the list of it."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return [value] if is_number else value


def canonical_granularity(value: Any) -> Any:
    return GRANULARITIES.get(value, value) if isinstance(value, str) else value


def canonical_op(value: Any) -> Any:
    return OP_SPELLINGS.get(value.lower(), value) if isinstance(value, str) else value


Name: TypeAlias = Annotated[str, StringConstraints(min_length=1)]
Sha256: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Float32: TypeAlias = Annotated[float, AfterValidator(as_float32), PlainSerializer(shortest)]
Scale: TypeAlias = Annotated[
    float,
    AfterValidator(as_scale),
    PlainSerializer(shortest),
    Field(json_schema_extra={"exclusiveMinimum": 0}),
]
Scales: TypeAlias = Annotated[list[Scale], BeforeValidator(in_list), Field(min_length=1)]
ZeroPoints: TypeAlias = Annotated[list[int], BeforeValidator(in_list), Field(min_length=1)]
IntegerRange: TypeAlias = Annotated[list[int], Field(min_length=2, max_length=2)]
RealRange: TypeAlias = Annotated[list[Float32], Field(min_length=2, max_length=2)]
Dtype: TypeAlias = Literal[
    "int8",
    "uint8",
    "int4",
    "uint4",
    "int2",
    "uint2",
    "ternary",
    "binary",
    "fp8_e4m3",
    "fp8_e5m2",
    "float32",
]
WeightDtype: TypeAlias = Literal[
    "int8", "int4", "ternary", "binary", "fp8_e4m3", "fp8_e5m2", "float32"
]
Granularity: TypeAlias = Annotated[
    Literal["per_channel", "per_tensor", "per_block"], BeforeValidator(canonical_granularity)
]


class Part(BaseModel):
    """A JSON object all of whose fields are known; values have the type that the schema says."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Numerics(Part):
    """The arithmetic that gives the integers their meaning (docs/concepts.md)."""

    rounding: Literal["half_even"] = "half_even"
    requantize: Literal["float32_multiplier"] = "float32_multiplier"
    accumulator: Literal["int32"] = "int32"


class Quantization(Part):
    """``real = (q - zero_point) * scale``; of 8-bit floats ``number * scale``, zero point 0."""

    tensor: Name | None = None
    """The ONNX tensor that holds the integers; without it, the one that belongs to the op."""
    dtype: Dtype
    """``int4`` and ``int8`` are read as unsigned where the range is not a signed one."""
    symmetric: bool | None = None
    """Whether every zero point is in the middle: 0, or 128 and 8 of unsigned types."""
    granularity: Granularity | None = None
    axis: Annotated[int, Field(ge=0)] | None = None
    """Of the tensor, for ``per_channel`` and ``per_block``."""
    block_size: Annotated[int, Field(ge=1)] | None = None
    scale: Scales | None = None
    """float32, as the shortest decimals that read back as the same bits; row-major."""
    zero_point: ZeroPoints | None = None


class WeightQuant(Quantization):
    """Of constant weights."""

    range: IntegerRange | None = None
    """Least and largest integer; by default those of the dtype."""


class ActivationQuant(Quantization):
    """Of values that are known at run time only."""

    calibration_method: Name | None = None
    integer_range: IntegerRange | None = None
    """Least and largest integer; by default those of the dtype."""
    range: RealRange | None = None
    """Least and largest real value that the integers stand for."""


class DecisionPart(Part):
    """Which weight type was asked for, which one the layer got, and why."""

    requested: WeightDtype
    chosen: WeightDtype
    reason: Annotated[Reason, Field(strict=False)]


class Op(Part):
    """A node of the graph, by its name."""

    name: Name
    op: Annotated[Name, BeforeValidator(canonical_op)]
    """The ONNX op type."""
    weight_quant: WeightQuant | None = None
    activation_quant: ActivationQuant | None = None
    sensitivity: dict[Name, Annotated[float, Field(ge=0)]] | None = None
    """What quantizing the layer costs, by the name of the measure."""
    decision: DecisionPart | None = None


class Calibration(Part):
    """Where ranges come from."""

    method: Name | None = None
    samples: Annotated[int, Field(ge=0)] | None = None
    data_sha256: Sha256 | None = None


class Provenance(BaseModel):
    """Where the model comes from; any further fields may be given."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True, allow_inf_nan=False)

    producer: Name | None = None
    source_sha256: Sha256 | None = None


class Document(Part):
    """The metadata property ``uqr`` of an ONNX model."""

    uqr: Literal["1.0"]
    """Version of the format."""
    numerics: Numerics = Numerics()
    ops: list[Op]
    calibration: Calibration | None = None
    provenance: Provenance | None = None


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the canonical spelling."""
    return {
        **Document.model_json_schema(mode="serialization"),
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"UQR {VERSION}",
    }


def schema_text() -> str:
    """The content of ``schema.json``, which is written by ``python -m uqfc.frontend.uqr``."""
    return json.dumps(schema(), indent=1) + "\n"
