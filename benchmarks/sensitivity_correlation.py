"""Whether sensitivities predict accuracy: rank correlation over random assignments of weight types.

    python -m benchmarks.sensitivity_correlation [--networks NAME …] [--methods NAME …]
        [--configurations 100] [--models DIR] [--data DIR] [--cache DIR] [--json FILE]

For each network, tables are measured by each method, 100 random assignments of INT8, INT4, ternary
and binary weights are run, and Spearman's ρ between the sum of a table's entries and the true drop
of accuracy is printed, with its 95 % interval (1000 bootstrap samples of the assignments).

- ``fashion_mnist``: the MobileNetV3-Small of examples/fashion_mnist; accuracy on the 10,000 test
  images, by compiled kernels; sensitivities on the first 128 calibration images.
- ``mobilenet_v2``: torchvision's architecture at 224 x 224 with the seeded random weights of
  tests/models/torchvision_models.py, which are conditioned such that rounding errors are not
  amplified. There are no labels: "accuracy" is how often the largest of the 1000 logits is that of
  the float network, on 512 seeded synthetic images; sensitivities are measured on 128 others.

Assignments are drawn in two ways. ``varied``: each layer is narrow with probability u², u uniform
in 0..1 for each assignment, so that drops range from none to chance; then how many layers are
narrow alone predicts a lot, as the ``random`` baseline shows, which knows nothing else.
``quarter``: a quarter of the layers, drawn at random, is narrow in every assignment, and the
prediction must come from which ones. In both, the types of narrow layers have probabilities from a
Dirichlet distribution (1, ½, ½ for INT4, ternary, binary), drawn for each assignment.

What was measured is kept in ``--cache``, and goes on from there.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from benchmarks.machine import describe
from tests.models.catalog import model_cache, noise_images
from uqfc.calibrated import Calibrated, calibrate_model
from uqfc.search.sensitivity import Method, QuantizedNetworks, Rounds, SensitivityTable
from uqfc.search.sensitivity import measure_sensitivity as measured
from uqfc.search.sensitivity.floating import FloatNetworks

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "fashion_mnist"
NETWORKS = ("fashion_mnist", "mobilenet_v2")
METHODS = tuple(Method)
SAMPLINGS = ("varied", "quarter")
WIDE = "int8"
NARROW = {"int4": 1.0, "ternary": 0.5, "binary": 0.5}
"""Types and their parameters of the Dirichlet distribution."""
BOOTSTRAPS = 1000
DIFFERENTIATED = {"fashion_mnist": (32, Rounds(8, 16)), "mobilenet_v2": (8, Rounds(4, 4))}
"""Samples and probes of ``hessian``: two backward passes of MobileNetV2 take long."""

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Workload:
    """``correct``: the classes of the test images; None: the float network's."""

    name: str
    calibrated: Calibrated
    samples: F32
    images: F32
    correct: NDArray[np.int64] | None


def fashion_mnist(data: Path | None) -> Workload:
    """The trained example."""
    sys.path.insert(0, str(EXAMPLE))
    example: Any = importlib.import_module("data")
    calibration: F32 = example.preprocess(np.load(EXAMPLE / "calibration_images.npz")["images"])
    images, labels = example.load_split(data or example.DEFAULT_DIRECTORY, "test")
    calibrated = calibrate_model(
        EXAMPLE / "mobilenet_v3_small.onnx", calibration_data={"image": calibration}
    )
    return Workload("fashion_mnist", calibrated, calibration, example.preprocess(images), labels)


def mobilenet_v2(models: Path) -> Workload:
    """Random weights and synthetic images."""
    calibrated = calibrate_model(
        models / "mobilenet_v2.onnx", calibration_data={"image": noise_images(32, 11)}
    )
    return Workload("mobilenet_v2", calibrated, noise_images(128, 12), noise_images(512, 13), None)


def assignments(workload: Workload, sampling: str, count: int) -> list[dict[str, str]]:
    """Random weight types of all layers; see the module's documentation."""
    random = np.random.default_rng([7, SAMPLINGS.index(sampling)])
    layers = [layer.name for layer in workload.calibrated.layers]
    found: list[dict[str, str]] = []
    for _ in range(count):
        share, mix = random.uniform() ** 2, random.dirichlet(list(NARROW.values()))
        if sampling == "varied":
            narrow = random.uniform(size=len(layers)) < share
        else:
            narrow = random.permutation(len(layers)) < len(layers) // 4
        types = random.choice(list(NARROW), size=len(layers), p=mix)
        found.append(
            {
                layer: str(dtype) if is_narrow else WIDE
                for layer, dtype, is_narrow in zip(layers, types, narrow, strict=True)
            }
        )
    return found


def true_accuracies(
    workload: Workload, wanted: Sequence[Mapping[str, str]], cache: Path
) -> list[float]:
    """Of each assignment, on all test images; kept in a file after each."""
    path = cache / f"{workload.name}_accuracies.json"
    kept: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}
    networks = QuantizedNetworks(workload.calibrated)
    samples = [{"image": image[None]} for image in workload.images]
    correct = workload.correct
    if correct is None:
        (logits,) = FloatNetworks(workload.calibrated).run(samples)
        correct = logits.reshape(len(samples), -1).argmax(axis=-1)
    for number, each in enumerate(wanted, 1):
        key = sha256(json.dumps(each).encode()).hexdigest()
        if key not in kept:
            (logits,) = networks.run(each, samples)
            classes = logits.reshape(len(samples), -1).argmax(axis=-1)
            kept[key] = float((classes == correct).mean())
            path.write_text(json.dumps(kept))
            print(f"{workload.name}: {number} of {len(wanted)}: {kept[key]:.4f}", flush=True)
    return [kept[sha256(json.dumps(each).encode()).hexdigest()] for each in wanted]


