"""Training data as ``finetune`` takes it, and the random numbers that it may draw."""

from __future__ import annotations

import random
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from uqfc.errors import UqfcError


@dataclass(frozen=True)
class Batch:
    """The network's inputs, each with the images in its first dimension, and what it should say."""

    inputs: tuple[Tensor, ...]
    targets: Any

    @property
    def images(self) -> int:
        return len(self.inputs[0])


class Loader:
    """Batches of ``(inputs, targets)``, on a device, again for every epoch.

    UqfcError, by ``name``, for what cannot be iterated twice, gives no batch, or gives another.
    """

    def __init__(self, batches: Iterable[Any], name: str, device: torch.device) -> None:
        if not isinstance(batches, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            kind = type(batches).__name__
            raise UqfcError(f"{name}: {kind}; accepted: an iterable of (inputs, targets)")
        if isinstance(batches, Iterator):
            kind = type(batches).__name__
            raise UqfcError(
                f"{name}: {kind} can be iterated only once; accepted: an iterable that begins "
                "again, as a DataLoader or a list"
            )
        self.batches, self.name, self.device = batches, name, device

    def __iter__(self) -> Iterator[Batch]:
        count = 0
        for count, batch in enumerate(self.batches, start=1):  # noqa: B007 # used after the loop
            yield self.batch(batch)
        if count == 0:
            raise UqfcError(f"{self.name}: no batches")

    def first(self, images: int) -> list[Batch]:
        """The first batches, of so many images together or of all that there are."""
        found: list[Batch] = []
        for batch in self:
            found.append(batch)
            if sum(each.images for each in found) >= images:
                break
        return found

    def count(self) -> int:
        """How many batches an epoch has; they are counted if the loader does not say."""
        if isinstance(self.batches, Sized):
            try:
                return len(self.batches)
            except TypeError:  # a DataLoader of an iterable dataset
                pass
        return sum(1 for _ in self)

    def batch(self, given: Any) -> Batch:
        if not isinstance(given, tuple | list) or len(cast(Sequence[Any], given)) != 2:
            raise UqfcError(
                f"{self.name}: a batch is {described(given)}; accepted: (inputs, targets)"
            )
        first, targets = cast(Sequence[Any], given)
        inputs = tuple(cast(Sequence[Any], first)) if isinstance(first, tuple | list) else (first,)
        if not inputs or not all(isinstance(each, Tensor) and each.ndim for each in inputs):
            raise UqfcError(
                f"{self.name}: inputs of a batch are {described(first)}; accepted: a tensor, or a "
                "tuple of tensors, with a batch dimension"
            )
        on_device = tuple(each.to(self.device) for each in inputs)
        return Batch(on_device, moved(targets, self.device))

    def begin(self, epoch: int) -> None:
        """Tell a distributed sampler which epoch it is."""
        sampler = getattr(self.batches, "sampler", None)
        if hasattr(sampler, "set_epoch"):
            cast(Any, sampler).set_epoch(epoch)

    def state(self) -> Tensor | None:
        """Of the generator that a DataLoader was given, if it was."""
        generator = getattr(self.batches, "generator", None)
        return generator.get_state() if isinstance(generator, torch.Generator) else None

    def set_state(self, state: Tensor | None) -> None:
        generator = getattr(self.batches, "generator", None)
        if state is not None and isinstance(generator, torch.Generator):
            generator.set_state(state)


def described(value: Any) -> str:
    """Of what a value is made, for messages."""
    if isinstance(value, tuple | list):
        parts = ", ".join(type(part).__name__ for part in islice(cast(Sequence[Any], value), 4))
        return f"{type(value).__name__} of {len(cast(Sequence[Any], value))} ({parts})"
    return type(value).__name__


def moved(value: Any, device: torch.device) -> Any:
    """Tensors in tuples, lists and mappings on the device; all else as it is."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, tuple | list):
        return tuple(moved(part, device) for part in cast(Sequence[Any], value))
    if isinstance(value, Mapping):
        parts = cast(Mapping[Any, Any], value)
        return {key: moved(part, device) for key, part in parts.items()}
    return value


@contextmanager
def own_randomness(device: torch.device) -> Generator[None]:
    """Global generators of torch, NumPy and Python are what they were at the end."""
    devices = [device] if device.type == "cuda" else []
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 # datasets use it
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def seed_all(seed: int, epoch: int) -> None:
    """Seed the global generators of torch, NumPy and Python for an epoch."""
    words = np.random.SeedSequence([seed, epoch]).generate_state(3)
    torch.manual_seed(int(words[0]))
    np.random.seed(int(words[1]))  # noqa: NPY002
    random.seed(int(words[2]))
