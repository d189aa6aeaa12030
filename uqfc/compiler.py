"""``compile``: from a model file to a ``CompiledModel``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from xdsl.passes import ModulePass

from uqfc.cache import Cache
from uqfc.calibrate import Progress
from uqfc.calibrated import background, calibrated, finish, fused, is_quantized
from uqfc.calibration import CalibrationMethod, iterate
from uqfc.codegen.isa import isa_for
from uqfc.errors import UqfcError
from uqfc.frontend import ReadModel, read_onnx
from uqfc.frontend.uqr import apply_uqr
from uqfc.latency import LatencyTable, latency_table
from uqfc.layer_names import matched
from uqfc.model import CompiledModel, Keeping
from uqfc.options import (
    Options,
    QuantStrategy,
    checked_bit_widths,
    model_name,
    one_of,
    pipeline_of,
    read_model,
    uint8_types,
)
from uqfc.passes.select_bit_width import SelectBitWidthPass
from uqfc.passes.support.quantizable import LAYERS
from uqfc.passes.uint8_inputs import UInt8
from uqfc.pipeline import Trace, parse_pipeline
from uqfc.results import RecordedData, result_key
from uqfc.targets import Target, check_code, load_target


def compile(  # noqa: A001 # read as `uqfc.compile`
    model: Any,
    *,
    target: str | Path = "host",
    quant_strategy: str = "int8",
    bit_widths: Mapping[str, str] | None = None,
    latencies: LatencyTable | str | Path | None = None,
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
    ``bit_widths`` has types for some layers, by name or pattern (``fnmatch``; the first that
    matches counts): ``int8``, ``int4``, ``ternary``, ``binary`` or ``float32``; the others follow
    ``quant_strategy``. ``latencies``: a table of ``uqfc profile-target``; a layer for which the
    strategy's type was measured, or is estimated, to be slower than int8 keeps int8.
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
    strategy = one_of(QuantStrategy, quant_strategy, "quant_strategy")
    measured = latency_table(latencies)
    options = Options(
        model_name(model),
        str(target),
        strategy,
        checked_bit_widths(bit_widths, strategy),
        one_of(CalibrationMethod, calibration_method, "calibration_method"),
        weight_quant or {},
        threads,
        strict,
        autotune,
        None if measured is None else measured.model_dump(mode="json"),
        uint8_types(input_types),
        pipeline_of(pass_pipeline),
    )
    table = load_target(target)
    if measured is not None:
        measured.check(table)
    check_code(table)
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
    origin, strategy = background(model, data, options), options.strategy
    module, verifier = fused(model, options, trace)
    own = is_quantized(module)
    if own and options.bit_widths:
        raise UqfcError(f"bit_widths: model '{options.name}' is quantized: it keeps its own types")
    if own or strategy == QuantStrategy.FLOAT32:
        return finish(module, table, options, origin, strategy, keeping, trace, verifier)
    names = [op.layer for op in module.walk() if isinstance(op, LAYERS)]
    given = matched(options.bit_widths, names)
    calibration = calibrated(
        module,
        verifier,
        table,
        data,
        options,
        origin,
        progress,
        keeping,
        trace,
        with_statistics=strategy != QuantStrategy.INT8 or any(d != "int8" for d in given.values()),
    )
    taken: dict[tuple[str, str], float] = {}
    if options.latencies is not None:
        taken = LatencyTable.from_document(options.latencies).by_layer(calibration.layers)
    select = SelectBitWidthPass(
        strategy,
        options.target,
        bit_widths=given,
        granularity=calibration.weights.granularity,
        microseconds=taken,
    )
    quantized = calibration.decided(select, trace, verifier)
    return finish(quantized, table, options, origin, strategy, keeping, trace, verifier)
