"""The journal of a search: every true evaluation, one JSON document a line, from the first on.

The first line says which problem the journal is of, by a document and its SHA-256; a journal of
another problem is refused. Each other line is written by a single append and synchronized, so that
whatever interrupts a search loses at most the line that was being written; such a line is cut off
when the journal is opened again. What a file says is checked before it is believed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from uqfc.cache import key_of
from uqfc.errors import UqfcError

FORMAT = "uqfc-search-journal 1"
MOST_BYTES = 256 << 20
"""Larger files are no journals."""


class Journal:
    """Records by key, kept in a file if there is a path. Raises UqfcError for a file that is of
    another problem, is no journal, or cannot be read or written."""

    def __init__(self, path: str | Path | None, problem: Mapping[str, Any]) -> None:
        self.path = None if path is None else Path(path)
        self.records: dict[str, dict[str, Any]] = {}
        text = json.dumps(problem, sort_keys=True, allow_nan=False)
        self.header = {"format": FORMAT, "problem": problem, "sha256": key_of([text])}
        if self.path is not None:
            self._open(self.path)

    def find(self, key: str) -> dict[str, Any] | None:
        """What was recorded last under a key."""
        return self.records.get(key)

    def add(self, key: str, record: Mapping[str, Any]) -> None:
        """Record, durably if there is a file."""
        self.records[key] = dict(record)
        if self.path is not None:
            self._append(self.path, {"key": key, **record})

    def _open(self, path: Path) -> None:
        try:
            content = path.read_bytes() if path.exists() else b""
        except OSError as error:
            raise UqfcError(f"{path}: cannot be read: {error}") from error
        if len(content) > MOST_BYTES:
            raise UqfcError(f"{path}: no journal of a search: more than {MOST_BYTES} bytes")
        lines = content.split(b"\n")
        whole, rest = lines[:-1], lines[-1]
        if not whole:
            if rest and not json.dumps(self.header).encode().startswith(rest):
                raise UqfcError(f"{path}: no journal of a search; give the name of a new file")
            self._truncate(path, 0)
            self._append(path, self.header)
            return
        self._check(path, self._document(path, 1, whole[0]))
        for number, line in enumerate(whole[1:], 2):
            record = self._document(path, number, line)
            key = record.pop("key", None)
            if not isinstance(key, str):
                raise UqfcError(f"{path}: line {number}: no record of a search")
            self.records[key] = record
        if rest:
            self._truncate(path, len(content) - len(rest))

    def _check(self, path: Path, header: dict[str, Any]) -> None:
        if header.get("format") != FORMAT or not isinstance(header.get("problem"), dict):
            raise UqfcError(f"{path}: no journal of a search; give the name of a new file")
        if header.get("sha256") == self.header["sha256"]:
            return
        theirs = cast("dict[str, Any]", header["problem"])
        ours = cast("dict[str, Any]", self.header["problem"])
        names = sorted(n for n in {*theirs, *ours} if theirs.get(n) != ours.get(n))
        raise UqfcError(
            f"{path}: the journal of another search: it differs in {', '.join(names) or 'format'}; "
            "give the name of a new file"
        )

    def _document(self, path: Path, number: int, line: bytes) -> dict[str, Any]:
        try:
            found: object = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise UqfcError(f"{path}: line {number}: no journal of a search, or damaged")
        return cast("dict[str, Any]", found)

    def _append(self, path: Path, document: Mapping[str, Any]) -> None:
        line = json.dumps(document, allow_nan=False).encode("ascii") + b"\n"
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(descriptor, line)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise UqfcError(f"{path}: cannot be written: {error}") from error

    def _truncate(self, path: Path, size: int) -> None:
        if not path.exists():
            return
        try:
            os.truncate(path, size)
        except OSError as error:
            raise UqfcError(f"{path}: cannot be written: {error}") from error
