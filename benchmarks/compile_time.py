"""Time and memory from an ONNX file to the first result, on one core, in a process of its own.

    python -m benchmarks.compile_time MODEL.onnx [--strategy int8] [--samples 4] [--json FILE]

Time runs from before uqfc is imported to the first result; memory is the peak of the process, with
Python and all libraries. The model has one input.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Cost:
    """Of compiling and running once; ``elapsed`` and ``cpu`` in seconds, ``peak`` in bytes.

    ``elapsed`` counts what other processes take from the core, ``cpu`` does not.
    """

    elapsed: float
    cpu: float
    peak: int


def measure(model: Path, strategy: str, samples: int, shape: str = "") -> Cost:
    """Compile and run ``model`` in a new process that is bound to one core.

    Raises subprocess.CalledProcessError if that fails.
    """
    command = [sys.executable, "-m", "benchmarks.compile_time", str(model), "--inside"]
    command += ["--strategy", strategy, "--samples", str(samples), "--shape", shape]
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1")}
    paths = [str(ROOT), str(ROOT / "runtime"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    done = subprocess.run(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def compile_and_run(model: Path, strategy: str, samples: int, shape: str) -> Cost:
    """What ``measure`` measures, in this process. Linux only: binds the process to a core."""
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    started = time.perf_counter()

    import numpy as np  # noqa: PLC0415 - imports are part of what is measured

    import uqfc  # noqa: PLC0415
    from uqfc.cli.compile import parse_shape  # noqa: PLC0415

    shapes = dict([parse_shape(shape)]) if shape else None
    ((name, dimensions),) = (shapes or only_input(model)).items()
    random = np.random.default_rng(0)
    data = random.standard_normal((samples, *dimensions), dtype=np.float32)
    compiled = uqfc.compile(
        model,
        quant_strategy=strategy,
        calibration_data=None if strategy == "float32" else {name: data},
        shapes=shapes,
    )
    compiled.run({name: data[0]})
    elapsed = time.perf_counter() - started
    return Cost(elapsed, time.process_time(), peak_memory())


def peak_memory() -> int:
    """Most resident memory of this process in bytes, from Linux' /proc.

    Not ``ru_maxrss``, which starts from the size of the process that forked this one.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def only_input(model: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of the model's input, with 1 for a dynamic dimension."""
    import onnx  # noqa: PLC0415

    library: Any = onnx  # its stubs name types without their parameters
    graph = library.load(model, load_external_data=False).graph
    constants = {i.name for i in graph.initializer}
    (tensor,) = (i for i in graph.input if i.name not in constants)
    return {tensor.name: tuple(d.dim_value or 1 for d in tensor.type.tensor_type.shape.dim)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Time and memory to the first result.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--strategy", default="int8")
    parser.add_argument("--samples", type=int, default=4, help="calibration samples (default: 4)")
    parser.add_argument("--shape", default="", metavar="NAME=1x3x224x224")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    a = parser.parse_args()
    run = compile_and_run if a.inside else measure
    cost = run(a.model.resolve(), a.strategy, a.samples, a.shape)
    document = json.dumps(asdict(cost))
    print(document)
    if a.json is not None:
        a.json.write_text(document + "\n")


if __name__ == "__main__":
    main()
