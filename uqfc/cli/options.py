"""Options that several commands have, with one meaning and one text."""

from __future__ import annotations

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TargetName = Annotated[str, typer.Option(help="A name of `uqfc targets`, `host`, or a FILE.toml.")]
Shapes = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=1x3x224x224",
        help="Shape of an input that has dynamic dimensions; repeatable.",
    ),
]
UseCache = Annotated[bool, typer.Option("--cache/--no-cache", help="Use what was compiled before.")]
