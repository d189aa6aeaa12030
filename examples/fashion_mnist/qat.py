"""Quantization-aware training of the Fashion-MNIST network, by recipe and seed.

    python qat.py int4 --seed 1          # one run; adds its figures to qat_results.json
    python qat.py naive                  # for comparison: min-max ranges, nothing else
    python qat.py --table                # the table of all figures

Starts from the float network of `mobilenet_v3_small.onnx`. A run trains, exports a UQR file,
compiles it to a shared object, and checks that the device's bits are those of training. Nothing is
chosen by the test images: it reports the state at the end of its epochs.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import uqfc
import uqfc_runtime
from data import IMAGE_SIZE, add_data_argument, load_split, preprocess
from model import MobileNetV3Small
from train import accuracy, augment, to_tensor
from uqfc.calibrate import calibrate, name_layers
from uqfc.frontend import read_onnx
from uqfc.model import build
from uqfc.passes.fold_calibration import FoldCalibrationPass
from uqfc.passes.insert_observers import InsertObserversPass
from uqfc.passes.quantize_weights import QuantizeWeightsPass
from uqfc.passes.select_bit_width import SelectBitWidthPass
from uqfc.pipeline import graph_passes, integer_passes, run_passes
from uqfc.qat import QatModel
from uqfc.targets import load_target

HERE = Path(__file__).resolve().parent
FLOAT_MODEL = HERE / "mobilenet_v3_small.onnx"
RESULTS = HERE / "qat_results.json"
BATCH = 128
CALIBRATION_IMAGES = 512
CHECKED = 1000
"""Test images whose bits are compared."""
SHAPE = (1, 3, IMAGE_SIZE, IMAGE_SIZE)
SHIFT = 2
"""Pixels by which training images are moved, as when the float network was trained."""
SMOOTHING = 0.1
"""Of the labels, likewise."""
EIGHT_BIT_ENDS = {"layers": {name: {"weight_dtype": "int8"} for name in ("stem.0", "head.3")}}


@dataclass(frozen=True)
class Recipe:
    """What is quantized to what, and how it is trained."""

    title: str
    weights: str
    activations: str = "int8"
    config: dict[str, Any] = field(default_factory=dict[str, Any])
    epochs: int = 2
    learning_rate: float = 5e-4


RECIPES = {
    "int8": Recipe("INT8 weights, INT8 activations", "int8"),
    "int4": Recipe("INT4 weights (all layers), INT8 activations", "int4"),
    "int4_int4": Recipe(
        "INT4 weights (all layers), INT4 activations", "int4", "int4", learning_rate=1e-3
    ),
    "ternary": Recipe(
        "ternary weights (first and last layer INT8), INT8 activations",
        "ternary",
        config=EIGHT_BIT_ENDS,
        learning_rate=1e-3,
    ),
}


class TrainingImages:
    """Shuffled, augmented batches of uint8 images [N, 28, 28] and labels, anew each epoch."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images) // BATCH

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        random = np.random.default_rng(int(torch.randint(2**31, ())))
        order = random.permutation(len(self.images))
        for step in range(len(self)):
            chosen = order[step * BATCH : (step + 1) * BATCH]
            images = to_tensor(augment(self.images[chosen], SHIFT, random))
            yield images, torch.from_numpy(self.labels[chosen])


def float_model() -> MobileNetV3Small:
    """The trained float network; the ONNX file names its parameters as the module does."""
    weights = {t.name: t for t in onnx.load(str(FLOAT_MODEL)).graph.initializer}
    model = MobileNetV3Small()
    state = {
        name: torch.from_numpy(numpy_helper.to_array(weights[name]).copy())
        for name in model.state_dict()
        if name in weights
    }
    model.load_state_dict(state, strict=False)
    return model.eval()


def prepared(recipe: Recipe, images: NDArray[np.uint8]) -> QatModel:
    """The network with quantize points, calibrated on training images [N, 28, 28]."""
    return uqfc.prepare_qat(
        float_model(),
        weight_dtype=recipe.weights,
        activation_dtype=recipe.activations,
        config=recipe.config,
        calibration_data=[to_tensor(images)],
    )


def deliver(model: QatModel, images: NDArray[np.uint8], path: Path) -> dict[str, int]:
    """Write `path`.cann and `path`.so; sizes, and how many images' bits differ: none."""
    file, binary = path.with_suffix(".cann"), path.with_suffix(".so")
    uqfc.export(model, file)
    uqfc.compile(file).save(binary)
    device = uqfc_runtime.load(binary)
    with torch.inference_mode():
        wanted = model.eval()(to_tensor(images)).numpy()
    inputs = preprocess(images)[:, None]
    found = np.concatenate([np.asarray(device(image)) for image in inputs])
    different = int((found != wanted).any(axis=1).sum())
    sizes = {"uqr_bytes": file.stat().st_size, "binary_bytes": binary.stat().st_size}
    return {**sizes, "checked": len(images), "different": different}


