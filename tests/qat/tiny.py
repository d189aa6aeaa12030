"""A small network, its data, and what tests compare of a trained model."""

from __future__ import annotations

import copy
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from uqfc.qat import QatModel, prepare_qat

CLASSES = 3


@contextmanager
def torch_threads(count: int) -> Generator[None]:
    """PyTorch uses that many threads within."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def network(seed: int = 0) -> nn.Module:
    """Two convolutions with batch norms, of images [N, 1, 6, 6], and a classifier."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        nn.BatchNorm2d(6),
        nn.Hardswish(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, CLASSES),
    )


def images(count: int = 48, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise that is brighter the higher the class."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 1, 6, 6, generator=generator)
    y = torch.randint(0, CLASSES, (count,), generator=generator)
    return x + (y.float() - 1).reshape(-1, 1, 1, 1), y


def loader(batch: int = 16, *, shuffle: bool = True, own: bool = False) -> DataLoader[Any]:
    """``own``: it draws from a generator of its own."""
    generator = torch.Generator().manual_seed(5) if own else None
    return DataLoader(TensorDataset(*images()), batch, shuffle=shuffle, generator=generator)


def model(seed: int = 0, **arguments: Any) -> QatModel:
    """Without compiled kernels unless asked for: the bits are the same, and are there sooner."""
    given: dict[str, Any] = {"kernels": False, **arguments}
    return prepare_qat(network(seed), **given)


@cache
def template() -> QatModel:
    """Captured once, which takes most of the time that a small network takes."""
    return model(calibration_data=[images()[0]])


def captured() -> QatModel:
    """A model of its own that was captured and calibrated."""
    return copy.deepcopy(template())


def same_state(a: nn.Module, b: nn.Module) -> bool:
    """Whether all parameters and buffers have the same bits."""
    first, second = a.state_dict(), b.state_dict()
    tensors = [name for name, value in first.items() if isinstance(value, Tensor)]
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in tensors
    )


class Interrupted(Exception):  # noqa: N818 # what a user's Ctrl-C is
    pass


class Interrupting:
    """Batches of a loader up to some number, over all epochs."""

    def __init__(self, batches: Any, most: int) -> None:
        self.batches, self.left = batches, most

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        for batch in self.batches:
            if self.left == 0:
                raise Interrupted
            self.left -= 1
            yield batch

    @property
    def generator(self) -> Any:
        return self.batches.generator
