"""A cache for tests that compile the same kernels again and again."""

from __future__ import annotations

from uqfc.cache import Cache


class MemoryCache(Cache):
    """Entries in this process, which end with it: nothing that another run compiled is in it."""

    def __init__(self) -> None:
        super().__init__(directory=None)
        self._values: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self._values.get(key)

    def put(self, key: str, value: bytes) -> None:
        self._values[key] = value
