"""Time of a training step: float, uqfc's QAT, and torch.ao's fake quantization, taking turns.

    python -m benchmarks.training_step [--sizes 128x64 32x224] [--threads 1] [--steps 12]
        [--json FILE]

The network is the MobileNetV3-Small of `examples/fashion_mnist`; a step is forward, loss, backward
and AdamW. The times are those of the process's threads (what other processes take from the cores
does not count), the medians of the steps after three.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

import uqfc

ROOT = Path(__file__).resolve().parents[1]
WARMUP = 3
CLASSES = 10
WEIGHTS = ("int4", "int8")


def example_network() -> nn.Module:
    """The network of the example, with random weights."""
    path = ROOT / "examples" / "fashion_mnist" / "model.py"
    spec = importlib.util.spec_from_file_location("fashion_mnist_model", path)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look themselves up
    spec.loader.exec_module(module)
    torch.manual_seed(0)
    return module.MobileNetV3Small(classes=CLASSES)


def fake_quantized(network: nn.Module, images: Tensor) -> nn.Module:
    """torch.ao's QAT of the network, with its default configuration for x86."""
    ao: Any = importlib.import_module("torch.ao.quantization")
    fx: Any = importlib.import_module("torch.ao.quantization.quantize_fx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and says so at every call
        mapping = ao.get_default_qat_qconfig_mapping("x86")
        return fx.prepare_qat_fx(copy.deepcopy(network).train(), mapping, (images[:1],))


def candidates(images: Tensor) -> dict[str, nn.Module]:
    """By name; each has parameters of its own."""
    network = example_network().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] # an overload that torch's stubs lack
    found: dict[str, nn.Module] = {"float": copy.deepcopy(network)}
    for dtype in WEIGHTS:
        found[f"uqfc {dtype}"] = uqfc.prepare_qat(network, dtype, example_inputs=images)
    found["torch.ao fake quantization int8"] = fake_quantized(network, images)
    return found


def stepper(model: nn.Module, images: Tensor, labels: Tensor) -> Callable[[], None]:
    """A training step of the model on one batch."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    model.train()

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return step


def measure(batch: int, size: int, steps: int) -> dict[str, float]:
    """Median seconds of a step, by candidate."""
    torch.manual_seed(1)
    images = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (batch,))
    runs = {name: stepper(m, images, labels) for name, m in candidates(images).items()}
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(WARMUP + steps):
        for name, run in runs.items():
            start = time.process_time()
            run()
            taken[name].append(time.process_time() - start)
    return {name: median(each[WARMUP:]) for name, each in taken.items()}


def main() -> None:
    """Measure and print a table; write the figures."""
    parser = argparse.ArgumentParser(description="Time of a training step.")
    parser.add_argument("--sizes", nargs="+", default=["128x64", "32x224"], help="batch x pixels")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results: dict[str, dict[str, float]] = {}
    for text in arguments.sizes:
        batch, size = map(int, text.split("x"))
        results[text] = measure(batch, size, arguments.steps)
        baseline = results[text]["float"]
        print(f"batch {batch}, {size} x {size} pixels, {arguments.threads} thread(s)")
        for name, seconds in results[text].items():
            print(f"  {name:34} {1000 * seconds:7.1f} ms  {seconds / baseline:5.2f}", flush=True)
    if arguments.json is not None:
        document = {"threads": arguments.threads, "torch": torch.__version__, "seconds": results}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
