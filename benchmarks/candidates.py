"""What a table compares: calls that can be timed, or the reason why there is none."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Call = Callable[[], object]
"""Runs a workload once, on an input that was prepared before."""

Factory = Callable[[], Call]
"""Loads or compiles; raises whatever its library raises, or ``UnavailableError``."""


class UnavailableError(Exception):
    """A candidate cannot take part; the message is the reason that tables show."""


@dataclass(frozen=True)
class Candidate:
    """``call`` is None where the candidate cannot take part; ``reason`` says why."""

    name: str
    call: Call | None = None
    reason: str = ""


def is_ours(name: str) -> bool:
    """Whether a candidate of that name is uqfc, not a peer."""
    return name.startswith("uqfc")


def ready(name: str, factory: Factory) -> Candidate:
    """The candidate after it ran once; whatever goes wrong becomes its reason."""
    try:
        call = factory()
        call()
    except Exception as error:  # noqa: BLE001 - the errors of the peers have no common base
        return Candidate(name, reason=one_line(error))
    return Candidate(name, call)


def all_ready(factories: Mapping[str, Factory]) -> list[Candidate]:
    """``ready`` of each, in order."""
    return [ready(name, factory) for name, factory in factories.items()]


def need(*modules: str) -> None:
    """Raises UnavailableError if a module is not installed."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise UnavailableError(f"not installed: {', '.join(missing)}")


def one_line(error: Exception, limit: int = 160) -> str:
    """The start of an error's message, fit for a table."""
    text = " ".join(str(error).split()) or type(error).__name__
    prefix = "" if isinstance(error, UnavailableError) else f"{type(error).__name__}: "
    whole = prefix + text
    return whole if len(whole) <= limit else whole[: limit - 1] + "…"
