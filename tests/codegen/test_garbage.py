"""The collector of cyclic garbage is afterwards as it was before."""

from __future__ import annotations

import gc

import pytest

from uqfc.codegen.garbage import collector_paused


@collector_paused()
def failing() -> None:
    assert not gc.isenabled()
    raise ValueError("in between")


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_rests_and_is_as_it_was(enabled: bool) -> None:
    was_enabled = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with pytest.raises(ValueError, match="in between"):
            failing()
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if was_enabled else gc.disable)()


def test_calls_may_be_nested() -> None:
    @collector_paused()
    def depth(rest: int) -> int:
        assert not gc.isenabled()
        return 1 + depth(rest - 1) if rest else 0

    assert depth(3) == 3
    assert gc.isenabled()
