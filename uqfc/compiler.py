"""``compile``: from a model file to a ``CompiledModel``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from uqfc.cache import Cache
from uqfc.calibrate import Progress, annotate_sensitivity, calibrate, name_layers
from uqfc.calibration import CalibrationMethod, iterate
from uqfc.dialects.quant import DcastOp, QcastOp
from uqfc.dialects.tensors import numpy_dtype, shape_of, type_of
from uqfc.errors import CalibrationError, FallbackError, UqfcError
from uqfc.frontend import import_onnx
from uqfc.interpreter import input_names, main_function
from uqfc.model import CompiledModel, build
from uqfc.passes.equalize_layers import EqualizeLayersPass
from uqfc.passes.fold_calibration import FoldCalibrationPass
from uqfc.passes.insert_observers import InsertObserversPass
from uqfc.passes.quantize_weights import LayerStatistics, QuantizeWeightsPass
from uqfc.passes.select_bit_width import SelectBitWidthPass, decision_of
from uqfc.passes.support.verifying import Verifier
from uqfc.pipeline import Trace, graph_passes, integer_passes, run_passes
from uqfc.targets import load_target

Choice = TypeVar("Choice", bound=StrEnum)


class QuantStrategy(StrEnum):
    """Which weight types are asked for; activations are 8 bits but for ``float32``."""

    FLOAT32 = "float32"
    INT8 = "int8"
    INT4 = "int4"
    MIXED = "mixed_int4_int8"


@dataclass(frozen=True)
class Quantization:
    """What ``quantize`` is asked for."""

    strategy: QuantStrategy
    target: str
    data: object
    method: CalibrationMethod
    samples: int | None = None
    weight_quant: Mapping[str, Any] = field(default_factory=dict[str, Any])

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
    shapes: Mapping[str, Sequence[int]] | None = None,
    strict: bool = False,
    pass_pipeline: str | Iterable[ModulePass] = "",
    progress: Progress | None = None,
    trace: Trace | None = None,
    cache: bool = True,
) -> CompiledModel:
    """Compile an ONNX model (path, bytes or ``onnx.ModelProto``) for a target.

    ``quant_strategy`` is ``float32``, ``int8``, ``int4`` or ``mixed_int4_int8``; all but the first
    need ``calibration_data`` (a path, or an iterable of samples) unless the model is quantized
    already (QDQ or QOperator). ``weight_quant`` may say how weights are quantized: ``granularity``
    (``channel`` or ``tensor``), ``symmetric``, ``ranges`` (``minmax`` or ``mse``). ``shapes`` fixes
    dynamic dimensions. ``strict``: a layer that does not get the type that was asked for is a
    FallbackError. ``pass_pipeline``: passes of yours, by name (``"a,b{option=1}"``) or as objects,
    run on the float graph after fusion. ``trace`` sees the module after every pass. ``cache``:
    whether kernels may come from, and go to, the cache on disk (``uqfc.cache``).

    Raises subclasses of UqfcError for everything that the caller can mend.
    """
    strategy = one_of(QuantStrategy, quant_strategy, "quant_strategy")
    method = one_of(CalibrationMethod, calibration_method, "calibration_method")
    table = load_target(target)
    name = model_name(model)
    module, verifier = import_onnx(model, shapes=shapes), Verifier()
    run_passes(module, graph_passes(pass_pipeline), trace, verifier)
    name_layers(module)
    if strategy != QuantStrategy.FLOAT32 and not is_quantized(module):
        request = Quantization(
            strategy,
            str(target),
            calibration_data,
            method,
            calibration_samples,
            weight_quant or {},
        )
        quantize(module, request, progress, trace, verifier)
    run_passes(module, integer_passes(), trace, verifier)
    if strict:
        check_no_fallback(module, str(target))
    store = Cache() if cache else None
    return build(module, table, str(target), name, strategy, trace, store)


def one_of(kind: type[Choice], value: str, argument: str) -> Choice:
    """The member of an enumeration; UqfcError lists what is accepted."""
    try:
        return kind(value)
    except ValueError:
        accepted = ", ".join(kind)
        raise UqfcError(f"{argument}: '{value}' is unknown; accepted: {accepted}") from None


def model_name(model: Any) -> str:
    if isinstance(model, str | Path):
        return Path(model).stem
    graph = getattr(model, "graph", None)
    return str(getattr(graph, "name", "") or "model")


def is_quantized(module: ModuleOp) -> bool:
    """Whether the model came with its own quantize points."""
    return any(isinstance(op, QcastOp | DcastOp) for op in module.walk())


def quantize(
    module: ModuleOp,
    request: Quantization,
    progress: Progress | None,
    trace: Trace | None,
    verifier: Verifier,
) -> None:
    """Place quantize points, calibrate them, choose bit widths and quantize the weights."""
    run_passes(module, [EqualizeLayersPass(), InsertObserversPass()], trace, verifier)
    if request.data is None:
        raise CalibrationError(
            f"quantization to {request.strategy} needs calibration data: an .npz or .npy file, "
            "a directory of images, or an iterable of samples"
        )
    function = main_function(module)
    inputs = {
        name: (shape_of(value), numpy_dtype(type_of(value).get_element_type()))
        for name, value in zip(input_names(function), function.body.block.args, strict=True)
    }
    data = iterate(request.data, inputs, limit=request.samples)
    with_statistics = request.strategy in (QuantStrategy.INT4, QuantStrategy.MIXED)
    statistics = calibrate(
        module, data, request.method, with_statistics=with_statistics, progress=progress
    )
    if request.strategy == QuantStrategy.MIXED:
        annotate_sensitivity(module, statistics)
    run_passes(
        module,
        [
            SelectBitWidthPass(request.strategy, request.target),
            FoldCalibrationPass(),
            request.weights(statistics),
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
