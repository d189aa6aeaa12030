"""uqfc's own candidates: a workload compiled to a shared object, which the runtime loads."""

from __future__ import annotations

import inspect
from functools import partial
from pathlib import Path
from typing import Any

import uqfc
import uqfc_runtime
from benchmarks.cache import cached, source_digest
from benchmarks.candidates import Call, UnavailableError
from benchmarks.workloads import Workload
from uqfc.targets import load_target, missing_cpu_features


def compiled(workload: Workload, threads: int, strategy: str, target: str = "host") -> Call:
    """A call that writes to the same outputs each time."""
    missing = missing_cpu_features(load_target(target))
    if missing:
        raise UnavailableError(f"this CPU lacks {', '.join(missing)}")
    has_threads = "threads" in inspect.signature(uqfc.compile).parameters
    if threads > 1 and not has_threads:
        raise UnavailableError("this version runs a call on one thread")
    options: dict[str, Any] = {"threads": threads} if has_threads else {}

    def make(workload: Workload, path: Path) -> None:
        data = None if strategy == "float32" else {workload.input: workload.data}
        uqfc.compile(
            workload.model,
            target=target,
            quant_strategy=strategy,
            calibration_data=data,
            calibration_method="minmax",
            shapes={workload.input: workload.shape},
            **options,
        ).save(path)

    kind = f"uqfc_{strategy}_{target}_{threads}"
    model = uqfc_runtime.load(cached(workload, kind, ".so", make, version=source_digest()))
    feed = {workload.input: workload.sample}
    return partial(model.run, feed, model.run(feed))
