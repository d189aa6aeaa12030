"""``uqfc convert``: between ONNX in QDQ form and UQR."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uqfc.cli.console import say
from uqfc.codegen.artifact import write_atomically
from uqfc.frontend.uqr import Format, convert_uqr


def convert(
    model: Annotated[Path, typer.Argument(help="A quantized ONNX model (QDQ), or a UQR model.")],
    output: Annotated[Path, typer.Argument(help="The file to write.")],
    to: Annotated[
        Format | None, typer.Option(help="What to write; by default what MODEL is not.")
    ] = None,
) -> None:
    """Make a QDQ model a UQR model, or the reverse. A document is added, or taken away."""
    converted = convert_uqr(model, to)
    write_atomically({output: [converted.data]})
    say(f"{output}: {len(converted.data):,} bytes, {converted.format}")
    if converted.lost:
        names = ", ".join(converted.lost)
        say(f"without their narrower ranges, which QDQ cannot say: {names}")
