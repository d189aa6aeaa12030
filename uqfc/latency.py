"""How long a layer takes with weights of a type: measured on the device, kept in a JSON file.

A layer whose geometry was measured takes what was measured. Others are estimated: the relative
errors of ``a * macs + b * bytes + c`` are fitted by least squares, with no coefficient below 0, to
the measured layers of the same op and type, or to those of the same type if there are fewer than
three. Bytes are those of the weights, inputs and result, each counted once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError

from uqfc.calibrate import Progress
from uqfc.calibrated import Calibrated
from uqfc.codegen.artifact import write_atomically
from uqfc.errors import TargetError, UqfcError
from uqfc.layer_facts import LayerFacts
from uqfc.measurements import cpu
from uqfc.targets import Op, Target, WeightDtype, missing_cpu_features

VERSION = "1.0"
RUNS, WARMUP = 200, 20
_MOST_BYTES = 8 << 20
_FEWEST = 3
"""Measured layers of an op and a type that a fit of their own is made of."""
_BITS: Mapping[str, int] = {
    "float32": 32,
    "int8": 8,
    "fp8_e4m3": 8,
    "fp8_e5m2": 8,
    "int4": 4,
    "ternary": 2,
    "binary": 2,
}
"""Of a weight in memory."""

Text = Annotated[str, Field(min_length=1, max_length=1000)]
Count = Annotated[StrictInt, Field(ge=0, le=1 << 60)]
Microseconds = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Floats = NDArray[np.float64]


class LayerLatency(BaseModel):
    """What one kernel was measured to take."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    op: Op
    geometry: Text
    """``LayerFacts.geometry``."""
    dtype: WeightDtype
    macs: Count
    bytes: Count
    microseconds: Microseconds


class LatencyTable(BaseModel):
    """Latencies of layers on one target. ``measure_latencies`` makes it; docs/latency.md."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal["1.0"] = VERSION
    target: Text
    cpu: Text
    """The processor's name."""
    features: tuple[Annotated[str, Field(max_length=64)], ...] = Field(default=(), max_length=64)
    """What the target needs of it."""
    fixed: Annotated[float, Field(ge=-1e12, le=1e12, allow_inf_nan=False)]
    """Microseconds of a call that no layer has: other kernels, and the call itself. Of the network
    that was measured."""
    layers: tuple[LayerLatency, ...] = Field(min_length=1, max_length=100_000)

    def microseconds(self, layer: LayerFacts, dtype: str) -> float:
        """What the layer takes with weights of this type, measured or estimated.

        UqfcError if no layer with weights of this type was measured.
        """
        measured = self._measured.get((layer.geometry, dtype))
        if measured is not None:
            return measured
        a, b, c = self._coefficients(layer.op, dtype)
        return float(a * layer.macs + b * bytes_of(layer, dtype) + c)

    def is_measured(self, layer: LayerFacts, dtype: str) -> bool:
        """Whether ``microseconds`` is no estimate."""
        return (layer.geometry, dtype) in self._measured

    def total(self, layers: Iterable[LayerFacts], bit_widths: Mapping[str, str]) -> float:
        """Microseconds of a call of the network that was measured, with these types by layer."""
        return self.fixed + sum(self.microseconds(x, bit_widths[x.name]) for x in layers)

    def by_layer(self, layers: Iterable[LayerFacts]) -> dict[tuple[str, str], float]:
        """``microseconds`` by layer and type, for the types of which there are measurements."""
        had = {entry.dtype for entry in self.layers}
        return {
            (layer.name, dtype): self.microseconds(layer, dtype)
            for layer in layers
            for dtype in layer.choices
            if dtype in had
        }

    def check(self, target: Target) -> None:
        """UqfcError unless the table is of this target."""
        if self.target != target.name:
            raise UqfcError(f"latency table of target {self.target}, given for {target.name}")

    def save(self, path: str | Path) -> None:
        """Write the JSON file. UqfcError where that cannot be done."""
        write_atomically({Path(path): [self.model_dump_json(indent=1).encode()]})

    @staticmethod
    def load(path: str | Path) -> LatencyTable:
        """Read what ``save`` wrote. UqfcError names the file, and the field that is malformed."""
        try:
            with Path(path).open("rb") as file:
                data = file.read(_MOST_BYTES + 1)
        except (OSError, ValueError) as error:
            raise UqfcError(f"{path}: cannot read the latency table: {error}") from error
        if len(data) > _MOST_BYTES:
            raise UqfcError(f"{path}: a latency table has at most {_MOST_BYTES} bytes")
        try:
            document = json.loads(data.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise UqfcError(f"{path}: not a JSON file: {error}") from error
        return LatencyTable.from_document(document, str(path))

    @staticmethod
    def from_document(document: Any, source: str = "latency table") -> LatencyTable:
        """The table of parsed JSON. UqfcError names ``source`` and every malformed field."""
        try:
            return LatencyTable.model_validate(document)
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=False)[:20]
            fields = [(".".join(map(str, d["loc"])) or "table", d["msg"]) for d in details]
            lines = [f"  {where[:100]!r}: {message}" for where, message in fields]
            raise UqfcError(f"{source}: malformed latency table\n" + "\n".join(lines)) from error

    @cached_property
    def _measured(self) -> dict[tuple[str, str], float]:
        """By geometry and type; the mean of what was measured several times."""
        found: dict[tuple[str, str], list[float]] = {}
        for entry in self.layers:
            found.setdefault((entry.geometry, entry.dtype), []).append(entry.microseconds)
        return {key: float(np.mean(values)) for key, values in found.items()}

    @cached_property
    def _fits(self) -> dict[tuple[str, str], Floats]:
        return {}

    def _coefficients(self, op: str, dtype: str) -> Floats:
        if (op, dtype) not in self._fits:
            of_type = [entry for entry in self.layers if entry.dtype == dtype]
            if not of_type:
                known = ", ".join(sorted({entry.dtype for entry in self.layers}))
                raise UqfcError(
                    f"latency table of {self.target}: no layer with {dtype} weights was measured; "
                    f"measured: {known}"
                )
            same = [entry for entry in of_type if entry.op == op]
            self._fits[op, dtype] = fitted(same if len(same) >= _FEWEST else of_type)
        return self._fits[op, dtype]


