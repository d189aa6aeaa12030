"""The same small networks are lowered again and again: their code is compiled once."""

from __future__ import annotations

from collections.abc import Generator

import pytest


@pytest.fixture(scope="session", autouse=True)
def shared_objects(tmp_path_factory: pytest.TempPathFactory) -> Generator[None]:
    """A cache of objects for these tests; what is in it is never what a test is about."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UQFC_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield
