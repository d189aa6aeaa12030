"""``finetune``: quantization-aware training in one call, with defaults that serve two epochs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from uqfc.errors import UqfcError
from uqfc.qat.epochs import Finetuning, Settings
from uqfc.qat.loading import Loader, own_randomness, seed_all
from uqfc.qat.mixed import BitWidths
from uqfc.qat.model import QatModel
from uqfc.qat.objective import Loss, Metric, Objective, cross_entropy, teacher_of
from uqfc.qat.reporting import FinetuneResult
from uqfc.qat.schedule import MakeOptimizer

CALIBRATION_IMAGES = 512
"""Of the first batches, if the model was not calibrated before."""


def finetune(
    qat_model: QatModel,
    train_loader: Iterable[Any],
    epochs: int = 2,
    *,
    validation_loader: Iterable[Any] | None = None,
    loss: Loss | None = None,
    metric: Metric | None = None,
    optimizer: Optimizer | MakeOptimizer | None = None,
    learning_rate: float = 5e-4,
    weight_decay: float = 0.01,
    schedule: str = "cosine",
    teacher: bool | nn.Module = False,
    teacher_weight: float = 0.5,
    temperature: float = 1.0,
    freeze_statistics_at: float | None = None,
    statistics_batches: int = 50,
    oscillation: str | None = None,
    bit_widths: BitWidths | Mapping[str, Any] | None = None,
    checkpoint: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
) -> FinetuneResult:
    """Train a model of ``prepare_qat`` in place, and leave it in evaluation mode.

    ``train_loader`` and ``validation_loader`` give batches ``(inputs, targets)``, anew each time
    that they are iterated; inputs are a tensor or a tuple of tensors. A model that was not captured
    and calibrated before is, with the first 512 images.

    ``loss(outputs, targets)``: a scalar, by default cross-entropy. ``metric(outputs, targets)``:
    the mean over a batch, higher is better; by default the share of right classes, or, where
    targets are no classes, the loss, negated. After each epoch the deployed network is measured on
    the validation data; at the end the model has the parameters of the best epoch, of equal ones
    the last. Without validation data that is the last epoch.

    ``optimizer``: by default AdamW, with ``weight_decay`` for weights, none for biases, norms and
    scales; or an optimizer with rates of its own, or a function of groups of parameters. Learning
    rates rise for 50 steps (at most a tenth of all), then fall to zero along a cosine;
    ``schedule="constant"`` keeps them.

    ``teacher``: a module, or True for the float model as it is at the start, whose logits (divided
    by ``temperature``) count ``teacher_weight`` of the loss, see ``Objective``.

    Before each measurement, statistics of batch norms are averaged over ``statistics_batches``
    training batches (0: not). ``freeze_statistics_at``: the share of training, 0 to 1, from which
    on they stay, and training has the deployed network's bits.

    ``oscillation``: of weights that jump between two integers. "track" tells in ``history`` how
    many do, "dampen" pulls weights to the middle between levels, "freeze" keeps the integer of a
    weight that jumps often.

    ``bit_widths``: first learn which weight type each layer is to have, within a budget:
    ``{"candidates": ("int4", "int8"), "budget_bytes": 50_000}``, see ``BitWidths``. The result says
    which: ``prepare_qat`` takes them as ``config={"layers": {name: {"weight_dtype": dtype}}}``.

    ``checkpoint``: a file that is written after each epoch; the same call, on the model as it was
    at the start, goes on from there, with the bits of a call that was not interrupted. The loader
    must then draw random numbers from a DataLoader's generator, or from the global generators of
    torch, NumPy or Python, which are seeded with ``seed`` for every epoch and put back at the end.
    ``progress``: show a bar on standard error, or a line an epoch where that is no terminal.

    Raises UqfcError for what arguments may not be, for a loader that is empty or cannot be iterated
    again, and where the loss is not finite: it names epoch and step.
    """
    if not isinstance(qat_model, QatModel):  # pyright: ignore[reportUnnecessaryIsInstance]
        kind = type(qat_model).__name__
        raise UqfcError(f"finetune takes a model of prepare_qat, got {kind}")
    check_number("epochs", epochs, 1, whole=True)
    check_number("seed", seed, 0, whole=True)
    check_number("learning_rate", learning_rate, 0)
    check_number("weight_decay", weight_decay, 0)
    check_number("teacher_weight", teacher_weight, 0, 1)
    check_number("temperature", temperature, 2.0**-10)
    check_number("statistics_batches", statistics_batches, 0, whole=True)
    if freeze_statistics_at is not None:
        check_number("freeze_statistics_at", freeze_statistics_at, 0, 1)
    device = qat_model.quantization.weight_change.device
    train = Loader(train_loader, "train_loader", device)
    validation = None
    if validation_loader is not None:
        validation = Loader(validation_loader, "validation_loader", device)
    objective = Objective(
        cross_entropy if loss is None else loss,
        teacher_of(qat_model.model, teacher),
        teacher_weight,
        temperature,
    )
    settings = Settings(
        epochs=epochs,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        schedule=schedule,
        freeze_statistics_at=freeze_statistics_at,
        statistics_batches=statistics_batches,
        oscillation=oscillation,
        bit_widths=None if bit_widths is None else BitWidths.of(bit_widths),
        seed=seed,
    )
    with own_randomness(device):
        seed_all(seed, 0)
        work = Finetuning(qat_model, train, validation, objective, metric, settings)
        path = None if checkpoint is None else Path(checkpoint)
        return work.run(optimizer, path, CALIBRATION_IMAGES, progress)


def check_number(
    name: str, value: Any, least: float, most: float = math.inf, *, whole: bool = False
) -> None:
    """UqfcError, by name, unless the value is a number of that kind within the bounds."""
    kinds: Any = int if whole else (int, float)
    numeric = isinstance(value, kinds) and not isinstance(value, bool)
    if numeric and math.isfinite(value) and least <= value <= most:
        return
    what = "a whole number" if whole else "a number"
    bounds = f"{least:g} or more" if math.isinf(most) else f"{least:g} to {most:g}"
    raise UqfcError(f"{name}: {value!r}; accepted: {what}, {bounds}")
