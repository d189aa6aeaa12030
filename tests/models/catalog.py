"""Where the test models are, and inputs to run them on. Imports no framework.

Three sources:

- the nine "light" models of the onnx package: well-known architectures whose weights are
  constant fills, so their outputs say nothing about accuracy (all classes come out equal);
- the text-direction classifier of the rapidocr-onnxruntime package: a pretrained MobileNetV3;
- torchvision's architectures with seeded random weights, written by `torchvision_models`.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CACHE_VARIABLE",
    "LIGHT_INPUT_SHAPE",
    "PPOCR_INPUT_SHAPE",
    "TORCHVISION_INPUT_SHAPE",
    "TORCHVISION_NAMES",
    "light_input",
    "light_models",
    "model_cache",
    "noise_images",
    "ppocr_model",
    "torchvision_models",
]

CACHE_VARIABLE = "UQFC_MODEL_CACHE"
"""Environment variable that overrides the directory of generated models."""

LIGHT_INPUT_SHAPE = (1, 3, 224, 224)
"""NCHW shape of every light model's only input, float32, with a fixed batch."""

PPOCR_INPUT_SHAPE = (1, 3, 48, 192)
"""NCHW shape the classifier was trained at, float32 in -1..1; all but C are dynamic."""

TORCHVISION_INPUT_SHAPE = (1, 3, 224, 224)
"""NCHW shape of the torchvision models' input `image`, float32; the batch is dynamic."""

TORCHVISION_NAMES = (
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "resnet18",
    "resnet50",
    "efficientnet_lite0",
)

_PPOCR_FILE = "ch_ppocr_mobile_v2.0_cls_infer.onnx"
_NOISE_GRIDS = (2, 4, 7, 14, 28, 56, 112)


def light_models() -> dict[str, Path]:
    """List the onnx package's light models by name, e.g. "resnet50"; none without onnx.

    Beside each `light_X.onnx`, `light_X_output_0.pb` holds the output for `light_input()`.
    """
    package = _package_directory("onnx")
    if package is None:
        return {}
    paths = sorted((package / "backend/test/data/light").glob("light_*.onnx"))
    return {path.stem.removeprefix("light_"): path for path in paths}


def light_input() -> NDArray[np.float32]:
    """Make the float32 `LIGHT_INPUT_SHAPE` input behind the light models' stored outputs."""
    count = np.prod(LIGHT_INPUT_SHAPE)
    return (np.arange(count).reshape(LIGHT_INPUT_SHAPE) / count).astype(np.float32)


def model_cache() -> Path:
    """Directory of the generated models: `UQFC_MODEL_CACHE`, or one in the user's cache."""
    override = os.environ.get(CACHE_VARIABLE)
    if override:
        return Path(override)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return base / "uqfc-models"


def torchvision_models() -> dict[str, Path]:
    """List those of `TORCHVISION_NAMES` that the cache holds, by name."""
    cache = model_cache()
    paths = {name: cache / f"{name}.onnx" for name in TORCHVISION_NAMES}
    return {name: path for name, path in paths.items() if path.is_file()}


def ppocr_model() -> Path | None:
    """Path of the PP-OCR direction classifier, in the cache or its package, or None."""
    candidates = [model_cache() / _PPOCR_FILE]
    package = _package_directory("rapidocr_onnxruntime")
    if package is not None:
        candidates.append(package / "models" / _PPOCR_FILE)
    return next((path for path in candidates if path.is_file()), None)


def noise_images(count: int, seed: int, size: int = 224) -> NDArray[np.float32]:
    """Make float32 [count, 3, size, size] images, each of mean near 0 and deviation near 1.

    Each is a sum of noise on grids from 2x2 to 112x112 and on single pixels. Like
    photographs, and unlike white noise, the images have large structures and differ in
    the coarse features that survive a network's pooling.
    """
    random = np.random.default_rng(seed)
    images = random.standard_normal((count, 3, size, size), dtype=np.float32)
    for grid in _NOISE_GRIDS:
        cells = random.standard_normal((count, 3, grid, grid), dtype=np.float32)
        index = np.arange(size) * grid // size
        images += cells[:, :, index[:, None], index]
    return images / np.float32(np.sqrt(len(_NOISE_GRIDS) + 1))


def _package_directory(name: str) -> Path | None:
    """Directory of an installed package, found without importing it."""
    spec = importlib.util.find_spec(name)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent
