"""Whole networks to test with: where each comes from, its input, and ONNX Runtime's answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import ModelProto

from tests.models import catalog
from tests.models.light_weights import randomized

__all__ = ["NETWORKS", "Network", "network"]

SAMPLES = 3
"""Inputs of each network: the first is run, all are calibrated with."""

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Network:
    """A model with its inputs, float32 [SAMPLES, 1, …], and ONNX Runtime's output for the first."""

    model: ModelProto
    input_name: str
    images: Array
    expected: Array

    @property
    def x(self) -> dict[str, Array]:
        """The input that is run."""
        return {self.input_name: self.images[0]}

    @property
    def calibration(self) -> dict[str, Array]:
        """All inputs: ``calibration_data``."""
        return {self.input_name: self.images}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {self.input_name: self.images[0].shape}


def light(name: str) -> ModelProto:
    return randomized(catalog.light_models()[name])


def torchvision(name: str) -> ModelProto:
    return onnx.load(required(catalog.torchvision_models().get(name), name))


def ppocr(name: str) -> ModelProto:
    return onnx.load(required(catalog.ppocr_model(), name))


def required(path: Path | None, name: str) -> Path:
    """``path``; without one the test is skipped, and the report says how to get the model."""
    if path is None:
        pytest.skip(f"{name} is not in {catalog.model_cache()}: run `make models`")
    return path


LIGHT_NAMES = (
    "bvlc_alexnet",
    "densenet121",
    "inception_v1",
    "inception_v2",
    "resnet50",
    "shufflenet",
    "squeezenet",
    "vgg19",
    "zfnet512",
)
NETWORKS: dict[str, Callable[[], ModelProto]] = {
    **{f"light_{n}": lambda n=n: light(n) for n in LIGHT_NAMES},
    "ppocr_cls": lambda: ppocr("ch_ppocr_mobile_v2.0_cls_infer.onnx"),
    **{n: lambda n=n: torchvision(n) for n in catalog.TORCHVISION_NAMES},
}
"""How to make each network's ONNX model, by name."""


@lru_cache(maxsize=1)
def network(name: str) -> Network:
    """The network of that name. The last one is kept: tests of the same network come together."""
    model = NETWORKS[name]()
    shape = catalog.PPOCR_INPUT_SHAPE if name == "ppocr_cls" else catalog.LIGHT_INPUT_SHAPE
    images = catalog.noise_images(SAMPLES, seed=1)[:, None, :, : shape[2], : shape[3]]
    images = np.ascontiguousarray(images)
    session = float_session(model)
    (only,) = session.get_inputs()
    (expected,) = session.run(None, {only.name: images[0]})
    return Network(model, only.name, images, np.asarray(expected))


def float_session(model: ModelProto) -> Any:
    """ONNX Runtime's session for a model, on one thread."""
    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # not the warnings about initializers that are inputs too
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
