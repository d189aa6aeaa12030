"""The command ``uqfc``. Exit status: 0 success, 1 a check failed, 2 an error of the user's;
of ``uqfc search`` also 3, no result within the limits, and 130, interrupted."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from uqfc.cli.bench import bench
from uqfc.cli.cache import cache
from uqfc.cli.compile import compile_command
from uqfc.cli.console import complain
from uqfc.cli.convert import convert
from uqfc.cli.inspect import inspect
from uqfc.cli.profile_target import profile_target
from uqfc.cli.run import run
from uqfc.cli.search import search
from uqfc.cli.targets import targets
from uqfc.cli.verify import verify
from uqfc.errors import UqfcError
from uqfc.version import __version__
from uqfc_runtime import UqfRuntimeError

__all__ = ["app", "main"]

app = typer.Typer(
    name="uqfc",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"uqfc {__version__}")
        raise typer.Exit


@app.callback()
def uqfc(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Compile neural networks to small native binaries with INT4 and INT8 arithmetic."""


app.command("compile")(compile_command)
app.command()(convert)
app.command()(run)
app.command()(bench)
app.command()(search)
app.command()(inspect)
app.command()(verify)
app.command()(targets)
app.command()(profile_target)
app.command()(cache)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (default: that of the process); returns the exit status.

    An error that the user can mend is one message on stderr; anything else is a defect of uqfc
    and keeps its traceback.
    """
    atexit.register(gc.freeze)  # when the process ends, nobody needs to look for garbage
    try:
        app(list(sys.argv[1:] if arguments is None else arguments), prog_name="uqfc")
    except (UqfcError, UqfRuntimeError) as error:
        complain(str(error))
        return 2
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0
