"""Runs the ``// RUN: uqfc-opt %s … | filecheck %s`` lines of ``tests/filecheck/**/*.mlir``.

Both commands run in this process. A command that ends a line with ``2>&1`` has its stderr checked
too, and may fail.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from filecheck.matcher import Matcher
from filecheck.options import Options

from uqfc.opt import main

ROOT = Path(__file__).parent / "filecheck"
FILES = sorted(ROOT.rglob("*.mlir"))


def run_lines(path: Path) -> list[str]:
    """What follows ``// RUN:`` in a file, lines that end in a backslash joined."""
    lines = [line.partition("// RUN:")[2] for line in path.read_text().splitlines()]
    joined = "\n".join(line.strip() for line in lines if line.strip())
    return joined.replace("\\\n", " ").splitlines()


def run_opt(command: str, path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The output of one ``uqfc-opt`` command."""
    tool, *arguments = shlex.split(command.replace("%s", str(path)))
    assert tool == "uqfc-opt"
    both = arguments[-1:] == ["2>&1"]
    status = 0
    capsys.readouterr()
    try:
        main(arguments[:-1] if both else arguments)
    except SystemExit as end:
        status = int(end.code or 0)
    output = capsys.readouterr()
    assert both or status == 0, output.err
    return output.out + (output.err if both else "")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_filecheck(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands = run_lines(path)
    assert commands, f"{path} has no RUN line"
    for i, command in enumerate(commands):
        left, _, right = command.rpartition("|")
        checker, target, *options = shlex.split(right)
        assert (checker, target) == ("filecheck", "%s")
        prefix = options[options.index("--check-prefix") + 1] if options else "CHECK"
        output = tmp_path / f"{i}.txt"
        output.write_text(run_opt(left, path, capsys).replace(str(path), path.name))
        matcher = Matcher.from_opts(Options(str(path), str(output), check_prefixes=[prefix]))
        assert matcher.run() == 0, capsys.readouterr().err


def test_some_files_are_found() -> None:
    assert len(FILES) > 10
