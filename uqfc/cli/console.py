"""What the commands print. Text from models is shown literally: no markup, no control codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table
from rich.text import Text

_PIPE_WIDTH = 240
"""Columns of a table that is not printed to a terminal: lines of a file are not wrapped."""


def plain(text: str) -> Text:
    """``text`` with what a terminal would obey, rather than show, replaced by ``?``."""
    return Text("".join(c if c.isprintable() or c in "\n\t" else "?" for c in text))


def say(message: str) -> None:
    """Print to stdout."""
    _console().print(plain(message), soft_wrap=True)


def complain(message: str) -> None:
    """Print an error to stderr."""
    Console(stderr=True).print(Text("error: ", style="bold red") + plain(message), soft_wrap=True)


def print_json(value: object) -> None:
    """Print JSON to stdout, indented, in ASCII."""
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False) + "\n")


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    title: str | None = None,
    numeric: Sequence[str] = (),
) -> None:
    """Print a table; ``numeric`` columns are set to the right.

    What is absent or empty is shown as a dash.
    """
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in numeric else "left")
    for row in rows:
        table.add_row(*(plain("-" if cell in (None, "") else str(cell)) for cell in row))
    _console().print(table)


@contextmanager
def progress(title: str) -> Generator[Callable[[str, int], None], None, None]:
    """A spinner on stderr while the block runs, if that is a terminal.

    Gives a function that is called with a stage's name and how many steps of it are done.
    """
    with Console(stderr=True).status(title) as status:
        yield lambda stage, done: status.update(f"{stage} {done}")


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)
