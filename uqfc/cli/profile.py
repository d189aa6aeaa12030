"""``uqfc bench --profile``: what each kernel of a network takes on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqfc.cli.compile import parse_shape
from uqfc.cli.console import print_json, print_table, progress, say
from uqfc.compiler import compile as compile_model
from uqfc.dialects.tensors import numpy_dtype, shape_of, type_of
from uqfc.errors import UqfcError
from uqfc.frontend import import_onnx
from uqfc.interpreter import input_names, main_function
from uqfc.options import QuantStrategy
from uqfc.profile import LaunchProfile, Profile

_SAMPLES = 2
_COLUMNS = ("layer", "op", "kernel", "min µs", "µs", "share", "GMAC/s", "GB/s", "of limit")


def profile_model(
    path: Path,
    *,
    target: str,
    strategy: QuantStrategy,
    calibrate: Path | None,
    shape: Sequence[str],
    runs: int,
    warmup: int,
    as_json: bool,
) -> None:
    """Compile an ONNX model for this machine and print its profile.

    UqfcError for a binary, which has no counters between its kernels.
    """
    if path.suffix != ".onnx":
        raise UqfcError(
            f"{path}: --profile needs the ONNX model, because a binary has no counters between "
            "its kernels; accepted: MODEL.onnx"
        )
    shapes = dict(parse_shape(text) for text in shape)
    data = calibrate
    if data is None and strategy != QuantStrategy.FLOAT32:
        data = random_samples(path, shapes)
    with progress("compile") as report:
        compiled = compile_model(
            path,
            target=target,
            quant_strategy=strategy,
            calibration_data=data,
            calibration_method="minmax" if calibrate is None else "mse",
            shapes=shapes,
            progress=report,
        )
    result = compiled.profile(runs=runs, warmup=warmup)
    if as_json:
        print_json(result.as_dict())
    else:
        show(result)


def random_samples(path: Path, shapes: dict[str, tuple[int, ...]]) -> list[dict[str, NDArray[Any]]]:
    """Inputs to calibrate with where only the time counts: it does not depend on values."""
    random = np.random.default_rng(0)
    function = main_function(import_onnx(path, shapes=shapes))
    inputs = dict(zip(input_names(function), function.body.block.args, strict=True))
    return [
        {
            name: random.standard_normal(shape_of(value)).astype(
                numpy_dtype(type_of(value).get_element_type())
            )
            for name, value in inputs.items()
        }
        for _ in range(_SAMPLES)
    ]


def show(result: Profile) -> None:
    """The table, then what the kernels take together and what is left of a call."""
    total = result.kernels_median_us
    rows = [_row(launch, total) for launch in result.launches]
    print_table(_COLUMNS, rows, title=f"{result.model} for {result.target}", numeric=_COLUMNS[3:])
    macs = sum(launch.macs for launch in result.launches)
    limit = sum(launch.limit_us for launch in result.launches)
    say(
        f"kernels: {total:.1f} µs, {macs / 1e6:.1f} MMAC, {macs / total / 1e3:.1f} GMAC/s, "
        f"{limit / total:.0%} of the limit ({limit:.1f} µs)"
    )
    say(
        f"call from Python: min {result.call.minimum * 1e3:.1f} µs, "
        f"median {result.call.median * 1e3:.1f} µs, of which not in kernels: "
        f"{result.left_over_us:.1f} µs"
    )


def _row(launch: LaunchProfile, total_us: float) -> tuple[object, ...]:
    return (
        launch.layer,
        launch.op,
        launch.kernel,
        f"{launch.minimum_us:.2f}",
        f"{launch.median_us:.2f}",
        f"{launch.median_us / total_us:.1%}",
        f"{launch.gmacs_per_second:.1f}" if launch.macs else None,
        f"{launch.gbytes_per_second:.1f}" if launch.bandwidth_bound else None,
        f"{launch.of_limit:.0%}",
    )
