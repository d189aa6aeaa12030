"""What this machine can do at most, measured: multiply-accumulates and bytes read per second.

    python -m benchmarks.limits [--json FILE]

One core. The other tables give their figures as fractions of these.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.measuring import restrict
from uqfc.codegen.isa import isa_for
from uqfc.codegen.limits import KINDS, Limits
from uqfc.targets import host_target

KIBIBYTE = 1024
SIZES = tuple(KIBIBYTE * size for size in (16, 32, 256, 512, 4096, 16384, 131072))
"""Of buffers: in each cache, and in memory."""
INSTRUCTIONS = {"s8": "INT8", "s4": "INT4", "s16": "INT16", "f32": "float32"}
"""What a kind of multiplication is called in tables."""


@cache
def host_limits() -> Limits:
    """Of this machine, with the instructions of its best target."""
    return Limits(isa_for(host_target()))


def peak() -> tuple[str, float]:
    """The fastest multiply-accumulates of one core: their name, and how many a second."""
    measured = {INSTRUCTIONS[kind]: host_limits().macs_per_second(kind) for kind in KINDS}
    return max(measured.items(), key=lambda item: item[1])


def bandwidths(sizes: Iterable[int]) -> dict[int, float]:
    """Bytes a second of one core that reads a buffer again and again, by its bytes."""
    return {size: host_limits().read_bandwidth(size) for size in sizes}


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description="Measured limits of one core.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    a = parser.parse_args()
    restrict(1)
    limits = host_limits()
    macs = {INSTRUCTIONS[kind]: limits.macs_per_second(kind) for kind in KINDS}
    reads = bandwidths(SIZES)
    facts = machine.describe()
    title = f"{machine.one_line(facts)}: {limits.isa.name}"
    table = Table(title=title, title_justify="left", box=None)
    table.add_column("")
    table.add_column("limit", justify="right")
    for name, rate in macs.items():
        table.add_row(f"multiply-accumulates, {name}", f"{rate / 1e9:.0f} GMAC/s")
    for size, rate in reads.items():
        table.add_row(f"reads of {size // KIBIBYTE} KiB", f"{rate / 1e9:.0f} GB/s")
    Console(highlight=False).print(table)
    if a.json is not None:
        found = {"macs_per_second": macs, "read_bytes_per_second": reads}
        document = {"machine": facts, **found}
        a.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
