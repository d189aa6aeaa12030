"""``measure_sensitivity``: a table of what each layer's weight types cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from uqfc.calibrated import Calibrated
from uqfc.errors import UqfcError
from uqfc.search.sensitivity.adaptive import Measurement, Progress, Rounds, run_rounds
from uqfc.search.sensitivity.baselines import noise, perturbation
from uqfc.search.sensitivity.checkpoint import Checkpoint
from uqfc.search.sensitivity.divergence import kl_divergence, squared_error
from uqfc.search.sensitivity.estimates import mean_and_error
from uqfc.search.sensitivity.gauss_newton import FisherTrace, GaussNewton
from uqfc.search.sensitivity.outputs import OutputLoss
from uqfc.search.sensitivity.samples import Setting, checked_choices, read_samples
from uqfc.search.sensitivity.table import Item, SensitivityTable


class Method(StrEnum):
    """How a layer's sensitivity is measured; see docs/sensitivity.md."""

    KL = "kl"
    MSE = "mse"
    GAUSS_NEWTON = "gauss_newton"
    FISHER_TRACE = "fisher_trace"
    HESSIAN = "hessian"
    PERTURBATION = "perturbation"
    RANDOM = "random"


PROBED = (Method.FISHER_TRACE, Method.HESSIAN)
"""Methods whose units are probes; all samples take part in each."""
PROBES = Rounds(first=8, most=64)
PROBE_SAMPLES = 32
"""Samples that each probe is measured with, at most."""
UNMEASURED: dict[Method, Callable[[Setting], dict[Item, float]]] = {
    Method.PERTURBATION: perturbation,
    Method.RANDOM: noise,
}


def measure_sensitivity(
    calibrated: Calibrated,
    samples: object,
    *,
    method: str = "kl",
    choices: Mapping[str, Sequence[str]] | None = None,
    labels: Any = None,
    rounds: Rounds | None = None,
    progress: Progress | None = None,
    checkpoint: str | Path | None = None,
    seed: int = 0,
) -> SensitivityTable:
    """Measure what the loss gains when single layers get narrower weights.

    ``samples``: what calibration accepts (a path, arrays, or an iterable of them), no labels.
    ``method``: ``kl``, ``mse``, ``gauss_newton``, ``fisher_trace``, ``hessian`` (needs PyTorch), or
    the baselines ``perturbation`` and ``random``; see docs/sensitivity.md. ``choices``: weight
    types by layer; by default all that the target has. ``labels``: a class for each sample, for
    ``hessian`` only. ``rounds``: how many samples or probes, and when their ranking is stable; by
    default 32 to 128 samples, or 8 to 64 probes on at most 32 samples. ``checkpoint``: a JSON file;
    if it exists, the measurement goes on where it stopped, and gives what it would have given
    without the interruption. Same arguments and ``seed``: same table.

    UqfcError for unknown methods, layers and types, too few samples, outputs that are not finite,
    or a checkpoint of something else.
    """
    kind = checked_method(method)
    rounds = rounds or (PROBES if kind in PROBED else Rounds())
    limit = PROBE_SAMPLES if kind in PROBED else rounds.most
    setting = Setting(
        calibrated,
        read_samples(calibrated, samples, limit),
        checked_choices(calibrated, choices),
        checked_labels(labels, limit, kind),
        seed,
    )
    key = setting.key(kind)
    reference = {(layer, dtypes[0]): 0.0 for layer, dtypes in setting.choices.items()}
    layers = tuple(setting.choices)
    if kind in UNMEASURED:
        loss = reference | UNMEASURED[kind](setting)
        return SensitivityTable(kind, layers, loss, dict.fromkeys(loss, 0.0), key=key)
    measurement = measurement_of(kind, setting, rounds)
    saved = None if checkpoint is None else Checkpoint(Path(checkpoint), kind, key)
    values, agreement = run_rounds(measurement, rounds, progress, saved)
    found = {item: mean_and_error(units) for item, units in values.items()}
    scale = measurement.scale
    loss = reference | {item: factor * found[name][0] for item, (name, factor) in scale.items()}
    error = reference | {item: factor * found[name][1] for item, (name, factor) in scale.items()}
    units = max((len(each) for each in values.values()), default=0)
    return SensitivityTable(str(kind), layers, loss, error, units, agreement, key)


def measurement_of(method: Method, setting: Setting, rounds: Rounds) -> Measurement:
    """What measures; ``hessian`` imports PyTorch."""
    match method:
        case Method.MSE:
            return OutputLoss(setting, squared_error)
        case Method.GAUSS_NEWTON:
            return GaussNewton(setting)
        case Method.FISHER_TRACE:
            return FisherTrace(setting, rounds.most)
        case Method.HESSIAN:
            from uqfc.search.sensitivity.torch.hessian import (  # noqa: PLC0415 # torch is optional
                HessianTrace,
            )

            return HessianTrace(setting, rounds.most)
        case _:
            return OutputLoss(setting, kl_divergence)


def checked_method(method: str) -> Method:
    """UqfcError lists what is accepted."""
    try:
        return Method(method)
    except ValueError:
        accepted = ", ".join(Method)
        raise UqfcError(f"method '{method}' of sensitivity; accepted: {accepted}") from None


def checked_labels(labels: Any, limit: int, method: Method) -> Any:
    """Integers, of the samples that are used."""
    if labels is None:
        return None
    if method != Method.HESSIAN:
        raise UqfcError(f"sensitivity: labels are for method 'hessian', not '{method}'")
    found = np.asarray(labels)
    if found.dtype.kind not in "iu" or found.ndim != 1:
        raise UqfcError("sensitivity: labels: accepted: integers, one for each sample")
    return found[:limit].astype(np.int64)
