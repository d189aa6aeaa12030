"""Python's collector of cyclic garbage, where it only costs time."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Generator[None]:
    """No collection meanwhile. Also a decorator.

    An LLVM module is a large graph of cycles, all of it in use, which the collector would walk
    through again and again as it grows.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
