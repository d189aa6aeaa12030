"""Layers that a user names, one by one or by patterns (``fnmatch``)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from uqfc.errors import UqfcError


def matches(layer: str, pattern: str) -> bool:
    """A name means itself, too, where it contains characters of patterns."""
    return layer == pattern or fnmatchcase(layer, pattern)


def unknown_layer(name: str, names: Sequence[str]) -> str:
    """Of an error: what was not found, and what is near."""
    near = difflib.get_close_matches(name, names) or names[:20]
    return f"no layer matches '{name}'; nearest: {', '.join(near)}"


def matched(patterns: Iterable[tuple[str, str]], names: Sequence[str]) -> dict[str, str]:
    """The type of each layer that a pattern (``fnmatch``) matches; the first one counts.

    UqfcError for a pattern that matches nothing.
    """
    found: dict[str, str] = {}
    for pattern, dtype in patterns:
        hits = [name for name in names if matches(name, pattern)]
        if not hits:
            raise UqfcError(f"bit_widths: {unknown_layer(pattern, names)}")
        found = dict.fromkeys(hits, dtype) | found
    return found
