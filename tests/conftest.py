"""Hypothesis profiles, chosen by UQFC_HYPOTHESIS_PROFILE: dev (default), ci or nightly."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.vendor.pretty import RepresentationPrinter
from xdsl.ir import Attribute, Operation

os.environ["UQFC_CACHE_DIR"] = ""  # what a test compiles, it compiles

_MOST_TEXT = 10_000


def pretty(value: Operation | Attribute, printer: RepresentationPrinter, cycle: bool) -> None:
    """IR as text. Hypothesis would follow every reference of an op, which takes minutes."""
    del cycle
    text = str(value)
    printer.text(text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]} ...")


for kind in (Operation, Attribute):
    setattr(kind, "_repr_pretty_", pretty)  # noqa: B010 # a new attribute

# Compiling a kernel takes a different time on each machine: a deadline would only be flaky.
_SLOW = (HealthCheck.too_slow,)
_EXAMPLES = 100

settings.register_profile("dev", deadline=None, max_examples=_EXAMPLES, suppress_health_check=_SLOW)
settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,  # the same examples every time: a red run is the change's own fault
    max_examples=_EXAMPLES,
    print_blob=True,
    suppress_health_check=_SLOW,
)
settings.register_profile(
    "nightly",
    deadline=None,
    max_examples=100 * _EXAMPLES,
    print_blob=True,
    suppress_health_check=_SLOW,
)

_NIGHTLY = "nightly"
_INSIDE = "_hypothesis_internal_use_settings"
"""Where a property-based test keeps the settings that were written above it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Nightly, tests that state a number of examples of their own run 100 times as many, too."""
    if PROFILE != _NIGHTLY:
        return
    tests: set[Any] = {getattr(item, "obj", None) for item in items}
    for test in tests:
        function = getattr(test, "__func__", test)
        own: settings | None = getattr(function, _INSIDE, None)
        if own is not None and own.max_examples < 100 * _EXAMPLES:
            setattr(function, _INSIDE, settings(own, max_examples=100 * own.max_examples))


_default = "ci" if os.environ.get("CI") == "true" else "dev"
PROFILE = os.environ.get("UQFC_HYPOTHESIS_PROFILE", _default)
settings.load_profile(PROFILE)
