"""A module's functions apart: one unit of LLVM IR each, which are compiled on their own.

A unit has the same text wherever the same kernel is used, so that the cache finds it. Functions
call each other across units as hidden symbols: whatever links the objects resolves them, and no
shared object exports them.
"""

from __future__ import annotations

import re
from typing import Any

from uqfc.codegen.garbage import collector_paused

_REFERENCE = re.compile(r'@"([^"]+)"')


@collector_paused()
def split(module: Any) -> list[str]:
    """The units of an llvmlite ``ir.Module``, as text, in the order of its functions.

    Raises ValueError for a global variable: no unit could own it.
    """
    definitions: dict[str, str] = {}
    declarations: dict[str, str] = {}
    for name, value in module.globals.items():
        text = str(value).replace(" internal ", " hidden ", 1)
        if not text.startswith(("define ", "declare ")):
            raise ValueError(f"'{name}' is no function: units share no variables")
        declarations[name] = text
        if text.startswith("define "):
            definitions[name] = text
            declarations[name] = text.replace("define ", "declare ", 1).partition("\n")[0]
    units: list[str] = []
    for name, text in definitions.items():
        used = dict.fromkeys(_REFERENCE.findall(text))
        needed = [declarations[other] for other in used if other != name]
        units.append("\n".join([f'target triple = "{module.triple}"', *needed, text]))
    return units
