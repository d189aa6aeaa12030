"""The exported functions of a model, its info and its weights, as LLVM IR beside the kernels.

The weights are not in the IR: LLVM emits zeros that start with a marker, and ``embed_weights``
puts the bytes there in the object code. That is the cheapest way for blobs of 100 MB and more,
and works for every architecture.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from uqfc_runtime.info import ABI_VERSION

INTERNAL_RUN = "uqf_internal_run"
"""``void (inputs, outputs, arena, weights)``: what the kernels' module defines."""

ARENA_ALIGNMENT = 64
WEIGHTS_SLACK = 64
"""Readable bytes after the weights: kernels load whole vectors."""

_MARKER = hashlib.sha256(b"the weights of a uqfc model").digest()


class Symbols(NamedTuple):
    """Names of the three exported functions."""

    info: str
    abi_version: str
    run: str


SHARED_OBJECT_SYMBOLS = Symbols("uqf_model_info", "uqf_abi_version", "uqf_model_run")


def prefixed_symbols(prefix: str) -> Symbols:
    """The names in an object file: ``prefix`` followed by ``_info``, ``_abi_version``, ``_run``."""
    return Symbols(f"{prefix}_info", f"{prefix}_abi_version", f"{prefix}_run")


def entry_points_ir(symbols: Symbols, info_json: bytes, weights_bytes: int) -> str:
    """LLVM IR that defines ``symbols`` and declares ``uqf_internal_run``.

    ``info_json`` is stored verbatim, with a NUL after it; ``weights_bytes`` are reserved, 64-byte
    aligned, for ``embed_weights``.
    """
    text = "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\{b:02X}" for b in info_json)
    marker = "".join(f"\\{b:02X}" for b in _MARKER)
    rest = max(0, weights_bytes - len(_MARKER)) + WEIGHTS_SLACK
    return f"""
@uqf_info_json = internal constant [{len(info_json) + 1} x i8] c"{text}\\00"
@uqf_weights = internal externally_initialized constant <{{ [{len(_MARKER)} x i8], [{rest} x i8] }}>
  <{{ [{len(_MARKER)} x i8] c"{marker}", [{rest} x i8] zeroinitializer }}>, align 64

declare hidden void @{INTERNAL_RUN}(ptr, ptr, ptr, ptr)

define ptr @{symbols.info}() nounwind {{
  ret ptr @uqf_info_json
}}

define i32 @{symbols.abi_version}() nounwind {{
  ret i32 {ABI_VERSION}
}}

define i32 @{symbols.run}(ptr %inputs, ptr %outputs, ptr %arena) nounwind {{
  %address = ptrtoint ptr %arena to i64
  %misalignment = and i64 %address, {ARENA_ALIGNMENT - 1}
  %aligned = icmp eq i64 %misalignment, 0
  br i1 %aligned, label %run, label %refuse
run:
  call void @{INTERNAL_RUN}(ptr %inputs, ptr %outputs, ptr %arena, ptr @uqf_weights)
  ret i32 0
refuse:
  ret i32 -1
}}
"""


def embed_weights(code: bytes, weights: bytes | memoryview) -> bytearray:
    """Object code with the weights in the place that ``entry_points_ir`` reserved for them.

    Raises ValueError where there is not exactly one such place.
    """
    if code.count(_MARKER) != 1:
        raise ValueError("the object code has no unique place for the weights")
    start = code.index(_MARKER)
    result = bytearray(code)
    result[start : start + len(_MARKER)] = bytes(len(_MARKER))
    result[start : start + len(weights)] = weights
    return result


MEMORY_FUNCTIONS_IR = """
define weak hidden ptr @memcpy(ptr %to, ptr %from, i64 %size) #0 section ".text.memcpy" {
entry:
  %vectors = and i64 %size, -32
  br label %wide
wide:
  %i = phi i64 [ 0, %entry ], [ %i.next, %wide.body ]
  %wide.more = icmp ult i64 %i, %vectors
  br i1 %wide.more, label %wide.body, label %narrow
wide.body:
  %wide.from = getelementptr i8, ptr %from, i64 %i
  %wide.to = getelementptr i8, ptr %to, i64 %i
  %vector = load <32 x i8>, ptr %wide.from, align 1
  store <32 x i8> %vector, ptr %wide.to, align 1
  %i.next = add i64 %i, 32
  br label %wide
narrow:
  %j = phi i64 [ %vectors, %wide ], [ %j.next, %narrow.body ]
  %narrow.more = icmp ult i64 %j, %size
  br i1 %narrow.more, label %narrow.body, label %done
narrow.body:
  %narrow.from = getelementptr i8, ptr %from, i64 %j
  %narrow.to = getelementptr i8, ptr %to, i64 %j
  %byte = load i8, ptr %narrow.from
  store i8 %byte, ptr %narrow.to
  %j.next = add i64 %j, 1
  br label %narrow
done:
  ret ptr %to
}

define weak hidden ptr @memmove(ptr %to, ptr %from, i64 %size) #0 section ".text.memmove" {
entry:
  %upwards = icmp ule ptr %to, %from
  br i1 %upwards, label %forward, label %backward
forward:
  %result = call ptr @memcpy(ptr %to, ptr %from, i64 %size)
  ret ptr %result
backward:
  %left = phi i64 [ %size, %entry ], [ %i, %body ]
  %more = icmp ne i64 %left, 0
  br i1 %more, label %body, label %done
body:
  %i = sub i64 %left, 1
  %source = getelementptr i8, ptr %from, i64 %i
  %target = getelementptr i8, ptr %to, i64 %i
  %byte = load i8, ptr %source
  store i8 %byte, ptr %target
  br label %backward
done:
  ret ptr %to
}

define weak hidden ptr @memset(ptr %to, i32 %value, i64 %size) #0 section ".text.memset" {
entry:
  %byte = trunc i32 %value to i8
  %first = insertelement <32 x i8> poison, i8 %byte, i32 0
  %vector = shufflevector <32 x i8> %first, <32 x i8> poison, <32 x i32> zeroinitializer
  %vectors = and i64 %size, -32
  br label %wide
wide:
  %i = phi i64 [ 0, %entry ], [ %i.next, %wide.body ]
  %wide.more = icmp ult i64 %i, %vectors
  br i1 %wide.more, label %wide.body, label %narrow
wide.body:
  %wide.to = getelementptr i8, ptr %to, i64 %i
  store <32 x i8> %vector, ptr %wide.to, align 1
  %i.next = add i64 %i, 32
  br label %wide
narrow:
  %j = phi i64 [ %vectors, %wide ], [ %j.next, %narrow.body ]
  %narrow.more = icmp ult i64 %j, %size
  br i1 %narrow.more, label %narrow.body, label %done
narrow.body:
  %narrow.to = getelementptr i8, ptr %to, i64 %j
  store i8 %byte, ptr %narrow.to
  %j.next = add i64 %j, 1
  br label %narrow
done:
  ret ptr %to
}

attributes #0 = { nounwind noinline "no-builtins" }
"""
"""Definitions of what LLVM may call behind our back; the linker drops those that nobody calls.

The chunked forward copy is also right for overlapping memory where ``to <= from``.
"""
