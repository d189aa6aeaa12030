"""What ``uqfc.compile`` was asked for, checked; and the model that it was given, read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from xdsl.passes import ModulePass

from uqfc.calibration import CalibrationMethod
from uqfc.errors import UqfcError
from uqfc.frontend import ReadModel, read_onnx
from uqfc.passes.quantize_weights import LayerStatistics, QuantizeWeightsPass
from uqfc.passes.select_bit_width import WEIGHT_DTYPES
from uqfc.passes.uint8_inputs import UInt8

Choice = TypeVar("Choice", bound=StrEnum)


class QuantStrategy(StrEnum):
    """Which weight types are asked for; activations are 8 bits but for ``float32``: integers, or
    e4m3 for 8-bit floats."""

    FLOAT32 = "float32"
    INT8 = "int8"
    INT4 = "int4"
    MIXED = "mixed_int4_int8"
    TERNARY = "ternary"
    BINARY = "binary"
    FP8_E4M3 = "fp8_e4m3"
    FP8_E5M2 = "fp8_e5m2"


@dataclass(frozen=True)
class Options:
    """All that a compilation depends on beside the model, the target's table and the data."""

    name: str
    target: str
    strategy: QuantStrategy = QuantStrategy.INT8
    bit_widths: tuple[tuple[str, str], ...] = ()
    """(pattern of layers' names, weight type), of which the first that matches counts."""
    method: CalibrationMethod = CalibrationMethod.MSE
    weight_quant: Mapping[str, Any] = field(default_factory=dict[str, Any])
    threads: int = 1
    strict: bool = False
    autotune: bool = False
    latencies: Mapping[str, Any] | None = None
    """Document of a ``LatencyTable``."""
    inputs: Mapping[str, UInt8] = field(default_factory=dict[str, UInt8])
    pipeline: str | Sequence[ModulePass] = ""

    def document(self) -> dict[str, object]:
        """All fields by name; JSON values, unless the user gave objects."""
        inputs = {name: astuple(kind) for name, kind in self.inputs.items()}
        found: dict[str, object] = {f.name: getattr(self, f.name) for f in fields(self)}
        return found | {"inputs": inputs}

    def weights(self, statistics: Mapping[str, LayerStatistics]) -> QuantizeWeightsPass:
        """The pass with the user's options, which remembers what it quantized.

        UqfcError for an option that there is not.
        """
        options = dict(self.weight_quant)
        granularity = str(options.pop("granularity", "per_channel"))
        symmetric, ranges = options.pop("symmetric", None), options.pop("ranges", None)
        if options:
            accepted = "granularity, symmetric, ranges"
            raise UqfcError(f"weight_quant: unknown {', '.join(options)}; accepted: {accepted}")
        name = granularity if granularity.startswith("per_") else f"per_{granularity}"
        return QuantizeWeightsPass(name, symmetric, ranges, statistics, {})


def pipeline_of(pipeline: str | Iterable[ModulePass]) -> str | Sequence[ModulePass]:
    """What can be read more than once."""
    return pipeline if isinstance(pipeline, str) else list(pipeline)


def one_of(kind: type[Choice], value: str, argument: str) -> Choice:
    """The member of an enumeration; UqfcError lists what is accepted."""
    try:
        return kind(value)
    except ValueError:
        accepted = ", ".join(kind)
        raise UqfcError(f"{argument}: '{value}' is unknown; accepted: {accepted}") from None


def checked_bit_widths(
    given: Mapping[str, str] | None, strategy: QuantStrategy
) -> tuple[tuple[str, str], ...]:
    """(pattern, weight type) in order. UqfcError for what is no weight type."""
    if not given:
        return ()
    if not isinstance(given, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] # user's
        raise UqfcError("bit_widths: accepted: a mapping of layers' names, or patterns, to types")
    if strategy == QuantStrategy.FLOAT32:
        raise UqfcError(
            "bit_widths: quant_strategy float32 quantizes nothing; choose another, and give layers "
            'that shall keep float32 weights as {"name": "float32"}'
        )
    for pattern, dtype in given.items():
        if dtype not in WEIGHT_DTYPES:
            accepted = ", ".join(WEIGHT_DTYPES)
            raise UqfcError(f"bit_widths: '{pattern}': '{dtype}' is unknown; accepted: {accepted}")
    return tuple((str(pattern), str(dtype)) for pattern, dtype in given.items())


def uint8_types(given: Mapping[str, str | UInt8] | None) -> dict[str, UInt8]:
    """The types of inputs that are bytes. UqfcError for any other."""
    found: dict[str, UInt8] = {}
    for name, kind in (given or {}).items():
        if not isinstance(kind, UInt8) and kind != "uint8":
            raise UqfcError(f"input types: input '{name}': '{kind}' is unknown; accepted: uint8")
        found[name] = kind if isinstance(kind, UInt8) else UInt8()
    return found


def model_name(model: Any) -> str:
    if isinstance(model, str | Path):
        return Path(model).stem
    graph = getattr(model, "graph", None)
    return str(getattr(graph, "name", "") or "model")


@runtime_checkable
class Trained(Protocol):
    """A model of ``uqfc.prepare_qat``."""

    def to_uqr(self) -> bytes:
        """The content of a UQR file."""
        ...


def read_model(model: Any, shapes: Mapping[str, Sequence[int]] | None) -> ReadModel:
    """The model by the frontend for its type, of which torch's is only imported when it is used."""
    if isinstance(model, Trained):
        return read_onnx(model.to_uqr(), shapes, type(model).__name__)
    if not type(model).__module__.startswith("torch.export"):
        return read_onnx(model, shapes)
    if shapes:
        raise UqfcError("shapes: those of an exported program are fixed; export it with others")
    from uqfc.frontend.torch import read_torch  # noqa: PLC0415 # torch is optional

    return read_torch(model)
