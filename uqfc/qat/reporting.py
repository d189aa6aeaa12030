"""What ``finetune`` shows of its work, and what it returns."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@dataclass(frozen=True)
class Epoch:
    """An epoch, the first is 1: mean loss, the rate of its last step, and the metric.

    The metric is that of the validation data on the deployed network, or, without such data, of the
    training batches as they were trained on. ``oscillating``: the share of weights that jump to and
    fro, if that was tracked.
    """

    number: int
    loss: float
    metric: float
    learning_rate: float
    oscillating: float | None = None

    def __str__(self) -> str:
        return f"epoch {self.number}: loss {self.loss:.4f}, metric {self.metric:.4f}"


@dataclass(frozen=True)
class FinetuneResult:
    """What each epoch reached, and the number of that whose parameters the model now has.

    ``bit_widths``: by layer, the weight types that were found, if they were searched for.
    """

    history: tuple[Epoch, ...]
    best_epoch: int
    bit_widths: Mapping[str, str]

    @property
    def best(self) -> Epoch:
        return self.history[self.best_epoch - 1]


class Reporter(Protocol):
    """Told of every step and every epoch."""

    def step(self, epoch: int, loss: float) -> None: ...

    def epoch(self, epoch: Epoch) -> None: ...


class Silent:
    def step(self, epoch: int, loss: float) -> None:
        """Nothing."""

    def epoch(self, epoch: Epoch) -> None:
        """Nothing."""


class Lines(Silent):
    """A line after every epoch."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def epoch(self, epoch: Epoch) -> None:
        self.console.print(str(epoch), highlight=False)


class Bar(Lines):
    """A bar that grows with every step, and lines above it."""

    def __init__(self, progress: Progress, epochs: int, steps: int, done: int) -> None:
        super().__init__(progress.console)
        self.progress, self.epochs = progress, epochs
        self.task = progress.add_task("", total=epochs * steps, completed=done * steps)

    def step(self, epoch: int, loss: float) -> None:
        description = f"epoch {epoch}/{self.epochs}, loss {loss:.4f}"
        self.progress.update(self.task, advance=1, description=description)


@contextmanager
def reporter(shown: bool, epochs: int, steps: int, done: int) -> Generator[Reporter]:
    """On standard error: a bar on a terminal, lines elsewhere, nothing if not ``shown``."""
    console = Console(stderr=True)
    if not shown:
        yield Silent()
    elif not console.is_terminal:
        yield Lines(console)
    else:
        text = TextColumn("{task.description}")
        columns = text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=console) as progress:
            yield Bar(progress, epochs, steps, done)
