"""A network that was read, fused and calibrated once, and is quantized and compiled many times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from uqfc.autotune import Autotuner
from uqfc.cache import Cache
from uqfc.calibrate import Progress, annotate_sensitivity, calibrate, name_layers
from uqfc.calibration import CalibrationMethod, iterate
from uqfc.codegen.isa import isa_for
from uqfc.dialects import nn
from uqfc.dialects.qnn import Qnn
from uqfc.dialects.quant import DcastOp, ObserveOp, QcastOp
from uqfc.dialects.quant.decisions import check_no_fallback, decisions_in
from uqfc.dialects.tensors import Array
from uqfc.errors import CalibrationError, TargetError, UqfcError
from uqfc.frontend import OnnxModel, ReadModel
from uqfc.layer_facts import LayerFacts, facts_of
from uqfc.layer_names import unknown_layer
from uqfc.model import CompiledModel, Keeping, Origin, build
from uqfc.options import (
    Options,
    QuantStrategy,
    model_name,
    one_of,
    pipeline_of,
    read_model,
    uint8_types,
)
from uqfc.passes.equalize_layers import EqualizeLayersPass
from uqfc.passes.fold_calibration import FoldCalibrationPass
from uqfc.passes.insert_observers import InsertObserversPass
from uqfc.passes.quantize_weights import QuantizeWeightsPass
from uqfc.passes.select_bit_width import (
    WEIGHT_DTYPES,
    Decision,
    SelectBitWidthPass,
)
from uqfc.passes.support.quantizable import LAYERS, table_op
from uqfc.passes.support.verifying import Verifier
from uqfc.passes.uint8_inputs import UInt8, Uint8InputsPass
from uqfc.passes.widen_weights import WidenWeightsPass
from uqfc.pipeline import Trace, graph_passes, integer_passes, run_passes
from uqfc.results import RecordedData
from uqfc.targets import Target, load_target

Background = tuple[Mapping[str, Any] | None, Mapping[str, Any]]
"""Calibration and provenance, for a UQR file."""


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A calibrated network for one target; ``calibrate_model`` makes it.

    Nothing that is done with it changes it but for what it remembers: the quantized weights of a
    layer are computed once for each type.
    """

    module: ModuleOp = field(repr=False)
    """The fused float graph, with the range of every quantize point; it must not be changed."""
    target: Target
    layers: tuple[LayerFacts, ...]
    """In the order in which they run."""
    options: Options = field(repr=False)
    weights: QuantizeWeightsPass = field(repr=False)
    background: Background = field(repr=False)
    keeping: Keeping | None = field(repr=False)

    def quantized(self, bit_widths: Mapping[str, str | Decision]) -> ModuleOp:
        """The network with quantized weights, before it becomes integer.

        ``bit_widths`` has a type (one of a layer's ``choices``, or ``float32``) for every layer, or
        a decision, whose reason is kept. What the target lacks falls back to the next wider type.
        Raises UqfcError for layers that are missing or unknown, and for types that there are not.
        """
        self.check(bit_widths)
        return self.decided(
            SelectBitWidthPass(
                target=self.options.target,
                bit_widths=bit_widths,
                granularity=self.weights.granularity,
            )
        )

    def compile(self, bit_widths: Mapping[str, str | Decision]) -> CompiledModel:
        """Compile ``quantized(bit_widths)``: the artifact that ``uqfc.compile`` makes of it.

        Its ``quant_strategy`` is the type of all layers, or ``mixed_…`` with those there are.
        """
        asked = {d.chosen if isinstance(d, Decision) else d for d in bit_widths.values()}
        ordered = [dtype for dtype in reversed(WEIGHT_DTYPES) if dtype in asked]
        name = ordered[0] if len(ordered) == 1 else "_".join(["mixed", *ordered])
        module = self.quantized(bit_widths)
        return finish(module, self.target, self.options, self.background, name, self.keeping)

    def decided(
        self,
        select: SelectBitWidthPass,
        trace: Trace | None = None,
        verifier: Verifier | None = None,
    ) -> ModuleOp:
        """A copy of the network, quantized as the pass decides."""
        module = self.module.clone()
        run_passes(module, [select, FoldCalibrationPass(), self.weights], trace, verifier)
        return module

    def check(self, bit_widths: Mapping[str, str | Decision]) -> None:
        """UqfcError unless every layer, and nothing else, has a type that there is."""
        names = [op.layer for op in self.module.walk() if isinstance(op, LAYERS)]
        for name, given in bit_widths.items():
            if name not in names:
                raise UqfcError(f"bit_widths: {unknown_layer(name, names)}")
            chosen = given.chosen if isinstance(given, Decision) else given
            if chosen not in WEIGHT_DTYPES:
                accepted = ", ".join(WEIGHT_DTYPES)
                raise UqfcError(
                    f"bit_widths: '{name}': '{chosen}' is unknown; accepted: {accepted}"
                )
        for layer in self.layers:
            given = bit_widths.get(layer.name)
            if given is None:
                raise UqfcError(f"bit_widths: layer '{layer.name}' is missing")
            if isinstance(given, Decision) and given.chosen not in (*layer.choices, "float32"):
                accepted = ", ".join([*layer.choices, "float32"])
                raise UqfcError(
                    f"bit_widths: '{layer.name}': target {self.target.name} has no {given.chosen}; "
                    f"accepted: {accepted}"
                )


