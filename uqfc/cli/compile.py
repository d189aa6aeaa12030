"""``uqfc compile``: from an ONNX file to a shared object, or an object file with its header."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from uqfc.calibration import CalibrationMethod
from uqfc.cli.bit_widths import read_bit_widths
from uqfc.cli.console import print_table, progress, say
from uqfc.cli.options import Shapes, TargetName, UseCache
from uqfc.compiler import compile as compile_model
from uqfc.errors import UqfcError
from uqfc.model import UQR_SUFFIXES
from uqfc.options import QuantStrategy
from uqfc.passes.uint8_inputs import UInt8
from uqfc_runtime import LayerInfo
from uqfc_runtime.info import MAX_THREADS

_SUFFIXES = (".so", ".o")


def compile_command(
    model: Annotated[Path, typer.Argument(help="ONNX model: float, quantized (QDQ), or UQR.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="MODEL.so, or MODEL.o (a .h is written beside).")
    ],
    target: TargetName = "host",
    quant_strategy: Annotated[
        QuantStrategy, typer.Option(help="Type of the weights.")
    ] = QuantStrategy.INT8,
    bit_widths: Annotated[
        Path | None,
        typer.Option(help='JSON file with types for layers: {"PATTERN": "int4", …}.'),
    ] = None,
    latencies: Annotated[
        Path | None,
        typer.Option(help="A table of `uqfc profile-target`: no narrower type that is slower."),
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(help="Calibration data: .npz, .npy, or a directory of images."),
    ] = None,
    calibration_method: Annotated[
        CalibrationMethod, typer.Option(help="How the ranges of activations are chosen.")
    ] = CalibrationMethod.MSE,
    shape: Shapes = None,
    input_type: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=uint8[:SCALE:ZERO_POINT]",
            help="Bytes for a float32 input; repeatable.",
        ),
    ] = None,
    threads: Annotated[
        int, typer.Option(min=1, max=MAX_THREADS, help="Most threads that one run may use.")
    ] = 1,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail where a layer does not get what was requested.")
    ] = False,
    autotune: Annotated[
        bool, typer.Option("--autotune", help="Measure each layer's kernels on this machine.")
    ] = False,
    uqr: Annotated[
        Path | None,
        typer.Option(help="A UQR document (JSON) with the quantization of a float model."),
    ] = None,
    emit_uqr: Annotated[
        Path | None,
        typer.Option(help="Also write the quantized network as UQR: MODEL.uqr.onnx, MODEL.cann."),
    ] = None,
    pass_pipeline: Annotated[
        str, typer.Option(help="Passes of yours after fusion: 'pass-a,pass-b{option=1}'.")
    ] = "",
    cache: UseCache = True,
) -> None:
    """Compile an ONNX model to a native binary."""
    shapes = dict(parse_shape(text) for text in shape or ())
    if output.suffix not in _SUFFIXES:
        raise UqfcError(f"{output}: an output's name ends in {' or '.join(_SUFFIXES)}")
    if emit_uqr is not None and emit_uqr.suffix not in UQR_SUFFIXES:
        raise UqfcError(f"{emit_uqr}: a UQR file's name ends in {' or '.join(UQR_SUFFIXES)}")
    started = time.perf_counter()
    with progress("compile") as report:
        compiled = compile_model(
            model,
            target=target,
            quant_strategy=quant_strategy,
            bit_widths=None if bit_widths is None else read_bit_widths(bit_widths),
            latencies=latencies,
            calibration_data=calibrate,
            calibration_method=calibration_method,
            uqr=uqr,
            shapes=shapes,
            input_types=dict(parse_input_type(text) for text in input_type or ()),
            threads=threads,
            strict=strict,
            autotune=autotune,
            pass_pipeline=pass_pipeline,
            progress=report,
            cache=cache,
        )
        compiled.save(output)
        if emit_uqr is not None:
            compiled.save(emit_uqr)
    seconds = time.perf_counter() - started
    say(
        f"{output}: {output.stat().st_size:,} bytes for {compiled.target.name}, "
        f"arena {compiled.info['arena']['bytes']:,} bytes, in {seconds:.1f} s"
    )
    _explain(compiled.layers)


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """``("image", (1, 3, 224, 224))`` from ``image=1x3x224x224``. Raises UqfcError."""
    name, separator, dimensions = text.rpartition("=")
    sizes = dimensions.split("x")
    if not separator or not name or not all(s.isdecimal() and int(s) > 0 for s in sizes):
        raise UqfcError(f"--shape '{text}': accepted: NAME=1x3x224x224, with sizes above 0")
    return name, tuple(int(size) for size in sizes)


def parse_input_type(text: str) -> tuple[str, UInt8]:
    """``("image", UInt8(0.0186, 114))`` from ``image=uint8:0.0186:114``. Raises UqfcError."""
    name, separator, kind = text.rpartition("=")
    word, *numbers = kind.split(":")
    try:
        if separator and name and word == "uint8" and len(numbers) in (0, 2):
            return name, UInt8(float(numbers[0]), int(numbers[1])) if numbers else UInt8()
    except ValueError:
        pass
    raise UqfcError(f"--input-type '{text}': accepted: NAME=uint8, NAME=uint8:SCALE:ZERO_POINT")


def _explain(layers: tuple[LayerInfo, ...]) -> None:
    """How many layers got which bit width, and each one that did not get what was asked for."""
    chosen = Counter(layer.chosen for layer in layers if layer.chosen is not None)
    if chosen:
        say("layers: " + ", ".join(f"{count} {dtype}" for dtype, count in chosen.items()))
    fallbacks = [layer for layer in layers if layer.chosen != layer.requested]
    if fallbacks:
        print_table(
            ("layer", "op", "requested", "chosen", "reason"),
            [(f.name, f.op, f.requested, f.chosen, f.reason) for f in fallbacks],
            title="Not as requested:",
        )
