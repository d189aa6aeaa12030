"""Export a training checkpoint to ONNX, and record what ONNX Runtime makes of it.

    python export.py --checkpoint mobilenet_v3_small.pt

Writes `mobilenet_v3_small.onnx` and `figures.json` beside this file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from data import IMAGE_SIZE, add_data_argument, load_split, preprocess
from model import MobileNetV3Small

HERE = Path(__file__).resolve().parent
OPSET = 17


def export(model: MobileNetV3Small, path: Path) -> None:
    """Write `model` to `path`: input `image` float32 [batch, 3, 64, 64], output `logits`.

    TrainingMode.PRESERVE keeps BatchNormalization nodes, in inference mode since the
    model is, where TrainingMode.EVAL would fold them into the convolutions: folding
    them is the compiler's work.
    """
    model.eval()
    torch.onnx.export(
        model,
        (torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE),),
        str(path),
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        opset_version=OPSET,
        training=torch.onnx.TrainingMode.PRESERVE,
        dynamo=False,
    )
    onnx.checker.check_model(str(path), full_check=True)


def onnx_accuracy(
    path: Path, images: NDArray[np.uint8], labels: NDArray[np.int64], batch: int = 250
) -> float:
    """Top-1 accuracy, 0..1, by ONNX Runtime on the CPU, on uint8 images [N, 28, 28]."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    correct = 0
    for start in range(0, len(images), batch):
        inputs = {"image": preprocess(images[start : start + batch])}
        logits = np.asarray(session.run(["logits"], inputs)[0])
        correct += int((logits.argmax(1) == labels[start : start + batch]).sum())
    return correct / len(images)


def main() -> None:
    """Export, evaluate and write the figures."""
    parser = argparse.ArgumentParser(description="Export a checkpoint to ONNX.")
    add_data_argument(parser)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=HERE, help="directory (default: %(default)s)")
    arguments = parser.parse_args()

    state = torch.load(arguments.checkpoint, weights_only=True)
    model = MobileNetV3Small()
    model.load_state_dict(state["model"])
    path = arguments.out / "mobilenet_v3_small.onnx"
    export(model, path)

    images, labels = load_split(arguments.data, "test")
    content = path.read_bytes()
    figures = {
        "test_accuracy": onnx_accuracy(path, images, labels),
        "test_images": len(images),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "seeds": [*state["earlier_seeds"], state["seed"]],
        "epochs": state["epoch"] + state["earlier_epochs"],
        "onnxruntime": onnxruntime.__version__,
        "torch": torch.__version__,
    }
    text = json.dumps(figures, indent=2) + "\n"
    (arguments.out / "figures.json").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
