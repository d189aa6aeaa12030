"""The registry of exporters: one function per op of the IR."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from xdsl.ir import Operation

from uqfc.frontend.uqr.export.graph import Graph

Export = Callable[[Graph, Any], None]
ExportT = TypeVar("ExportT", bound=Export)

EXPORTERS: dict[type[Operation], Export] = {}


def exporter(*ops: type[Operation]) -> Callable[[ExportT], ExportT]:
    """Register a function that appends the nodes of an op and defines its result.

    It raises UnsupportedUseError for what ONNX cannot express; the message needs not name the op.
    """

    def register(function: ExportT) -> ExportT:
        for op in ops:
            EXPORTERS[op] = function
        return function

    return register
