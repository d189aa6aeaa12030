"""What every importer does at the end: the ``main`` function around the block that it filled."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Region, SSAValue


def main_function(
    block: Block, results: Sequence[SSAValue], attributes: Mapping[str, Sequence[str]]
) -> ModuleOp:
    """A module with ``func.func @main`` of ``block``, which returns ``results``.

    Ops without a use are erased. ``attributes`` become arrays of strings.
    """
    block.add_op(ReturnOp(*results))
    remove_unused(block)
    signature = ([a.type for a in block.args], [r.type for r in results])
    function = FuncOp("main", signature, Region(block))
    for name, strings in attributes.items():
        function.attributes[name] = ArrayAttr([StringAttr(s) for s in strings])
    return ModuleOp([function])


def hint(name: str) -> str | None:
    """The name in the model as a name in printed IR, where it can be one.

    xDSL drops a number after the last underscore, which must leave something.
    """
    text = "".join(c if c.isalnum() and c.isascii() else "_" for c in name)
    return f"v{text}" if re.match(r"\d|_\d+$", text) else text or None


def remove_unused(block: Block) -> None:
    """Erase ops whose results nobody uses: those that only fed shape arithmetic."""
    for op in reversed(list(block.ops)):
        if op.results and not any(r.uses for r in op.results):
            block.erase_op(op)
