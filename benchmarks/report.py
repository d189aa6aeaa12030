"""What a table found: rows, ratios, fractions of the limits, and the JSON document."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.candidates import Candidate, is_ours
from benchmarks.measuring import Measured, is_busy
from uqfc.timing import Latency

SCHEMA = 1
"""Of the JSON document; raised when a field changes its meaning."""


@dataclass(frozen=True)
class Row:
    """A candidate's latency, or why it has none.

    ``latency`` is that of the steady state; ``cold`` the median in milliseconds call by call, with
    caches that the other candidates filled, if that was measured. ``interrupted`` is the share of
    the calls during which the system ran other processes; they are not in ``latency``.
    """

    candidate: str
    latency: Latency | None
    reason: str = ""
    cold: float | None = None
    interrupted: float = 0.0

    @property
    def is_ours(self) -> bool:
        return is_ours(self.candidate)


@dataclass(frozen=True)
class Result:
    """One workload's rows."""

    workload: str
    macs: int
    rows: tuple[Row, ...]
    bytes_read: int = 0
    """Of weights, where these bound the time (one row of activations); else 0."""

    def best_peer(self) -> Row | None:
        """The peer of the smallest median, whatever its precision."""
        return fastest(row for row in self.rows if not row.is_ours)

    def ours(self) -> list[Row]:
        """Our rows that were measured."""
        return [row for row in self.rows if row.is_ours and row.latency is not None]

    def ratios(self) -> dict[str, dict[str, float]]:
        """For each of ours, each peer's median by ours: above 1 is faster than that peer."""
        peers = [row for row in self.rows if not row.is_ours and row.latency is not None]
        return {
            mine.candidate: {peer.candidate: ratio(peer, mine) for peer in peers}
            for mine in self.ours()
        }


@dataclass(frozen=True)
class Report:
    """A whole table. ``peak`` is in multiply-accumulates a second, ``bandwidth`` in bytes."""

    title: str
    threads: int
    results: tuple[Result, ...]
    peak: float = 0.0
    peak_name: str = ""
    bandwidth: Mapping[str, float] = field(default_factory=dict[str, float])
    """Measured for the bytes that a workload reads, by workload."""
    load: float = 0.0
    """The highest load average while it was measured."""
    machine: Mapping[str, Any] = field(default_factory=machine.describe)

    @property
    def preliminary(self) -> bool:
        """Whether the machine had other things to do."""
        return is_busy(self.load, self.threads)


def result(
    workload: str,
    macs: int,
    candidates: Iterable[Candidate],
    measured: Mapping[str, Measured],
    cold: Mapping[str, Latency],
) -> Result:
    """Candidates and what was measured of them; those without a latency keep their reason."""
    rows: list[Row] = []
    for candidate in candidates:
        name = candidate.name
        if name in measured:
            one, median_cold = measured[name], cold[name].median if name in cold else None
            rows.append(Row(name, one.latency, cold=median_cold, interrupted=one.interrupted))
        else:
            rows.append(Row(name, None, candidate.reason))
    return Result(workload, macs, tuple(rows))


def fastest(rows: Iterable[Row]) -> Row | None:
    """Of those that were measured, the one of the smallest median."""
    measured = [row for row in rows if row.latency is not None]
    return min(measured, key=median, default=None)


def pick(one: Result, names: Sequence[str]) -> Row | None:
    """The fastest of the candidates of these names."""
    return fastest(row for row in one.rows if row.candidate in names)


def median(row: Row) -> float:
    """In milliseconds. The row has a latency."""
    assert row.latency is not None
    return row.latency.median


def ratio(peer: Row, mine: Row) -> float:
    """How many times as fast as the peer. Both have a latency."""
    return median(peer) / median(mine)


def fraction(report: Report, one: Result, row: Row) -> float | None:
    """Of what bounds the workload: bandwidth where weights are read once, else multiplications."""
    if row.latency is None:
        return None
    seconds = row.latency.median / 1e3
    if one.bytes_read:
        limit = report.bandwidth.get(one.workload)
        return one.bytes_read / seconds / limit if limit else None
    return one.macs / seconds / report.peak if report.peak else None


def document(report: Report) -> dict[str, Any]:
    """All figures, with the machine and the versions that they belong to."""
    return {
        "schema": SCHEMA,
        "title": report.title,
        "threads": report.threads,
        "preliminary": report.preliminary,
        "load": report.load,
        "machine": dict(report.machine),
        "peak": {"name": report.peak_name, "macs_per_second": report.peak},
        "workloads": [workload_document(report, one) for one in report.results],
    }


def workload_document(report: Report, one: Result) -> dict[str, Any]:
    """One workload's part of the document."""
    best = one.best_peer()
    return {
        "name": one.workload,
        "macs": one.macs,
        "bytes_read": one.bytes_read,
        "read_bandwidth": report.bandwidth.get(one.workload),
        "best_peer": None if best is None else best.candidate,
        "candidates": [
            {
                "name": row.candidate,
                "milliseconds": None if row.latency is None else asdict(row.latency),
                "cold_median_milliseconds": row.cold,
                "interrupted": row.interrupted,
                "not_available": row.reason or None,
                "fraction_of_limit": fraction(report, one, row),
            }
            for row in one.rows
        ],
        "times_as_fast_as": one.ratios(),
        "times_as_fast_as_best_peer": {
            mine.candidate: ratio(best, mine) for mine in one.ours() if best is not None
        },
    }


def write_json(report: Report, path: Path) -> None:
    """Write the document."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document(report), indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> Report:
    """The report that ``write_json`` wrote. ValueError for a document of another schema."""
    loaded = json.loads(path.read_text(encoding="utf-8"))
    if loaded["schema"] != SCHEMA:
        raise ValueError(f"{path}: schema {loaded['schema']}; this version reads {SCHEMA}")
    results: list[Result] = []
    for one in loaded["workloads"]:
        rows = [
            Row(
                row["name"],
                None if row["milliseconds"] is None else Latency(**row["milliseconds"]),
                row["not_available"] or "",
                row["cold_median_milliseconds"],
                row["interrupted"],
            )
            for row in one["candidates"]
        ]
        results.append(Result(one["name"], one["macs"], tuple(rows), one["bytes_read"]))
    return Report(
        loaded["title"],
        loaded["threads"],
        tuple(results),
        peak=loaded["peak"]["macs_per_second"],
        peak_name=loaded["peak"]["name"],
        bandwidth={w["name"]: w["read_bandwidth"] for w in loaded["workloads"] if w["bytes_read"]},
        load=loaded["load"],
        machine=loaded["machine"],
    )
