"""What is run: a model file with one input, and samples of that input."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.compile_time import only_input
from tests.models.catalog import (
    PPOCR_INPUT_SHAPE,
    TORCHVISION_NAMES,
    model_cache,
    noise_images,
    ppocr_model,
)
from uqfc.codegen.work import REDUCTIONS
from uqfc.dialects.tensors import element_count, shape_of
from uqfc.frontend import import_onnx
from uqfc.pipeline import graph_passes, run_passes

Array = NDArray[np.float32]
CALIBRATION_SAMPLES = 4
PPOCR = "pp-ocr_cls"
NETWORKS = (
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "mobilenet_v2",
    "efficientnet_lite0",
    "resnet18",
    "resnet50",
    PPOCR,
)


@dataclass(frozen=True)
class Workload:
    """An ONNX model with one float32 input; ``data`` is [samples, *shape]."""

    name: str
    model: Path
    input: str
    data: Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape[1:]

    @property
    def sample(self) -> Array:
        """The input that is timed."""
        return self.data[0]


def network(name: str) -> Workload:
    """One of ``NETWORKS``. FileNotFoundError, with what to do, if its file is not there."""
    if name == PPOCR:
        path = ppocr_model()
        if path is None:
            raise FileNotFoundError(f"{name}: comes with rapidocr-onnxruntime (pip --no-deps)")
        random = np.random.default_rng(0)
        data = random.standard_normal((CALIBRATION_SAMPLES, *PPOCR_INPUT_SHAPE), dtype=np.float32)
        (tensor,) = only_input(path)
        return Workload(name, path, tensor, np.clip(data, -1, 1))
    path = model_cache() / f"{name}.onnx"
    if name not in TORCHVISION_NAMES or not path.is_file():
        raise FileNotFoundError(f"{name}: not in {model_cache()}; `make models` exports it")
    return Workload(name, path, "image", noise_images(CALIBRATION_SAMPLES, 0)[:, None])


def multiply_accumulates(workload: Workload) -> int:
    """Of the model's convolutions and matrix products, for the workload's input."""
    module = import_onnx(workload.model, shapes={workload.input: workload.shape})
    run_passes(module, graph_passes(""))
    return sum(
        element_count(shape_of(op.results[0])) * REDUCTIONS[type(op)](op)
        for op in module.walk()
        if type(op) in REDUCTIONS
    )
