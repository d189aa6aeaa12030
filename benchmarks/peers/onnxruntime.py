"""ONNX Runtime: float32, and INT8 by its own static quantization (QDQ, per channel)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from benchmarks.cache import cached
from benchmarks.candidates import Call, need
from benchmarks.workloads import Array, Workload

PER_CHANNEL_OPSET = 13
"""The first in which DequantizeLinear has an axis."""


def float32(workload: Workload, threads: int) -> Call:
    """The model as it is."""
    return run(workload.model, threads, {workload.input: workload.sample})


def int8(workload: Workload, threads: int) -> Call:
    """The model as its own tool quantizes it, on the workload's samples."""
    need("onnxruntime")
    quantized = cached(workload, "onnxruntime_int8", ".onnx", quantize)
    return run(quantized, threads, {workload.input: workload.sample})


def run(model: Path, threads: int, feed: Mapping[str, NDArray[Any]]) -> Call:
    """A call of a session with all graph optimizations, whose threads do not outlive the call."""
    need("onnxruntime")
    import onnxruntime  # noqa: PLC0415 - optional

    ort: Any = onnxruntime
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 3
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return partial(session.run, None, dict(feed))


def quantize(workload: Workload, target: Path) -> None:
    """Write the statically quantized model: u8 activations, s8 weights per channel."""
    import onnx  # noqa: PLC0415 - optional, and slow to import
    from onnx import version_converter  # noqa: PLC0415
    from onnxruntime import quantization  # noqa: PLC0415
    from onnxruntime.quantization import shape_inference  # noqa: PLC0415

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds: Iterator[dict[str, Array]] = ({workload.input: x} for x in workload.data)

        def get_next(self) -> dict[str, Array] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
            return next(self.feeds, None)

    tools: Any = quantization  # their stubs are incomplete
    preparation: Any = shape_inference
    library: Any = onnx
    model = library.load(str(workload.model))
    if model.opset_import[0].version < PER_CHANNEL_OPSET:
        model = version_converter.convert_version(model, PER_CHANNEL_OPSET)
    prepared = target.with_suffix(".prepared")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        preparation.quant_pre_process(model, str(prepared), skip_symbolic_shape=True)
        tools.quantize_static(
            str(prepared),
            str(target),
            Reader(),
            quant_format=tools.QuantFormat.QDQ,
            per_channel=True,
            activation_type=tools.QuantType.QUInt8,
            weight_type=tools.QuantType.QInt8,
        )
    prepared.unlink()
