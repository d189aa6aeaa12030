"""``compile``: from a model file to a ``CompiledModel``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from uqfc.autotune import Autotuner
from uqfc.cache import Cache
from uqfc.calibrate import Progress, annotate_sensitivity, calibrate, name_layers
from uqfc.calibration import CalibrationMethod, iterate
from uqfc.codegen.isa import isa_for
from uqfc.dialects.qnn import Qnn
from uqfc.dialects.quant import DcastOp, QcastOp
from uqfc.dialects.tensors import Array
from uqfc.errors import CalibrationError, FallbackError, UqfcError
from uqfc.frontend import OnnxModel, ReadModel, read_onnx
from uqfc.frontend.uqr import apply_uqr
from uqfc.model import CompiledModel, Keeping, Origin, build
from uqfc.passes.equalize_layers import EqualizeLayersPass
from uqfc.passes.fold_calibration import FoldCalibrationPass
from uqfc.passes.insert_observers import InsertObserversPass
from uqfc.passes.quantize_weights import LayerStatistics, QuantizeWeightsPass
from uqfc.passes.select_bit_width import SelectBitWidthPass, decision_of
from uqfc.passes.support.verifying import Verifier
from uqfc.passes.uint8_inputs import UInt8, Uint8InputsPass
from uqfc.passes.widen_weights import WidenWeightsPass
from uqfc.pipeline import Trace, graph_passes, integer_passes, parse_pipeline, run_passes
from uqfc.results import RecordedData, result_key
from uqfc.targets import Target, load_target

Choice = TypeVar("Choice", bound=StrEnum)


class QuantStrategy(StrEnum):
    """Which weight types are asked for; activations are 8 bits but for ``float32``."""

    FLOAT32 = "float32"
    INT8 = "int8"
    INT4 = "int4"
    MIXED = "mixed_int4_int8"
    TERNARY = "ternary"
    BINARY = "binary"


@dataclass(frozen=True)
class Options:
    """All that a compilation depends on beside the model, the target's table and the data."""

    name: str
    target: str
    strategy: QuantStrategy
    method: CalibrationMethod
    weight_quant: Mapping[str, Any]
    threads: int
    strict: bool
    autotune: bool
    inputs: Mapping[str, UInt8]
    pipeline: str | Sequence[ModulePass]

    def document(self) -> dict[str, object]:
        """All fields by name; JSON values, unless the user gave objects."""
        inputs = {name: astuple(kind) for name, kind in self.inputs.items()}
        found: dict[str, object] = {field.name: getattr(self, field.name) for field in fields(self)}
        return found | {"inputs": inputs}

    def weights(self, statistics: Mapping[str, LayerStatistics]) -> QuantizeWeightsPass:
        """The pass with the user's options. UqfcError for an option that there is not."""
        options = dict(self.weight_quant)
        granularity = str(options.pop("granularity", "per_channel"))
        symmetric, ranges = options.pop("symmetric", None), options.pop("ranges", None)
        if options:
            accepted = "granularity, symmetric, ranges"
            raise UqfcError(f"weight_quant: unknown {', '.join(options)}; accepted: {accepted}")
        name = granularity if granularity.startswith("per_") else f"per_{granularity}"
        return QuantizeWeightsPass(name, symmetric, ranges, statistics)


