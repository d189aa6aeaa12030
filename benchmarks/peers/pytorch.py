"""torch: eager, and compiled by its default backend."""

from __future__ import annotations

import os
from typing import Any

from benchmarks.cache import cache_directory
from benchmarks.candidates import Call, UnavailableError, need
from benchmarks.workloads import Workload
from tests.models.catalog import TORCHVISION_NAMES


def eager(workload: Workload, threads: int) -> Call:
    """The torchvision network, as it is."""
    return run(module_of(workload), workload, threads)


def compiled(workload: Workload, threads: int) -> Call:
    """The torchvision network through ``torch.compile``; needs a C++ compiler."""
    module = module_of(workload)
    import torch  # noqa: PLC0415 - optional

    return run(torch.compile(module), workload, threads)


def module_of(workload: Workload) -> Any:
    """The network that was exported as the workload's model."""
    need("torch", "torchvision")
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_directory() / "inductor"))
    if workload.name not in TORCHVISION_NAMES:
        raise UnavailableError("there is no torch module of this network")
    from tests.models.torchvision_models import build  # noqa: PLC0415 - needs torch

    return build(workload.name)


def run(module: Any, workload: Workload, threads: int) -> Call:
    """A call in inference mode; the input shares the workload's memory."""
    import torch  # noqa: PLC0415 - optional

    torch.set_num_threads(threads)
    image = torch.from_numpy(workload.sample)

    def call() -> object:
        with torch.inference_mode():
            return module(image)

    return call
