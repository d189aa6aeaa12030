r"""Converts a torchvision network to LiteRT; runs in the converter's own environment.

    python -m benchmarks.peers.litert_convert mobilenet_v2 model.tflite
    python -m benchmarks.peers.litert_convert mobilenet_v2 int8.tflite \
        --quantize model.tflite samples.npy

Images are NHWC; the input and output of an INT8 model are INT8.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from tests.models.catalog import TORCHVISION_INPUT_SHAPE


def convert(name: str, target: Path) -> None:
    """Write the float32 model of one of the catalogue's networks."""
    import litert_torch  # noqa: PLC0415 - only in the converter's environment
    import torch  # noqa: PLC0415

    from tests.models.torchvision_models import build  # noqa: PLC0415

    library: Any = litert_torch
    module = library.to_channel_last_io(build(name), args=[0]).eval()
    image = torch.zeros(TORCHVISION_INPUT_SHAPE).permute(0, 2, 3, 1).contiguous()
    library.convert(module, (image,)).export(str(target))


def quantize(model: Path, samples: Path, target: Path) -> None:
    """Write the model with 8-bit weights (per channel) and activations."""
    from ai_edge_quantizer import quantizer, recipe  # noqa: PLC0415

    tools: Any = quantizer
    recipes: Any = recipe
    tool = tools.Quantizer(str(model), recipes.static_wi8_ai8())
    signature, names = input_names(model)
    feeds = [{names[0]: sample} for sample in np.load(samples)]
    statistics = tool.calibrate({signature: feeds})
    tool.quantize(statistics).export_model(str(target), overwrite=True)


def input_names(model: Path) -> tuple[str, list[str]]:
    """The model's only signature and the names of its inputs."""
    from ai_edge_litert import interpreter  # noqa: PLC0415

    library: Any = interpreter
    ((signature, tensors),) = library.Interpreter(str(model)).get_signature_list().items()
    return signature, tensors["inputs"]


def main() -> None:
    """Convert, or quantize what was converted."""
    parser = argparse.ArgumentParser(description="Convert a torchvision network to LiteRT.")
    parser.add_argument("name")
    parser.add_argument("target", type=Path)
    parser.add_argument("--quantize", type=Path, nargs=2, metavar=("MODEL", "SAMPLES.npy"))
    a = parser.parse_args()
    if a.quantize is None:
        convert(a.name, a.target)
    else:
        model, samples = a.quantize
        quantize(model, samples, a.target)


if __name__ == "__main__":
    main()
