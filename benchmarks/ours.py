"""uqfc's own candidates: a workload compiled to a shared object, which the runtime loads."""

from __future__ import annotations

from functools import partial
from pathlib import Path

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
        ).save(path)

    kind = f"uqfc_{strategy}_{target}_{threads}"
    model = uqfc_runtime.load(cached(workload, kind, ".so", make, version=source_digest()))
    feed = {workload.input: workload.sample}
    return partial(model.run, feed, model.run(feed))