def compile(  # noqa: A001 # read as `uqfc.compile`
    model: Any,
    *,
    target: str | Path = "host",
    quant_strategy: str = "int8",
    calibration_data: object = None,
    calibration_method: str = "mse",
    calibration_samples: int | None = None,
    weight_quant: Mapping[str, Any] | None = None,
    uqr: str | Path | Mapping[str, Any] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    input_types: Mapping[str, str | UInt8] | None = None,
    threads: int = 1,
    strict: bool = False,
    autotune: bool = False,
    pass_pipeline: str | Iterable[ModulePass] = "",
    progress: Progress | None = None,
    trace: Trace | None = None,
    cache: bool = True,
) -> CompiledModel:
    """Compile an ONNX model (path, bytes or ``onnx.ModelProto``), a program of ``torch.export``, or
    a model of ``uqfc.prepare_qat``, for a target.

    ``quant_strategy`` is ``float32``, or the type of the weights: ``int8``, ``int4``,
    ``mixed_int4_int8``, ``ternary`` or ``binary``; all but the first need ``calibration_data`` (a
    path, or an iterable of samples) unless the model is quantized already (QDQ, QOperator,
    UQR, ``prepare_qat``): such a model keeps its own types, whatever the strategy.
    ``weight_quant`` may say how weights are quantized: ``granularity`` (``channel`` or ``tensor``),
    ``symmetric``, ``ranges`` (``minmax`` or ``mse``). ``uqr``: a document (a JSON file's path, or
    its content) with the quantization of a float ONNX model; what it does not name stays float32
    (docs/uqr.md). ``shapes`` fixes dynamic dimensions.
    ``input_types`` makes float32 inputs uint8: a byte ``q`` stands for the real value
    ``scale * (q - zero_point)``, given as ``{"x": UInt8(scale, zero_point)}``, or by
    ``{"x": "uint8"}`` for those that the network quantizes the input with; results have the same
    bits as for the dequantized float32 input, and calibration data stay real values. ``threads``:
    most threads of one run, which has the same results on any number of them. ``strict``: a layer
    that does not get the type that was asked for is a
    FallbackError. ``autotune``: where several kernels can compute a layer, measure them on this
    machine, which must have the target's instructions, rather than ask the cost model.
    ``pass_pipeline``: passes of yours, by name (``"a,b{option=1}"``) or as objects, run on the
    float graph after fusion. ``trace`` sees the module after every pass. ``cache``: whether
    kernels, measurements, and the whole result where nothing is measured and no pass of yours and
    no ``trace`` takes part, may come from, and go to, the cache on disk (``uqfc.cache``,
    ``uqfc.results``).

    Raises subclasses of UqfcError for everything that the caller can mend.
    """
    options = Options(
        model_name(model),
        str(target),
        one_of(QuantStrategy, quant_strategy, "quant_strategy"),
        one_of(CalibrationMethod, calibration_method, "calibration_method"),
        weight_quant or {},
        threads,
        strict,
        autotune,
        {name: uint8_type(name, kind) for name, kind in (input_types or {}).items()},
        pass_pipeline if isinstance(pass_pipeline, str) else list(pass_pipeline),
    )
    table = load_target(target)
    isa_for(table)  # a table that LLVM refuses is refused before any work
    read = read_model(model, shapes) if uqr is None else read_onnx(apply_uqr(model, uqr), shapes)
    data = None
    if calibration_data is not None and options.strategy != QuantStrategy.FLOAT32:
        data = RecordedData(iterate(calibration_data, read.inputs, limit=calibration_samples))
    if not cache:
        return compile_read(read, table, data, options, progress, trace)
    if trace is not None or autotune or (read.quantized and data is not None):
        return compile_read(read, table, data, options, progress, trace, Keeping(Cache()))
    passes = parse_pipeline(options.pipeline)
    key = result_key(read, table, options.document(), passes, data)
    keeping = Keeping(Cache(), key)
    again = partial(compile_read, read, table, data, options)
    return CompiledModel.restored(keeping, table, again) or again(progress, None, keeping)


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


