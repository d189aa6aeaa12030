"""Time and memory from an ONNX file to the first result, on one core, with and without the cache.

    python -m benchmarks.compile_time MODEL.onnx [--strategy int8] [--samples 4] [--runs 3]
        [--json FILE]

Each run is a process of its own, bound to one core: ``cold`` ones have an empty cache, ``warm``
ones that of a run before. A process imports uqfc, compiles and runs once; the model has one input.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Cost:
    """Of compiling and running once; times in seconds, ``peak`` in bytes.

    ``compile`` is the call of ``uqfc.compile``, ``code`` what follows up to the first result: LLVM,
    unless its objects come from the cache. ``elapsed`` is all of the process, with imports, and
    counts what others take from the core; ``cpu`` does not.
    """

    elapsed: float
    cpu: float
    compile: float
    code: float
    peak: int


def measure(
    model: Path, strategy: str, samples: int, shape: str = "", cache: Path | None = None
) -> Cost:
    """Compile and run ``model`` in a new process that is bound to one core.

    ``cache`` is the directory to use as cache; by default there is none. Raises
    subprocess.CalledProcessError if that fails.
    """
    command = [sys.executable, "-m", "benchmarks.compile_time", str(model), "--inside"]
    command += ["--strategy", strategy, "--samples", str(samples), "--shape", shape]
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
    environment["UQFC_CACHE_DIR"] = "" if cache is None else str(cache)
    paths = [str(ROOT), str(ROOT / "runtime"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    started = time.perf_counter()
    done = subprocess.run(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    elapsed = time.perf_counter() - started
    return Cost(elapsed, **json.loads(done.stdout.splitlines()[-1]))


def compile_and_run(model: Path, strategy: str, samples: int, shape: str) -> dict[str, float]:
    """What ``measure`` measures, in this process. Linux only: binds the process to a core."""
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])

    import numpy as np  # noqa: PLC0415 - imports are part of what is measured

    import uqfc  # noqa: PLC0415

    shapes = parsed(shape) if shape else None
    ((name, dimensions),) = (shapes or only_input(model)).items()
    random = np.random.default_rng(0)
    data = random.standard_normal((samples, *dimensions), dtype=np.float32)
    started = time.perf_counter()
    compiled = uqfc.compile(
        model,
        quant_strategy=strategy,
        calibration_data=None if strategy == "float32" else {name: data},
        shapes=shapes,
    )
    returned = time.perf_counter()
    compiled.run({name: data[0]})
    ran = time.perf_counter()
    return {
        "cpu": time.process_time(),
        "compile": returned - started,
        "code": ran - returned,
        "peak": peak_memory(),
    }


def parsed(shape: str) -> dict[str, tuple[int, ...]]:
    """``NAME=1x3x224x224`` as the command line reads it, most of which compiling does without."""
    from uqfc.cli.compile import parse_shape  # noqa: PLC0415 - imports typer and all commands

    return dict([parse_shape(shape)])


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


def compare(
    model: Path, strategy: str, samples: int, shape: str, runs: int
) -> dict[str, list[Cost]]:
    """``runs`` cold and as many warm processes, in turn."""
    costs: dict[str, list[Cost]] = {"cold": [], "warm": []}
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            for of_kind in costs.values():
                cost = measure(model, strategy, samples, shape, Path(folder) / "cache")
                of_kind.append(cost)
    return costs


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Time and memory to the first result.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--strategy", default="int8")
    parser.add_argument("--samples", type=int, default=4, help="calibration samples (default: 4)")
    parser.add_argument("--shape", default="", metavar="NAME=1x3x224x224")
    parser.add_argument("--runs", type=int, default=3, help="processes of each kind (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.inside:
        print(json.dumps(compile_and_run(a.model, a.strategy, a.samples, a.shape)))
        return
    costs = compare(a.model.resolve(), a.strategy, a.samples, a.shape, a.runs)
    for kind, of_kind in costs.items():
        parts = [
            f"{field} {median(getattr(c, field) for c in of_kind):.2f} s"
            for field in ("compile", "code", "elapsed", "cpu")
        ]
        print(f"{kind}: {', '.join(parts)}, {max(c.peak for c in of_kind) / 1e6:.0f} MB")
    if a.json is not None:
        document = {kind: [asdict(c) for c in of_kind] for kind, of_kind in costs.items()}
        a.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