def latency_table(given: LatencyTable | str | Path | None) -> LatencyTable | None:
    """The table, read if a file's path was given. UqfcError for anything else."""
    if given is None or isinstance(given, LatencyTable):
        return given
    if not isinstance(given, str | Path):  # pyright: ignore[reportUnnecessaryIsInstance] # user's
        raise UqfcError("latencies: accepted: a LatencyTable, or the path of its JSON file")
    return LatencyTable.load(given)


def fitted(entries: Sequence[LayerLatency]) -> Floats:
    """Floats [3] of MACs, bytes and 1, none below 0, with the least squares of the relative
    errors: the best of the unconstrained solutions on each subset of them that has no sign wrong
    (Lawson and Hanson, Solving Least Squares Problems, ch. 23: the optimum is one of those)."""
    times = np.array([max(entry.microseconds, 1e-9) for entry in entries])
    terms = np.array([[entry.macs, entry.bytes, 1] for entry in entries], np.float64)
    relative = terms / times[:, None]
    scale = np.maximum(relative.max(axis=0), 1e-300)
    best, least = np.zeros(3), np.inf
    for count in (1, 2, 3):
        for chosen in combinations(range(3), count):
            columns: Floats = relative[:, chosen] / scale[list(chosen)]
            solution = np.linalg.lstsq(columns, np.ones(len(times)), rcond=None)[0]
            loss = float(np.square(columns @ solution - 1).sum())
            if (solution >= 0).all() and loss < least:
                best, least = np.zeros(3), loss
                best[list(chosen)] = solution / scale[list(chosen)]
    return best


def bytes_of(layer: LayerFacts, dtype: str) -> int:
    """Weights, inputs and result, each counted once."""
    return layer.activation_bytes + layer.elements * _BITS[dtype] // 8


def measure_latencies(
    calibrated: Calibrated,
    dtypes: Sequence[str] | None = None,
    progress: Progress | None = None,
    *,
    runs: int = RUNS,
    warmup: int = WARMUP,
) -> LatencyTable:
    """Compile the network in each type (default: all that its layers can have), profile it on one
    thread of this machine, and note what each layer takes.

    A layer that cannot have a type keeps its widest one, and is not noted for it. Raises
    TargetError if this machine cannot run the target's code, UqfcError for unknown types.
    """
    require_runnable(calibrated.target)
    known = dict.fromkeys(dtype for layer in calibrated.layers for dtype in layer.choices)
    wanted = list(known) if dtypes is None else list(dtypes)
    unknown = [dtype for dtype in wanted if dtype not in known]
    if unknown or not wanted:
        raise UqfcError(
            f"latency table: no layer can have {', '.join(unknown) or 'no type'} on target "
            f"{calibrated.target.name}; accepted: {', '.join(known)}"
        )
    entries: list[LayerLatency] = []
    rest: list[float] = []
    for done, dtype in enumerate(wanted):
        had = [layer for layer in calibrated.layers if dtype in layer.choices]
        widest = {layer.name: (*layer.choices, "float32")[0] for layer in calibrated.layers}
        compiled = calibrated.compile(widest | {layer.name: dtype for layer in had})
        taken, call = compiled.launch_times(runs=runs, warmup=warmup)
        rest.append(call - sum(taken.get(layer.name, 0.0) for layer in calibrated.layers))
        entries += [entry_of(layer, dtype, taken.get(layer.name, 0.0)) for layer in had]
        if progress is not None:
            progress(f"measured of {len(wanted)} types:", done + 1)
    return LatencyTable(
        target=calibrated.target.name,
        cpu=cpu(),
        features=calibrated.target.cpu_features,
        fixed=float(np.mean(rest)),
        layers=tuple(entries),
    )


def require_runnable(target: Target) -> None:
    """TargetError unless this machine runs its code."""
    missing = missing_cpu_features(target)
    if missing:
        raise TargetError(
            f"target {target.name}: latencies are measured on the device, and this machine lacks: "
            + ", ".join(missing)
        )


def entry_of(layer: LayerFacts, dtype: str, microseconds: float) -> LayerLatency:
    """A line of the table."""
    return LayerLatency.model_validate(
        {
            "op": layer.op,
            "geometry": layer.geometry,
            "dtype": dtype,
            "macs": layer.macs,
            "bytes": bytes_of(layer, dtype),
            "microseconds": microseconds,
        }
    )
