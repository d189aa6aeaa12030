"""llvmlite, which has no type annotations, as ``Any``: the one place that imports it."""

from __future__ import annotations

from typing import Any

import llvmlite.binding
import llvmlite.ir

ir: Any = llvmlite.ir
binding: Any = llvmlite.binding
