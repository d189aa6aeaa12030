"""What the search over weight types is good for, in figures: docs/benchmarks/search.json.

    python -m benchmarks.search                    # everything; some minutes
    python -m benchmarks.search --only surrogate exact interactions
    python -m benchmarks.search --only network --jobs 2

- ``surrogate``: configurations a second on one core, with all pairwise terms, size and latency;
- ``exact``: tree search and evolution next to the exact optimum, on 50 instances;
- ``interactions``: tree search on true values next to the optimum of the additive part;
- ``network``: the trained network of examples/fashion_mnist. Accuracy is measured on images of the
  training set that calibration does not see; the test set is only looked at in the end.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import uqfc
from benchmarks.machine import describe
from tests.search.instances import network_like, space_of
from tests.search.test_strategies import guided, repelling
from uqfc.search import SearchResult, ilp
from uqfc.search.costs import CostModel, Pair
from uqfc.search.evaluation import Top1
from uqfc.search.evolution import Evolution
from uqfc.search.mcts import TreeSearch
from uqfc.search.scores import minimize

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "fashion_mnist"
RESULTS = ROOT / "docs" / "benchmarks" / "search.json"
PLOT = ROOT / "docs" / "benchmarks" / "search.svg"
PARTS = ("surrogate", "exact", "interactions", "network")

LAYERS = 54
"""Of MobileNetV3-Small."""
CONFIGURATIONS = 1_000_000
INSTANCES = 50
SPACE = {"*": ["int8", "int4"]}
MAX_DROP_POINTS = 1.3
LATENCY = "0.25ms"


def surrogate() -> dict[str, Any]:
    """Seconds of a million configurations: loss with every pair of layers, size, latency."""
    random = np.random.default_rng(0)
    counts = (4,) * LAYERS
    pairs = tuple(
        Pair(a, b, random.random((4, 4))) for a in range(LAYERS) for b in range(a + 1, LAYERS)
    )
    loss = CostModel(tuple(random.random((LAYERS, 4))), pairs)
    size, latency = (CostModel(tuple(random.random((LAYERS, 4)))) for _ in range(2))
    rows = space_of(counts).random(random, CONFIGURATIONS)
    started = time.process_time()
    for cost in (loss, size, latency):
        cost(rows)
    seconds = time.process_time() - started
    return {
        "configurations": CONFIGURATIONS,
        "layers": LAYERS,
        "choices": 4,
        "pairs": len(pairs),
        "cpu_seconds": round(seconds, 2),
    }


def exact() -> dict[str, Any]:
    """How far above the exact optimum tree search and evolution end, as shares."""
    found: dict[str, Any] = {}
    for layers, evaluations in ((16, 60_000), (24, 200_000)):
        gaps: dict[str, list[float]] = {"mcts": [], "evolution": []}
        for seed in range(INSTANCES):
            instance = network_like(seed, layers)
            best = ilp.minimize(instance.loss, instance.limits).value
            searches = {
                "mcts": guided(instance, seed),
                "evolution": Evolution(instance.counts, seed),
            }
            for name, search in searches.items():
                result = minimize(
                    search, instance.objective, evaluations, refine=instance.counts, seed=seed
                )
                gaps[name].append(result.value / best - 1 if result.feasible else float("inf"))
        found[f"{layers} layers"] = {
            "instances": INSTANCES,
            "choices": "2 to 4",
            "pairs": layers - 1,
            "limits": 2,
            "evaluations": evaluations,
            **{
                name: {
                    "worst_gap": round(max(values), 5),
                    "within_1_percent": sum(value <= 0.01 for value in values),
                }
                for name, values in gaps.items()
            },
        }
    return found


def interactions() -> dict[str, Any]:
    """True values: of the additive optimum, of tree search after 300 of them, and the least."""
    values: dict[str, list[float]] = {"additive_optimum": [], "mcts_300": [], "least": []}
    for seed in range(INSTANCES):
        instance = repelling(seed)
        additive = ilp.minimize(instance.loss.without_pairs(), instance.limits)
        assert additive.row is not None
        search = TreeSearch(instance.counts, seed, limits=instance.limits)
        values["additive_optimum"].append(instance.loss.one(additive.row))
        values["mcts_300"].append(minimize(search, instance.objective, 300).value)
        values["least"].append(ilp.minimize(instance.loss, instance.limits).value)
    pairs = zip(values["mcts_300"], values["additive_optimum"], strict=True)
    return {
        "instances": INSTANCES,
        "mcts_is_better": sum(tree < additive for tree, additive in pairs),
        "medians": {name: round(median(each), 3) for name, each in values.items()},
    }


def images_of(split: str, first: int, count: int) -> tuple[Any, Any]:
    """Preprocessed images [n, 3, 64, 64] and their classes."""
    sys.path.insert(0, str(EXAMPLE))
    from data import DEFAULT_DIRECTORY, load_split, preprocess  # noqa: PLC0415

    images, labels = load_split(DEFAULT_DIRECTORY, split)
    chosen = slice(first, first + count)
    return preprocess(images[chosen]), labels[chosen]


def network(jobs: int, validation: int, budget: int) -> dict[str, Any]:
    """A search with limits of accuracy and latency, and the front, measured on the test set."""
    with np.load(EXAMPLE / "calibration_images.npz") as file:
        images_of("test", 0, 1)  # makes the example importable
        from data import preprocess  # noqa: PLC0415

        calibration = {"image": preprocess(file["images"])}
    images, labels = images_of("train", 40_000, validation)
    model = EXAMPLE / "mobilenet_v3_small.onnx"
    shapes = {"image": (1, 3, 64, 64)}
    started = time.perf_counter()
    with ExitStack() as stack:
        executor = None
        if jobs > 1:
            pool = ProcessPoolExecutor(jobs, mp_context=get_context("fork"))
            executor = stack.enter_context(pool)
        result = uqfc.search_bit_width(
            model,
            SPACE,
            max_drop_points=MAX_DROP_POINTS,
            latency_target=LATENCY,
            data={"image": images},
            labels=labels,
            calibration_data=calibration,
            shapes=shapes,
            budget=budget,
            executor=executor,
            progress=show,
        )
    seconds = time.perf_counter() - started
    print(f"\n{result.pareto()}\n{seconds:.0f} s", flush=True)
    result.plot(PLOT)
    return {
        "images": {"validation": validation, "calibration": len(calibration["image"])},
        "limits": {"max_drop_points": MAX_DROP_POINTS, "latency": LATENCY},
        "jobs": jobs,
        "seconds": round(seconds, 1),
        "combinations": str(result.combinations),
        "reference_accuracy": result.reference_accuracy,
        "optimality_gap": None if result.optimality is None else result.optimality.gap,
        "chosen": figures(result, result.chosen),
        "front": [figures(result, candidate) for candidate in result.front],
        "uniform": [figures(result, each) for each in result.candidates if each.label],
        "test": on_test_set(result, model, calibration, shapes),
        "layers": {n: [d.chosen, d.reason] for n, d in (result.decisions or {}).items()},
    }


def figures(result: SearchResult, candidate: Any) -> dict[str, Any]:
    """Of one candidate."""
    return {
        "label": "chosen" if candidate is result.chosen else candidate.label,
        "accuracy": candidate.outcome.accuracy,
        "bytes": candidate.outcome.size,
        "milliseconds": candidate.outcome.latency,
        "types": candidate.types,
    }


def on_test_set(result: SearchResult, model: Path, data: Any, shapes: Any) -> dict[str, Any]:
    """Accuracy on all 10,000 test images: float32, uniform types, the choice, and the most accurate
    mixed configuration of the front."""
    images, labels = images_of("test", 0, 10_000)
    evaluate = Top1({"image": images}, labels)
    float32 = uqfc.compile(model, quant_strategy="float32", shapes=shapes)
    found = {"float32": evaluate(float32)}
    picked = {c.label: c for c in result.candidates if c.label}
    mixed = [c for c in result.front if not c.label]
    if mixed:
        picked["mixed, most accurate"] = max(mixed, key=lambda c: c.outcome.accuracy or 0)
    if result.chosen is not None:
        picked["chosen"] = result.chosen
    for label, candidate in picked.items():
        compiled = uqfc.compile(
            model, bit_widths=candidate.configuration, calibration_data=data, shapes=shapes
        )
        found[label] = evaluate(compiled)
        print(f"test set: {label} {100 * found[label]:.2f} %", flush=True)
    return found


def show(stage: str, done: int) -> None:
    print(f"\r\x1b[K{stage} {done}", end="", flush=True)


def main() -> None:
    """Measure what was asked for, and replace these parts of the results."""
    parser = argparse.ArgumentParser(description="Figures of the search over weight types.")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--validation", type=int, default=5000, help="images of the training set")
    parser.add_argument("--budget", type=int, default=32)
    parser.add_argument("--json", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    document: dict[str, Any] = {}
    if arguments.json.is_file():
        document = json.loads(arguments.json.read_text())
    document["machine"] = describe()
    parts = {"surrogate": surrogate, "exact": exact, "interactions": interactions}
    for name in arguments.only:
        if name == "network":
            document[name] = network(arguments.jobs, arguments.validation, arguments.budget)
        else:
            document[name] = parts[name]()
        print(json.dumps({name: document[name]}, indent=2), flush=True)
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
