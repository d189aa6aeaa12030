"""What generated code depends on beside its input: the source of this package, and LLVM."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from uqfc.codegen.llvm import binding as llvm


@cache
def fingerprint() -> str:
    """SHA-256 (hex) of every source file of ``uqfc.codegen`` and of LLVM's version."""
    root = Path(__file__).parent
    digest = hashlib.sha256(repr(llvm.llvm_version_info).encode())
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0")
        digest.update(path.read_bytes())
    return digest.hexdigest()
