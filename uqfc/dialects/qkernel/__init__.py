"""Kernels: which compiled function runs, on packed weights, at which place of the arena.

A ``qkernel.launch`` runs one kernel. Its body *is the meaning*: ordinary ``nn``/``qnn`` ops on
tensors that say what the kernel computes, so the interpreter needs to know nothing of kernels.
Packed constants are decoded in the body by ``qkernel.unpack``. Before the memory plan a launch
gives tensors; after it, operands are ``memref`` views of one arena and the result is written into
the ``into`` operand. Views may be parts of larger tensors: then their rows are apart.
"""

from __future__ import annotations

from xdsl.ir import Dialect

from uqfc.dialects.qkernel.launch import LaunchOp, YieldOp, as_tensor, yielded
from uqfc.dialects.qkernel.memory import ALIGNMENT, ArenaOp, ViewOp, memref_bytes
from uqfc.dialects.qkernel.packing import Packing, PackingAttr, UnpackOp

Qkernel = Dialect("qkernel", [ArenaOp, LaunchOp, UnpackOp, ViewOp, YieldOp], [PackingAttr])

__all__ = [
    "ALIGNMENT",
    "ArenaOp",
    "LaunchOp",
    "Packing",
    "PackingAttr",
    "Qkernel",
    "UnpackOp",
    "ViewOp",
    "YieldOp",
    "as_tensor",
    "memref_bytes",
    "yielded",
]
