"""A module's functions apart: one unit of LLVM IR each, which are compiled on their own.

A unit has the same text wherever the same kernel is used, so that the cache finds it. Functions
call each other across units as hidden symbols: whatever links the objects resolves them, and no
shared object exports them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from uqfc.codegen.garbage import collector_paused

_REFERENCE = re.compile(r'@"([^"]+)"')


@dataclass(frozen=True)
class ModuleText:
    """A module as text: the declaration or definition of each function, by name.

    ``str`` gives all of it, like that of an llvmlite ``ir.Module``.
    """

    triple: str
    functions: Mapping[str, str] = field(repr=False)

    def __str__(self) -> str:
        return "\n".join([f'target triple = "{self.triple}"', *self.functions.values()])


@collector_paused()
def text_of(module: Any) -> ModuleText:
    """The text of an llvmlite ``ir.Module``. ValueError for a global variable: no unit owns it."""
    functions = {name: str(value) for name, value in module.globals.items()}
    for name, text in functions.items():
        if not text.startswith(("define ", "declare ")):
            raise ValueError(f"'{name}' is no function: units share no variables")
    return ModuleText(module.triple, functions)


def emptied(module: Any) -> ModuleText:
    """``text_of(module)``; its functions lose their instructions.

    They refer to each other in cycles, and are so many that it takes long to find them when they
    are garbage: at the end of the process at the latest.
    """
    text = text_of(module)
    for function in module.globals.values():
        for block in function.blocks:
            for instruction in block.instructions:
                getattr(instruction, "incomings", []).clear()
            block.instructions.clear()
        function.blocks.clear()
    return text


def split(module: ModuleText | Any) -> list[str]:
    """The units of a module, an llvmlite ``ir.Module`` or its text, in the order of its functions.

    Raises ValueError for a global variable: no unit could own it.
    """
    text = module if isinstance(module, ModuleText) else text_of(module)
    shared = {
        name: each.replace(" internal ", " hidden ", 1) for name, each in text.functions.items()
    }
    declarations = {
        name: each.replace("define ", "declare ", 1).partition("\n")[0]
        if each.startswith("define ")
        else each
        for name, each in shared.items()
    }
    units: list[str] = []
    for name, each in shared.items():
        if each.startswith("define "):
            used = dict.fromkeys(_REFERENCE.findall(each))
            needed = [declarations[other] for other in used if other != name]
            units.append("\n".join([f'target triple = "{text.triple}"', *needed, each]))
    return units
