"""One trained network at four precisions, side by side: accuracy, size, speed, and the guarantee.

    python demo.py

Compiles `mobilenet_v3_small.onnx` to float32, INT8 and INT4, compares each with ONNX Runtime, and
checks that the compiled code gives the same bits as the definition of the arithmetic. Writes the
binaries and `results.json` to `--build`. Exit status 1: the guarantee failed.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

import uqfc
import uqfc_runtime
from data import CLASSES, IMAGE_SIZE, add_data_argument, load_split, preprocess
from uqfc.errors import UqfcError
from uqfc.timing import Latency, measure

HERE = Path(__file__).resolve().parent
MODEL = HERE / "mobilenet_v3_small.onnx"
INPUT, OUTPUT = "image", "logits"
SHAPE = (1, 3, IMAGE_SIZE, IMAGE_SIZE)
STRATEGIES = {"float32": "uqfc float32", "int8": "uqfc INT8", "int4": "uqfc INT4"}
PEER = "ONNX Runtime float32"
BATCH = 100
"""Images that are preprocessed at a time."""

Array = NDArray[Any]
Classifier = Callable[[Array], Array]
"""One image, float32 `SHAPE`, to logits, float32 [1, 10]."""

console = Console(highlight=False, soft_wrap=True)


class GuaranteeError(Exception):
    """The compiled code and the definition of the arithmetic disagree."""


@dataclass(frozen=True)
class Candidate:
    """One way to run the network; `size` is that of its file, in bytes."""

    name: str
    classify: Classifier
    size: int


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="FP32, INT8 and INT4 side by side.")
    add_data_argument(parser)
    parser.add_argument("--images", type=int, help="test images at most (default: all)")
    parser.add_argument("--calibration", type=int, default=512, help="images (default: 512)")
    parser.add_argument("--checked", type=int, default=4, help="images compared bit for bit")
    parser.add_argument("--runs", type=int, default=300, help="timed runs (default: 300)")
    parser.add_argument("--build", type=Path, default=Path("build/fashion_mnist"), metavar="DIR")
    return parser.parse_args()


def test_split(directory: Path, limit: int | None) -> tuple[Array, Array]:
    """Images, uint8 [N, 28, 28], and labels [N]: all 10,000, or the slice beside this file."""
    try:
        images, labels = load_split(directory, "test")
    except FileNotFoundError as error:
        with np.load(HERE / "test_images.npz") as slices:
            images, labels = slices["images"], slices["labels"]
        console.print(f"{error}: using {len(images):,} committed test images (see --data)")
    return images[:limit], labels[:limit]


def calibration_inputs(count: int) -> Array:
    """Preprocessed training images, float32 [count, 3, 64, 64]."""
    with np.load(HERE / "calibration_images.npz") as file:
        return preprocess(file["images"][:count])


def onnx_runtime() -> Candidate:
    """The float network as ONNX Runtime runs it, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(MODEL), options, providers=["CPUExecutionProvider"])
    return Candidate(
        PEER, lambda x: np.asarray(session.run([OUTPUT], {INPUT: x})[0]), MODEL.stat().st_size
    )


def compiled(strategy: str, calibration: Array, images: Array, build: Path) -> Candidate:
    """Compile, save, load; compare `images` [n, 3, 64, 64] with the reference, bit for bit.

    Raises GuaranteeError where a bit differs.
    """
    started = time.perf_counter()
    model = uqfc.compile(
        MODEL,
        quant_strategy=strategy,
        calibration_data=None if strategy == "float32" else {INPUT: calibration},
        shapes={INPUT: SHAPE},
    )
    path = build / f"{strategy}.so"
    model.save(path)
    console.print(f"{path}: compiled in {time.perf_counter() - started:.1f} s")
    binary = uqfc_runtime.load(path)
    for i, image in enumerate(images[:, None]):
        actual = binary.run({INPUT: image})[OUTPUT]
        expected = model.reference({INPUT: image})[OUTPUT]
        if actual.tobytes() != expected.tobytes():
            raise GuaranteeError(
                f"{path}: image {i}: the binary gives {actual}, the definition {expected}"
            )
    if not (report := uqfc_runtime.verify(binary)).ok:
        raise GuaranteeError(f"{path}: {report}")
    return Candidate(
        STRATEGIES[strategy], lambda x: binary.run({INPUT: x})[OUTPUT], path.stat().st_size
    )