def calibrate_model(
    model: Any,
    *,
    target: str | Path = "host",
    calibration_data: object,
    calibration_method: str = "mse",
    calibration_samples: int | None = None,
    weight_quant: Mapping[str, Any] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    input_types: Mapping[str, str | UInt8] | None = None,
    threads: int = 1,
    pass_pipeline: str | Iterable[ModulePass] = "",
    progress: Progress | None = None,
    cache: bool = True,
) -> Calibrated:
    """Read, fuse and calibrate a float model once, to compile it with many assignments of types.

    The arguments are those of ``uqfc.compile``. A target that is a table only will do: what cannot
    be compiled for it can be quantized for it. Raises UqfcError for a model that is quantized
    already, since it keeps its own types, and subclasses of it for what else the caller can mend.
    """
    options = Options(
        model_name(model),
        str(target),
        method=one_of(CalibrationMethod, calibration_method, "calibration_method"),
        weight_quant=weight_quant or {},
        threads=threads,
        inputs=uint8_types(input_types),
        pipeline=pipeline_of(pass_pipeline),
    )
    table = load_target(target)
    isa_for(table)  # a table that LLVM refuses is refused before any work
    read = read_model(model, shapes)
    data = RecordedData(iterate(calibration_data, read.inputs, limit=calibration_samples))
    module, verifier = fused(read, options)
    if is_quantized(module):
        raise UqfcError(f"model '{options.name}' is quantized already: it keeps its own types")
    keeping = Keeping(Cache()) if cache else None
    return calibrated(
        module, verifier, table, data, options, background(read, data, options), progress, keeping
    )


def fused(
    model: ReadModel, options: Options, trace: Trace | None = None
) -> tuple[ModuleOp, Verifier]:
    """The float graph as it will be rounded, each layer with a name of its own."""
    module, verifier = model.convert(), Verifier()
    run_passes(module, graph_passes(options.pipeline), trace, verifier)
    name_layers(module)
    return module, verifier


def is_quantized(module: ModuleOp) -> bool:
    """Whether the model came with its own quantize points, static or dynamic (integer ops)."""
    own = (QcastOp, DcastOp, *Qnn.operations)
    return any(isinstance(op, own) for op in module.walk())


def background(model: ReadModel, data: RecordedData | None, options: Options) -> Background:
    """Calibration and provenance for a UQR file; what the model brought along is kept."""
    calibration, provenance = model.history if isinstance(model, OnnxModel) else (None, {})
    if data is not None and not model.quantized:
        calibration = {"method": str(options.method), **data.description}
    return calibration, provenance


def calibrated(
    module: ModuleOp,
    verifier: Verifier,
    table: Target,
    data: Iterable[Mapping[str, Array]] | None,
    options: Options,
    origin: Background,
    progress: Progress | None = None,
    keeping: Keeping | None = None,
    trace: Trace | None = None,
    *,
    with_statistics: bool = True,
) -> Calibrated:
    """Place quantize points in a fused network and calibrate them.

    ``with_statistics``: of layers' inputs, which all weights but int8 are rounded with.
    """
    weights = options.weights({})
    run_passes(module, [EqualizeLayersPass(), InsertObserversPass()], trace, verifier)
    layers = [op for op in module.walk() if isinstance(op, LAYERS)]
    quantizable = [op for op in layers if isinstance(op.x.owner, ObserveOp)]
    check_granularity(quantizable, table, weights.granularity)
    if data is None:
        raise CalibrationError(
            f"quantization to {options.strategy} needs calibration data: an .npz or .npy file, "
            "a directory of images, or an iterable of samples"
        )
    statistics = calibrate(
        module, data, options.method, with_statistics=with_statistics, progress=progress
    )
    if options.strategy == QuantStrategy.MIXED:
        annotate_sensitivity(module, statistics)
    facts = tuple(facts_of(op, table, weights.granularity) for op in quantizable)
    weights = replace(weights, statistics=statistics)
    return Calibrated(module, table, facts, options, weights, origin, keeping)


def check_granularity(layers: Iterable[nn.Layer], table: Target, granularity: str) -> None:
    """TargetError where a device has kernels for a layer, but only with other scales of weights."""
    for layer in layers:
        op = table_op(layer)
        had = [k.granularity for k in table.kernels if op in k.ops and k.weights != ("float32",)]
        kinds = {kind for each in had for kind in each}
        if kinds and granularity not in kinds:
            accepted = ", ".join(sorted(kind.removeprefix("per_") for kind in kinds))
            raise TargetError(
                f"target {table.name}: {op} '{layer.layer}': no weights with {granularity} scales; "
                f"accepted for weight_quant's granularity: {accepted}"
            )


def finish(
    module: ModuleOp,
    table: Target,
    options: Options,
    origin: Background,
    strategy: str,
    keeping: Keeping | None = None,
    trace: Trace | None = None,
    verifier: Verifier | None = None,
) -> CompiledModel:
    """From a network with quantize points, or without any, to kernels of the target."""
    verifier = verifier or Verifier()
    kept = Origin(module.clone(), *origin)
    for_target = [WidenWeightsPass(options.target), Uint8InputsPass(options.inputs)]
    run_passes(module, [*integer_passes(), *for_target], trace, verifier)
    if options.strict:
        check_no_fallback(decisions_in(module), options.target)
    cache = None if keeping is None else keeping.cache
    tune = Autotuner(table, options.target, cache) if options.autotune else None
    return build(
        module,
        table,
        options.target,
        options.name,
        strategy,
        trace,
        keeping,
        tune,
        threads=options.threads,
        origin=kept,
    )
