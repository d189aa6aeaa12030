"""OpenVINO: as it comes, with float32 forced, and INT8 by NNCF."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.cache import cached
from benchmarks.candidates import Call, need
from benchmarks.workloads import Array, Workload


def default(workload: Workload, threads: int) -> Call:
    """As it comes: on CPUs with bfloat16 instructions it computes in bfloat16."""
    return run(workload.model, workload.sample, threads)


def float32(workload: Workload, threads: int) -> Call:
    """With float32 arithmetic forced."""
    return run(workload.model, workload.sample, threads, INFERENCE_PRECISION_HINT="f32")


def int8(workload: Workload, threads: int) -> Call:
    """Quantized by NNCF, on the workload's samples."""
    need("openvino", "nncf")
    quantized = cached(workload, "openvino_int8", ".xml", quantize)
    return run(quantized, workload.sample, threads)


def run(model: Path, sample: Array, threads: int, **properties: str) -> Call:
    """A call on one stream for latency; neither input nor output is copied."""
    need("openvino")
    import openvino  # noqa: PLC0415 - optional

    library: Any = openvino
    core = library.Core()
    network = core.read_model(model)
    network.reshape(list(sample.shape))
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # the process is bound already
        **properties,
    }
    request = core.compile_model(network, "CPU", options).create_infer_request()
    request.set_input_tensor(0, library.Tensor(sample, shared_memory=True))
    return partial(request.infer, share_inputs=True, share_outputs=True)


def quantize(workload: Workload, target: Path) -> None:
    """Write NNCF's post-training quantization as OpenVINO's IR: .xml with a .bin beside it."""
    import nncf  # noqa: PLC0415 - optional, and very slow to import
    import openvino  # noqa: PLC0415

    logging.getLogger("nncf").setLevel(logging.ERROR)
    library: Any = openvino
    tools: Any = nncf
    model = library.Core().read_model(workload.model)
    model.reshape(list(workload.shape))
    samples = list(workload.data)
    quantized = tools.quantize(model, tools.Dataset(samples), subset_size=len(samples))
    library.save_model(quantized, target, compress_to_fp16=False)
