"""Hypothesis profiles, chosen by UQFC_HYPOTHESIS_PROFILE: dev (default), ci or nightly."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings
from hypothesis.vendor.pretty import RepresentationPrinter
from xdsl.ir import Attribute, Operation

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

_default = "ci" if os.environ.get("CI") == "true" else "dev"
settings.load_profile(os.environ.get("UQFC_HYPOTHESIS_PROFILE", _default))
