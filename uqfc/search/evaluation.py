"""True evaluations: a candidate is compiled, run, and asked how many answers are right."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from uqfc.codegen.artifact import encode_info
from uqfc.errors import UqfcError
from uqfc.model import CompiledModel
from uqfc.timing import measure
from uqfc_runtime import verification_inputs
from uqfc_runtime.info import parse_info

Evaluate: TypeAlias = Callable[[CompiledModel], float]
"""The accuracy of a compiled model: a share of right answers, 0..1."""
Configuration: TypeAlias = Mapping[str, str]

RUNS, WARMUP = 200, 20
"""Calls by which a latency is measured."""
SEED = 0


class Network(Protocol):
    """What compiles candidates: ``uqfc.calibrated.Calibrated``."""

    def compile(self, bit_widths: Mapping[str, Any]) -> CompiledModel:
        """The network with these types of weights."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What was found of a candidate. Exactly one of ``accuracy`` and ``error`` is None.

    ``size``: bytes of all constants that the artifact carries. ``latency``: median of one call in
    milliseconds, None where it was not measured.
    """

    accuracy: float | None
    size: int | None = None
    latency: float | None = None
    error: str | None = None
    """Why there is no accuracy."""


@dataclass(frozen=True)
class Top1:
    """An ``Evaluate``: the share of samples whose largest output is that of their label.

    ``inputs``: by name, [samples, …]; ``labels``: [samples]. A model with a batch is given as many
    samples at once; those left over do not count.
    """

    inputs: Mapping[str, NDArray[Any]]
    labels: NDArray[np.int64]

    def __call__(self, model: CompiledModel) -> float:
        right = total = 0
        shapes = {t["name"]: tuple(t["shape"]) for t in model.info["inputs"]}
        name = str(model.info["outputs"][0]["name"])
        batch = batch_of(self.inputs, shapes)
        for start in range(0, len(self.labels) - batch + 1, batch):
            chunk = {n: x[start : start + batch].reshape(shapes[n]) for n, x in self.inputs.items()}
            answers = model.run(chunk)[name].reshape(batch, -1).argmax(axis=1)
            right += int((answers == self.labels[start : start + batch]).sum())
            total += batch
        return right / total


def batch_of(inputs: Mapping[str, NDArray[Any]], shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many samples one run takes."""
    name, x = next(iter(inputs.items()))
    return max(1, math.prod(shapes[name]) // max(1, math.prod(x.shape[1:])))


def try_evaluate(network: Network, configuration: Configuration, evaluate: Evaluate) -> Outcome:
    """Compile and evaluate. Whatever the compiler or the user's function raises, but for what
    stops the process, is the outcome's ``error``."""
    try:
        compiled = network.compile(configuration)
    except UqfcError as error:
        return Outcome(None, error=f"not compiled: {error}")
    size = int(compiled.info["weights_bytes"])
    accuracy, error = try_accuracy(compiled, evaluate)
    return Outcome(accuracy, size, None, error)


def try_accuracy(compiled: CompiledModel, evaluate: Evaluate) -> tuple[float | None, str | None]:
    """The accuracy, or why there is none."""
    try:
        value: Any = evaluate(compiled)
    except Exception as error:  # noqa: BLE001 # a user's function may raise anything
        return None, f"evaluate raised {type(error).__name__}: {error}"
    try:
        number = float("nan") if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 <= number <= 1:
        return None, f"evaluate returned {value!r:.80}; accepted: a share of right answers, 0 to 1"
    return number, None


def measure_latency(compiled: CompiledModel, runs: int = RUNS) -> float:
    """Median milliseconds of one call on this machine, with memory that is allocated before."""
    info = compiled.info
    inputs = verification_inputs(parse_info(encode_info(info)), SEED)
    out = {t["name"]: np.empty(t["shape"], t["dtype"]) for t in info["outputs"]}
    return measure({"": lambda: compiled.run(inputs, out)}, runs, WARMUP)[""].median
