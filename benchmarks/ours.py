"""uqfc's own candidates: a workload compiled to a shared object, which the runtime loads."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

import uqfc
import uqfc_runtime
from benchmarks.cache import cached, source_digest
from benchmarks.candidates import Call, UnavailableError
from benchmarks.workloads import Workload
from uqfc.targets import load_target, missing_cpu_features


def compiled(
    workload: Workload,
    threads: int,
    strategy: str,
    target: str = "host",
    *,
    of_bytes: bool = False,
) -> Call:
    """A call that writes to the same outputs each time. ``of_bytes``: its input is uint8."""
    missing = missing_cpu_features(load_target(target))
    if missing:
        raise UnavailableError(f"this CPU lacks {', '.join(missing)}")

    def make(workload: Workload, path: Path) -> None:
        data = None if strategy == "float32" else {workload.input: workload.data}
        uqfc.compile(
            workload.model,
            target=target,
            quant_strategy=strategy,
            calibration_data=data,
            calibration_method="minmax",
            shapes={workload.input: workload.shape},
            threads=threads,
            input_types={workload.input: "uint8"} if of_bytes else None,
        ).save(path)

    kind = f"uqfc_{strategy}_{target}_{threads}" + ("_of_bytes" if of_bytes else "")
    model = uqfc_runtime.load(cached(workload, kind, ".so", make, version=source_digest()))
    x = workload.sample
    if of_bytes:
        x = np.random.default_rng(0).integers(0, 256, workload.shape, np.uint8)
    feed = {workload.input: x}
    return partial(model.run, feed, model.run(feed))
