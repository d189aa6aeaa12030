"""All passes by name. The pass ``fold-batch-norm`` is the ``ModulePass`` in ``fold_batch_norm.py``.

Every module here is a pass; what passes share is in the package ``support``. A pass of another
distribution joins through the entry point group ``uqfc.passes`` (name = the pass's name).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pkgutil import iter_modules
from typing import TypeAlias, TypeGuard

from xdsl.passes import ModulePass

ENTRY_POINT_GROUP = "uqfc.passes"

PassFactory: TypeAlias = Callable[[], type[ModulePass]]

__all__ = ["ENTRY_POINT_GROUP", "PassFactory", "all_passes"]


def all_passes() -> dict[str, PassFactory]:
    """Factories by pass name; a pass's module is imported when its factory is called."""
    own = {
        module.name.replace("_", "-"): partial(find_pass, f"{__name__}.{module.name}")
        for module in iter_modules(__path__)
        if not module.ispkg
    }
    plugins = entry_points(group=ENTRY_POINT_GROUP)
    return {**own, **{plugin.name: partial(load_plugin, plugin) for plugin in plugins}}


def is_pass(value: object) -> TypeGuard[type[ModulePass]]:
    return isinstance(value, type) and issubclass(value, ModulePass)


def find_pass(module_name: str) -> type[ModulePass]:
    """The pass that a module is named after; LookupError if it has none."""
    expected = module_name.rpartition(".")[2].replace("_", "-")
    for value in vars(import_module(module_name)).values():
        if is_pass(value) and getattr(value, "name", None) == expected:
            return value
    raise LookupError(f"{module_name} has no pass named '{expected}'")


def load_plugin(plugin: EntryPoint) -> type[ModulePass]:
    """The pass of an entry point; TypeError if it is something else."""
    loaded: object = plugin.load()
    if not is_pass(loaded):
        raise TypeError(f"entry point '{plugin.name}' of {ENTRY_POINT_GROUP} is not a ModulePass")
    return loaded