def batches(images: Array) -> Iterator[Array]:
    """Each image preprocessed, float32 `SHAPE`."""
    for start in range(0, len(images), BATCH):
        yield from preprocess(images[start : start + BATCH])[:, None]


def predictions(candidates: list[Candidate], images: Array) -> dict[str, Array]:
    """Class of each image, int64 [N], by each candidate."""
    found: dict[str, list[int]] = {candidate.name: [] for candidate in candidates}
    for image in batches(images):
        for candidate in candidates:
            found[candidate.name].append(int(candidate.classify(image).argmax()))
    return {name: np.array(classes) for name, classes in found.items()}


def latencies(candidates: list[Candidate], image: Array, runs: int) -> dict[str, Latency]:
    """Latency of one image, all candidates taking turns."""
    return measure(
        {c.name: lambda c=c: c.classify(image) for c in candidates}, runs, warmup=runs // 10 + 1
    )


def show(results: dict[str, dict[str, float]], count: int) -> None:
    """Print the table."""
    table = Table(
        title=f"MobileNetV3-Small, {count:,} test images, one thread",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in ("", "top-1", "agrees", "bytes", "min ms", "median", "ratio"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for name, row in results.items():
        table.add_row(
            name,
            f"{row['top1']:.2%}",
            f"{row['agreement']:.1%}",
            f"{row['bytes']:,}",
            f"{row['min_ms']:.3f}",
            f"{row['median_ms']:.3f}",
            f"{row['speedup']:.2f}",
        )
    console.print(table)
    console.print(f"agrees: same class as {PEER}; ratio: its median over this one's")


def from_here(path: Path) -> Path:
    """The path relative to the working directory, if it is below that."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def show_commands(build: Path) -> None:
    """Print how to do the same from a shell."""
    binary, model = build / "int4.so", from_here(MODEL)
    uqfc_command = from_here(Path(sys.executable).parent / "uqfc")
    console.print(f"""
The same from a shell:
  {uqfc_command} compile {model} --shape {INPUT}={"x".join(map(str, SHAPE))} \\
      --quant-strategy int4 --calibrate {build / "calibration.npz"} -o {binary}
  {uqfc_command} inspect {binary}
  {uqfc_command} verify {binary}
  {uqfc_command} bench {binary} --against {model}""")


def main() -> int:
    """Compile, check, measure, print."""
    arguments = parse_arguments()
    arguments.build.mkdir(parents=True, exist_ok=True)
    images, labels = test_split(arguments.data, arguments.images)
    calibration = calibration_inputs(arguments.calibration)
    np.savez(arguments.build / "calibration.npz", allow_pickle=False, **{INPUT: calibration})
    checked = preprocess(images[: arguments.checked])
    try:
        candidates = [
            onnx_runtime(),
            *(compiled(s, calibration, checked, arguments.build) for s in STRATEGIES),
        ]
    except (GuaranteeError, UqfcError) as error:
        console.print(f"error: {error}", style="bold red", markup=False)
        return 1
    console.print(f"same bits as the definition: {len(checked)} images × {len(STRATEGIES)} builds")

    classes = predictions(candidates, images)
    taken = latencies(candidates, checked[:1], arguments.runs)
    results = {
        candidate.name: {
            "top1": float((classes[candidate.name] == labels).mean()),
            "agreement": float((classes[candidate.name] == classes[PEER]).mean()),
            "bytes": candidate.size,
            "min_ms": taken[candidate.name].minimum,
            "median_ms": taken[candidate.name].median,
            "speedup": taken[PEER].median / taken[candidate.name].median,
        }
        for candidate in candidates
    }
    show(results, len(images))
    document = {
        "images": len(images),
        "classes": len(CLASSES),
        "runs": arguments.runs,
        "machine": platform.machine(),
        "onnxruntime": onnxruntime.__version__,
        "results": results,
    }
    (arguments.build / "results.json").write_text(json.dumps(document, indent=2) + "\n")
    show_commands(arguments.build)
    return 0


if __name__ == "__main__":
    sys.exit(main())