def compile_read(
    model: ReadModel,
    table: Target,
    data: RecordedData | None,
    options: Options,
    progress: Progress | None = None,
    trace: Trace | None = None,
    keeping: Keeping | None = None,
) -> CompiledModel:
    """Compile a model that was read; a result depends on nothing but the first four arguments."""
    module, verifier = model.convert(), Verifier()
    run_passes(module, graph_passes(options.pipeline), trace, verifier)
    name_layers(module)
    if options.strategy != QuantStrategy.FLOAT32 and not is_quantized(module):
        quantize(module, data, options, progress, trace, verifier)
    origin = Origin(module.clone(), *background(model, data, options))
    run_passes(module, integer_passes(), trace, verifier)
    for_target = [WidenWeightsPass(options.target), Uint8InputsPass(options.inputs)]
    run_passes(module, for_target, trace, verifier)
    if options.strict:
        check_no_fallback(module, options.target)
    cache = None if keeping is None else keeping.cache
    tune = Autotuner(table, options.target, cache) if options.autotune else None
    return build(
        module,
        table,
        options.target,
        options.name,
        options.strategy,
        trace,
        keeping,
        tune,
        threads=options.threads,
        origin=origin,
    )


def background(
    model: ReadModel, data: RecordedData | None, options: Options
) -> tuple[Mapping[str, Any] | None, Mapping[str, Any]]:
    """Calibration and provenance for a UQR file; what the model brought along is kept."""
    calibration, provenance = model.history if isinstance(model, OnnxModel) else (None, {})
    if data is not None and not model.quantized:
        calibration = {"method": str(options.method), **data.description}
    return calibration, provenance


def one_of(kind: type[Choice], value: str, argument: str) -> Choice:
    """The member of an enumeration; UqfcError lists what is accepted."""
    try:
        return kind(value)
    except ValueError:
        accepted = ", ".join(kind)
        raise UqfcError(f"{argument}: '{value}' is unknown; accepted: {accepted}") from None


def uint8_type(name: str, kind: str | UInt8) -> UInt8:
    """The type of an input. UqfcError for any other."""
    if isinstance(kind, UInt8):
        return kind
    if kind != "uint8":
        raise UqfcError(f"input types: input '{name}': '{kind}' is unknown; accepted: uint8")
    return UInt8()


def model_name(model: Any) -> str:
    if isinstance(model, str | Path):
        return Path(model).stem
    graph = getattr(model, "graph", None)
    return str(getattr(graph, "name", "") or "model")


def is_quantized(module: ModuleOp) -> bool:
    """Whether the model came with its own quantize points, static or dynamic (integer ops)."""
    own = (QcastOp, DcastOp, *Qnn.operations)
    return any(isinstance(op, own) for op in module.walk())


def quantize(
    module: ModuleOp,
    data: Iterable[Mapping[str, Array]] | None,
    options: Options,
    progress: Progress | None,
    trace: Trace | None,
    verifier: Verifier,
) -> None:
    """Place quantize points, calibrate them, choose bit widths and quantize the weights."""
    run_passes(module, [EqualizeLayersPass(), InsertObserversPass()], trace, verifier)
    if data is None:
        raise CalibrationError(
            f"quantization to {options.strategy} needs calibration data: an .npz or .npy file, "
            "a directory of images, or an iterable of samples"
        )
    with_statistics = options.strategy != QuantStrategy.INT8
    statistics = calibrate(
        module, data, options.method, with_statistics=with_statistics, progress=progress
    )
    if options.strategy == QuantStrategy.MIXED:
        annotate_sensitivity(module, statistics)
    run_passes(
        module,
        [
            SelectBitWidthPass(options.strategy, options.target),
            FoldCalibrationPass(),
            options.weights(statistics),
        ],
        trace,
        verifier,
    )


def check_no_fallback(module: ModuleOp, target: str) -> None:
    """FallbackError that lists every layer without the type that was asked for."""
    lines: list[str] = []
    for op in module.walk():
        decision = decision_of(op)
        if decision is not None and decision.is_fallback:
            name = op.attributes.get("layer")
            lines.append(
                f"  {getattr(name, 'data', op.name)}: requested {decision.requested}, "
                f"got {decision.chosen} ({decision.reason})"
            )
    if lines:
        raise FallbackError(f"target {target}: {len(lines)} fallback(s)\n" + "\n".join(lines))
