"""``uqfc verify``: does this machine compute the bits that were recorded?"""

from __future__ import annotations

import typer

import uqfc_runtime
from uqfc.cli.console import say
from uqfc.cli.run import Binary


def verify(binary: Binary) -> None:
    """Compare a binary's bits with those recorded in it. Status 1: they differ."""
    report = uqfc_runtime.verify(binary)
    say(str(report))
    if not report.ok:
        raise typer.Exit(1)
