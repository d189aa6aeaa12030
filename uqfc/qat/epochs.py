"""The epochs of ``finetune``: steps, measurements, what is kept of the best, checkpoints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from uqfc.errors import UqfcError
from uqfc.qat.checkpoints import read_checkpoint, write_checkpoint
from uqfc.qat.loading import Batch, Loader, seed_all
from uqfc.qat.mixed import BitWidths, Search
from uqfc.qat.model import QatModel
from uqfc.qat.objective import Metric, Objective, Outputs, are_classes, cross_entropy, top1
from uqfc.qat.reporting import Epoch, FinetuneResult, Reporter, reporter
from uqfc.qat.schedule import MakeOptimizer, Schedule, make_optimizer, parameter_groups
from uqfc.qat.stability import Oscillations
from uqfc.qat.statistics import average_statistics

State = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """Arguments of ``finetune`` on which the bits of its result depend."""

    epochs: int
    learning_rate: float
    weight_decay: float
    schedule: str
    freeze_statistics_at: float | None
    statistics_batches: int
    oscillation: str | None
    bit_widths: BitWidths | None
    seed: int


@dataclass
class Mean:
    """Of numbers that stand for so many images."""

    total: float = 0.0
    images: int = 0

    def add(self, value: float, images: int) -> None:
        self.total += value * images
        self.images += images

    @property
    def value(self) -> float:
        return self.total / self.images


class Finetuning:
    """One call of ``finetune``."""

    def __init__(
        self,
        model: QatModel,
        train: Loader,
        validation: Loader | None,
        objective: Objective,
        metric: Metric | None,
        settings: Settings,
    ) -> None:
        self.model = model
        self.train, self.validation = train, validation
        self.objective, self.settings = objective, settings
        self.metric = metric or self.usual_metric
        self.oscillations: Oscillations | None = None
        self.bit_widths: dict[str, str] = {}
        self.arguments = self.asked()
        self.history: list[Epoch] = []
        self.best: State | None = None
        self.best_epoch = 0

    def run(
        self,
        optimizer: Optimizer | MakeOptimizer | None,
        checkpoint: Path | None,
        calibration_images: int,
        shown: bool,
    ) -> FinetuneResult:
        model, settings = self.model, self.settings
        was_frozen = model.frozen_statistics
        found = None if checkpoint is None else self.read(checkpoint)
        if found is None:
            self.calibrate(calibration_images)
            self.choose()
        groups = parameter_groups(model, settings.learning_rate, settings.weight_decay)
        made = make_optimizer(optimizer, groups)
        steps = self.train.count()
        schedule = Schedule(made, steps * settings.epochs, settings.schedule)
        if settings.oscillation is not None:
            total = steps * settings.epochs
            self.oscillations = Oscillations(model, settings.oscillation, total)
        if found is not None:
            made.load_state_dict(found["optimizer"])
            if self.oscillations is not None:
                self.oscillations.trackers.load_state_dict(found["oscillations"])
        begun = len(self.history)
        try:
            with reporter(shown, settings.epochs, steps, begun) as report:
                for number in range(begun + 1, settings.epochs + 1):
                    epoch = self.epoch(number, steps, made, schedule, report)
                    self.take(epoch)
                    report.epoch(epoch)
                    if checkpoint is not None:
                        self.write(checkpoint, made)
        finally:
            schedule.restore()
        if self.best is not None:
            model.load_state_dict(self.best)
        model.frozen_statistics = was_frozen
        model.eval()
        return FinetuneResult(tuple(self.history), self.best_epoch, self.bit_widths)

    def calibrate(self, images: int) -> None:
        """Capture and calibrate the model if it was not."""
        if self.model.is_captured and self.model.calibrated:
            return
        batches = [batch.inputs for batch in self.train.first(images)]
        self.model.capture(*batches[0])
        self.model.calibrate(batches)

    def choose(self) -> None:
        """Search for the weight types, if they are to be learned, and take them."""
        wanted = self.settings.bit_widths
        if wanted is not None:
            search = Search(self.model, wanted, self.settings.learning_rate)
            self.bit_widths = search.run(self.train, self.objective)
            self.model.set_weight_dtypes(self.bit_widths)

    # --- one epoch -----------------------------------------------------------------------------

    def epoch(
        self, number: int, steps: int, optimizer: Optimizer, schedule: Schedule, report: Reporter
    ) -> Epoch:
        """Train on all batches, then measure."""
        settings = self.settings
        seed_all(settings.seed, number)
        self.train.begin(number - 1)
        self.model.train()
        losses, metrics, rate = Mean(), Mean(), 0.0
        for index, batch in enumerate(self.train):
            step = (number - 1) * steps + index
            freezing = settings.freeze_statistics_at
            if freezing is not None and step >= freezing * steps * settings.epochs:
                self.model.frozen_statistics = True
            rate = schedule.set(step)
            where = f"epoch {number}, step {index + 1}"
            loss, outputs = self.step(batch, optimizer, step, where)
            losses.add(loss, batch.images)
            metrics.add(float(self.metric(outputs, batch.targets)), batch.images)
            report.step(number, losses.value)
        if settings.statistics_batches and not self.model.frozen_statistics:
            average_statistics(self.model, islice(self.train, settings.statistics_batches))
            if self.oscillations is not None:
                self.oscillations.hold()
        metric = metrics.value if self.validation is None else self.measure(self.validation)
        share = None if self.oscillations is None else self.oscillations.share()
        return Epoch(number, losses.value, metric, rate, share)

    def step(
        self, batch: Batch, optimizer: Optimizer, step: int, where: str
    ) -> tuple[float, Outputs]:
        """One step of the optimizer; the loss, and the outputs without gradients."""
        outputs = self.model(*batch.inputs)
        loss = self.objective(outputs, batch)
        if self.oscillations is not None:
            loss = loss + self.oscillations.penalty(step)
        value = loss.item()
        if not math.isfinite(value):
            raise UqfcError(f"{where}: the loss is {value}: a lower learning_rate may help")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if self.oscillations is not None:
            self.oscillations.update(step)
        return value, detached(outputs)

    def measure(self, loader: Loader) -> float:
        """The metric of the deployed network."""
        self.model.eval()
        mean = Mean()
        with torch.no_grad():
            for batch in loader:
                outputs = self.model(*batch.inputs)
                mean.add(float(self.metric(outputs, batch.targets)), batch.images)
        return mean.value

    def usual_metric(self, outputs: Any, targets: Any) -> Tensor:
        """The share of right classes, where there are classes; else the loss, negated."""
        if self.objective.loss is cross_entropy or are_classes(outputs, targets):
            return top1(outputs, targets)
        return -self.objective.loss(outputs, targets)

    # --- what is kept --------------------------------------------------------------------------

    def take(self, epoch: Epoch) -> None:
        """Note an epoch, and the model if it is the best so far."""
        best = self.history[self.best_epoch - 1] if self.history else None
        self.history.append(epoch)
        if self.validation is None:
            self.best_epoch = epoch.number
        elif best is None or not epoch.metric < best.metric:
            self.best_epoch = epoch.number
            self.best = copied(self.model.state_dict())

    def asked(self) -> Mapping[str, Any]:
        """What another call must have in common with this one to go on from its checkpoint."""
        model, objective = self.model, self.objective
        return {
            **asdict(self.settings),
            "teacher": objective.teacher is not None,
            "teacher_weight": objective.weight,
            "temperature": objective.temperature,
            "options": model.options.document(),
            "target": model.target,
        }

    def write(self, path: Path, optimizer: Optimizer) -> None:
        teacher, tracked = self.objective.teacher, self.oscillations
        state = {
            "model": self.model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "teacher": None if teacher is None else teacher.state_dict(),
            "oscillations": None if tracked is None else tracked.trackers.state_dict(),
            "bit_widths": self.bit_widths,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "history": [asdict(epoch) for epoch in self.history],
            "loader": self.train.state(),
        }
        write_checkpoint(path, self.arguments, state)

    def read(self, path: Path) -> State | None:
        """Become what was written, if there is such a file."""
        device = self.train.device
        found = read_checkpoint(path, self.arguments, device)
        if found is None:
            return None
        self.bit_widths = found["bit_widths"]
        try:
            if self.bit_widths and self.model.is_captured:
                self.model.set_weight_dtypes(self.bit_widths)
            self.model.load_state_dict(found["model"])
            if self.objective.teacher is not None:
                self.objective.teacher.load_state_dict(found["teacher"])
        except RuntimeError as error:
            raise UqfcError(f"checkpoint: {path} is of another model: {error}") from None
        self.history = [Epoch(**epoch) for epoch in found["history"]]
        self.best, self.best_epoch = found["best"], found["best_epoch"]
        self.train.set_state(found["loader"])
        return found


def detached(outputs: Outputs) -> Outputs:
    if isinstance(outputs, Tensor):
        return outputs.detach()
    return tuple(each.detach() for each in outputs)


def copied(state: Mapping[str, Any]) -> State:
    """A state dict whose tensors no training changes."""
    return {
        name: value.detach().clone() if isinstance(value, Tensor) else value
        for name, value in state.items()
    }
