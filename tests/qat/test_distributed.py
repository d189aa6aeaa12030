"""``DistributedDataParallel``: two processes, gloo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import distributed, nn  # noqa: E402 # after the skip
from torch.nn.parallel import DistributedDataParallel  # noqa: E402

from tests.qat.tiny import images, model, torch_threads  # noqa: E402

if not distributed.is_available():
    pytest.skip("torch was built without torch.distributed", allow_module_level=True)

RANKS, STEPS, HALF = 2, 3, 8


def train(replica: nn.Module, ranks: list[int]) -> None:
    """Steps on the mean loss of the parts of a batch that belong to these ranks, one at a time."""
    x, y = images()
    optimizer = torch.optim.SGD(replica.parameters(), lr=0.05, momentum=0.9)
    replica.train()
    for step in range(STEPS):
        optimizer.zero_grad()
        for rank in ranks:
            start = (step * RANKS + rank) * HALF
            part = slice(start, start + HALF)
            nn.functional.cross_entropy(replica(x[part]), y[part]).backward()
        for parameter in replica.parameters():
            assert parameter.grad is not None
            parameter.grad /= len(ranks)
        optimizer.step()


def calibrated(frozen: bool) -> Any:
    """On the same images in every process: DDP takes only parameters that have a shape."""
    x, _ = images(seed=4)
    qat_model = model(calibration_data=[x])
    qat_model.frozen_statistics = frozen
    return qat_model


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    method = f"file://{folder}/store"
    distributed.init_process_group("gloo", method, rank=rank, world_size=RANKS)
    try:
        for frozen in (False, True):
            qat_model = calibrated(frozen)
            train(DistributedDataParallel(qat_model), [rank])
            torch.save(qat_model.state_dict(), f"{folder}/{frozen}{rank}.pt")
    finally:
        distributed.destroy_process_group()


def test_two_processes_train_one_model(tmp_path: Path) -> None:
    """Parameters stay equal to the bit. With statistics that stay, too, they are those of one
    process that adds up the gradients of both parts: of two numbers the mean has the same bits
    whether they are halved before or after their sum."""
    torch.multiprocessing.spawn(worker, (str(tmp_path),), nprocs=RANKS)
    for frozen in (False, True):
        first, second = (torch.load(tmp_path / f"{frozen}{rank}.pt") for rank in range(RANKS))
        names = [name for name, _ in calibrated(frozen).named_parameters()]
        assert names
        for name in names:
            assert torch.equal(first[name], second[name]), name

    alone = calibrated(True)
    before = {name: parameter.detach().clone() for name, parameter in alone.named_parameters()}
    with torch_threads(1):  # as in the processes: it may change the order of sums
        train(alone, list(range(RANKS)))
    for name, parameter in alone.named_parameters():
        assert torch.equal(first[name], parameter), name
    assert any(not torch.equal(first[name], before[name]) for name in before)