def naive(data: Path, granularity: str) -> float:
    """Top-1 of INT4 without help: min-max ranges, rounding to nearest, no training."""
    images, _ = load_split(data, "train")
    test_images, test_labels = load_split(data, "test")
    samples = [{"image": x[None]} for x in preprocess(images[:CALIBRATION_IMAGES])]
    network = read_onnx(FLOAT_MODEL, {"image": SHAPE}).convert()
    run_passes(network, graph_passes())
    name_layers(network)
    run_passes(network, [InsertObserversPass()])
    calibrate(network, samples, "minmax", with_statistics=False)
    weights = QuantizeWeightsPass(granularity, ranges="minmax")
    run_passes(network, [SelectBitWidthPass("int4"), FoldCalibrationPass(), weights])
    run_passes(network, integer_passes())
    compiled = build(network, load_target("host"), "host", "naive", "int4")
    right = 0
    for image, label in zip(test_images, test_labels, strict=True):
        logits = compiled.run({"image": preprocess(image[None])})["logits"]
        right += int(logits.argmax() == label)
    return right / len(test_images)


def run(name: str, seed: int, data: Path, out: Path, checkpoint: Path | None) -> dict[str, Any]:
    """Train by a recipe; returns the figures and writes them, the file and the binary."""
    recipe = RECIPES[name]
    images, labels = load_split(data, "train")
    test_images, test_labels = load_split(data, "test")
    model = prepared(recipe, images[:CALIBRATION_IMAGES])
    before = accuracy(model, test_images, test_labels)
    print(f"{recipe.title}, seed {seed}: {before:.2%} before training", flush=True)
    start = time.monotonic()
    uqfc.finetune(
        model,
        TrainingImages(images, labels),
        epochs=recipe.epochs,
        loss=nn.CrossEntropyLoss(label_smoothing=SMOOTHING),
        learning_rate=recipe.learning_rate,
        teacher=True,
        checkpoint=checkpoint,
        seed=seed,
    )
    figures = {
        "before": before,
        "after": accuracy(model, test_images, test_labels),
        "epochs": recipe.epochs,
        "learning_rate": recipe.learning_rate,
        "seconds": round(time.monotonic() - start),
        **deliver(model, test_images[:CHECKED], out.with_name(f"qat_{name}_{seed}")),
    }
    record(out, name, str(seed), figures)
    return figures


def record(out: Path, name: str, seed: str, figures: dict[str, Any]) -> None:
    """Add figures to the file of all."""
    everything = json.loads(out.read_text()) if out.exists() else {}
    everything.setdefault(name, {})[seed] = figures
    out.write_text(json.dumps(everything, indent=2, sort_keys=True) + "\n")


def print_table(out: Path, baseline: float) -> None:
    """All recipes with figures: means over their seeds, and the loss in points."""
    everything = json.loads(out.read_text())
    table = Table(box=box.MARKDOWN)
    for title in ("", "before training", "after", "each seed", "loss, points"):
        table.add_column(title, justify="left" if not title else "right")
    table.add_row("float32", "", f"{baseline:.2%}", "", "0.00")
    for granularity, figures in everything.get("naive", {}).items():
        loss = f"{100 * (baseline - figures['after']):.2f}"
        title = f"INT4 weights, min-max {granularity.replace('_', ' ')}, no training"
        table.add_row(title, f"{figures['after']:.2%}", "", "", loss)
    for name, recipe in RECIPES.items():
        seeds = everything.get(name, {})
        if not seeds:
            continue
        after = [figures["after"] for figures in seeds.values()]
        before = np.mean([figures["before"] for figures in seeds.values()])
        mean = float(np.mean(after))
        each = ", ".join(f"{100 * value:.2f}" for value in after)
        title = f"{recipe.title}, {recipe.epochs} epochs"
        loss = f"{100 * (baseline - mean):.2f}"
        table.add_row(title, f"{before:.2%}", f"{mean:.2%}", each, loss)
    Console(width=160).print(table)


def main() -> None:
    """Run a recipe, or print the table."""
    parser = argparse.ArgumentParser(description="QAT of MobileNetV3-Small on Fashion-MNIST.")
    add_data_argument(parser)
    parser.add_argument("recipe", nargs="?", choices=[*RECIPES, "naive"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--checkpoint", type=Path, help="written every epoch; resumes from it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="print the table of all figures")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.table or arguments.recipe is None:
        figures = json.loads((HERE / "figures.json").read_text())
        print_table(arguments.results, figures["test_accuracy"])
        return
    if arguments.recipe == "naive":
        for granularity in ("per_channel", "per_tensor"):
            after = naive(arguments.data, granularity)
            record(arguments.results, "naive", granularity, {"after": after})
            print(f"naive {granularity}: {after:.2%}")
        return
    found = run(
        arguments.recipe, arguments.seed, arguments.data, arguments.results, arguments.checkpoint
    )
    print(f"{arguments.recipe}, seed {arguments.seed}: {found['after']:.2%}")


if __name__ == "__main__":
    main()
