"""``uqfc cache``: where compiled kernels are kept, how many there are, how to be rid of them."""

from __future__ import annotations

from typing import Annotated

import typer

from uqfc.cache import Cache
from uqfc.cli.console import print_json, say
from uqfc.cli.options import AsJson


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove all entries.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show, or clear, the cache on disk."""
    store = Cache()
    if clear:
        store.clear()
    usage = store.usage()
    where = None if store.directory is None else str(store.directory)
    if as_json:
        print_json({"directory": where, "limit": store.limit, **usage._asdict()})
        return
    if where is None:
        say("there is no cache: UQFC_CACHE_DIR is empty")
        return
    say(f"{where}: {usage.entries} entries, {usage.size:,} of {store.limit:,} bytes")