def tables(
    workload: Workload, methods: Sequence[Method], cache: Path
) -> dict[str, tuple[SensitivityTable, float | None]]:
    """Each method's table, and the seconds it took; None where it went on from a checkpoint."""
    found: dict[str, tuple[SensitivityTable, float | None]] = {}
    for method in methods:
        path = cache / f"{workload.name}_{method}.json"
        if path.is_file():
            document = json.loads(path.read_text())
            table = SensitivityTable.from_document(document["table"], str(path))
            found[method] = table, document["seconds"]
            continue
        hessian = method == Method.HESSIAN
        count, rounds = DIFFERENTIATED[workload.name] if hessian else (128, None)
        checkpoint = cache / f"{workload.name}_{method}.checkpoint.json"
        resumed, start = checkpoint.is_file(), time.perf_counter()
        table = measured(
            workload.calibrated,
            {"image": workload.samples[:count]},
            method=method,
            rounds=rounds,
            checkpoint=checkpoint,
        )
        taken = time.perf_counter() - start
        found[method] = table, None if resumed else round(taken, 1)
        path.write_text(json.dumps({"table": table.document(), "seconds": found[method][1]}))
        print(f"{workload.name}: {method}: {taken:.1f} s", flush=True)
    return found


def spearman(predicted: F64, drops: F64) -> float:
    """ρ; ties get their mean rank."""
    result: Any = spearmanr(predicted, drops)
    return float(result.statistic)


def interval(predicted: F64, drops: F64) -> tuple[float, float]:
    """95 % of Spearman's ρ over bootstrap samples."""
    random = np.random.default_rng(0)
    found: list[float] = []
    for _ in range(BOOTSTRAPS):
        chosen = random.integers(0, len(drops), len(drops))
        found.append(spearman(predicted[chosen], drops[chosen]))
    return float(np.quantile(found, 0.025)), float(np.quantile(found, 0.975))


def compare(
    workload: Workload, methods: Sequence[Method], count: int, cache: Path
) -> dict[str, Any]:
    """All figures of one network."""
    measured_tables = tables(workload, methods, cache)
    found: dict[str, Any] = {
        "methods": {
            method: {
                "seconds": seconds,
                "samples_or_probes": table.units,
                "agreement_of_halves": round(table.agreement, 3),
            }
            for method, (table, seconds) in measured_tables.items()
        }
    }
    wide = {layer.name: WIDE for layer in workload.calibrated.layers}
    drawn = {sampling: assignments(workload, sampling, count) for sampling in SAMPLINGS}
    everything = [wide, *(each for some in drawn.values() for each in some)]
    accuracies = true_accuracies(workload, everything, cache)
    found["int8_accuracy"] = accuracies[0]
    for number, (sampling, configurations) in enumerate(drawn.items()):
        start = 1 + number * count
        true = np.array(accuracies[start : start + count])
        drops = accuracies[0] - true
        quantiles = np.quantile(true, [0, 0.25, 0.5, 0.75, 1])
        rows: dict[str, Any] = {}
        for method, (table, _) in measured_tables.items():
            predicted = np.array([table.predicted(each) for each in configurations])
            low, high = interval(predicted, drops)
            rho = spearman(predicted, drops)
            rows[method] = {"spearman": round(rho, 3), "interval": [round(low, 3), round(high, 3)]}
        found[sampling] = {
            "configurations": count,
            "accuracy_quartiles": [round(float(q), 4) for q in quantiles],
            "correlation": rows,
        }
    return found


def show(name: str, found: Mapping[str, Any]) -> None:
    """The table of one network."""
    print(f"\n{name}: accuracy with INT8 everywhere {found['int8_accuracy']:.4f}")
    for sampling in SAMPLINGS:
        print(f"  {sampling}: quartiles of accuracy {found[sampling]['accuracy_quartiles']}")
    print(f"  {'method':14} {'varied':>7} {'95 %':>16} {'quarter':>8} {'95 %':>16} {'seconds':>8}")
    for method, facts in found["methods"].items():
        columns = ""
        for sampling in SAMPLINGS:
            row = found[sampling]["correlation"][method]
            low, high = row["interval"]
            columns += f" {row['spearman']:7.3f} {f'{low:.3f} to {high:.3f}':>16}"
        print(f"  {method:14}{columns} {facts['seconds'] or '-':>8}")


def main() -> None:
    """Measure and print tables; write the figures."""
    parser = argparse.ArgumentParser(description="Sensitivities and true drops of accuracy.")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=NETWORKS)
    parser.add_argument("--methods", nargs="+", default=METHODS, type=Method)
    parser.add_argument("--configurations", type=int, default=100)
    parser.add_argument("--models", type=Path, default=model_cache(), help="of mobilenet_v2.onnx")
    parser.add_argument("--data", type=Path, help="directory of Fashion-MNIST's four IDX files")
    parser.add_argument("--cache", type=Path, default=Path("build/sensitivity"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {}
    for name in arguments.networks:
        fashion = name == "fashion_mnist"
        workload = fashion_mnist(arguments.data) if fashion else mobilenet_v2(arguments.models)
        count = arguments.configurations
        results[name] = compare(workload, arguments.methods, count, arguments.cache)
        show(name, results[name])
    if arguments.json is not None:
        document = {"machine": describe(), "networks": results}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
