"""The exported functions of a model, its info and its weights, as LLVM IR beside the kernels.

The weights are not in the IR: LLVM emits zeros that start with a marker, and ``embed_weights``
puts the bytes there in the object code. That is the cheapest way for blobs of 100 MB and more,
and works for every architecture.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from uqfc.codegen.team import team_ir
from uqfc_runtime.info import ABI_VERSION

ALIGNMENT = 64
"""Of the arena, of a team and of a barrier."""
WEIGHTS_SLACK = 64
"""Readable bytes after the weights: kernels load whole vectors."""

_MARKER = hashlib.sha256(b"the weights of a uqfc model").digest()


class Symbols(NamedTuple):
    """Names of the exported functions."""

    info: str
    abi_version: str
    run: str
    run_part: str
    work: str
    run_team: str
    end_team: str


def prefixed_symbols(prefix: str) -> Symbols:
    """The names in an object file: ``prefix`` followed by ``_info``, ``_run``, …"""
    return Symbols(*(f"{prefix}_{name}" for name in Symbols._fields))


SHARED_OBJECT_SYMBOLS = prefixed_symbols("uqf_model")._replace(abi_version="uqf_abi_version")


def entry_points_ir(
    symbols: Symbols, info_json: bytes, weights_bytes: int, threads: int, triple: str
) -> str:
    """LLVM IR that defines ``symbols``, for at most ``threads`` parts; declares the model's run.

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

define ptr @{symbols.info}() nounwind {{
  ret ptr @uqf_info_json
}}

define i32 @{symbols.abi_version}() nounwind {{
  ret i32 {ABI_VERSION}
}}

define i32 @{symbols.run}(ptr %inputs, ptr %outputs, ptr %arena) nounwind {{
  %status = call i32 @{symbols.run_part}(ptr %inputs, ptr %outputs, ptr %arena,
                                         ptr null, i32 0, i32 1)
  ret i32 %status
}}

define i32 @{symbols.run_part}(ptr %inputs, ptr %outputs, ptr %arena,
                               ptr %sync, i32 %part, i32 %parts) nounwind {{
  %status = call i32 @uqf_refusal(ptr %arena, ptr %sync, i32 %part, i32 %parts)
  %accepted = icmp eq i32 %status, 0
  br i1 %accepted, label %run, label %refuse
run:
  %number = zext i32 %part to i64
  %count = zext i32 %parts to i64
  call void @uqf_internal_run(ptr %inputs, ptr %outputs, ptr %arena, ptr @uqf_weights,
                              i64 %number, i64 %count, ptr %sync)
  ret i32 0
refuse:
  ret i32 %status
}}

define i32 @{symbols.work}(ptr %team, i32 %part, i32 %parts) nounwind {{
  %status = call i32 @uqf_refusal(ptr null, ptr %team, i32 %part, i32 %parts)
  %accepted = icmp eq i32 %status, 0
  br i1 %accepted, label %work, label %refuse
work:
  %number = zext i32 %part to i64
  %count = zext i32 %parts to i64
  call void @uqf_internal_work(ptr %team, i64 %number, i64 %count, ptr @uqf_weights)
  ret i32 0
refuse:
  ret i32 %status
}}

define i32 @{symbols.run_team}(ptr %inputs, ptr %outputs, ptr %arena,
                               ptr %team, i32 %parts) nounwind {{
  %status = call i32 @uqf_refusal(ptr %arena, ptr %team, i32 0, i32 %parts)
  %accepted = icmp eq i32 %status, 0
  br i1 %accepted, label %run, label %refuse
run:
  %count = zext i32 %parts to i64
  call void @uqf_internal_run_team(ptr %inputs, ptr %outputs, ptr %arena, ptr @uqf_weights,
                                   ptr %team, i64 %count)
  ret i32 0
refuse:
  ret i32 %status
}}

define i32 @{symbols.end_team}(ptr %team) nounwind {{
  %status = call i32 @uqf_internal_end_team(ptr %team)
  ret i32 %status
}}

define internal i32 @uqf_refusal(ptr %arena, ptr %shared, i32 %part, i32 %parts) nounwind {{
  %first = ptrtoint ptr %arena to i64
  %second = ptrtoint ptr %shared to i64
  %both = or i64 %first, %second
  %misalignment = and i64 %both, {ALIGNMENT - 1}
  %aligned = icmp eq i64 %misalignment, 0
  %some = icmp ult i32 %part, %parts
  %few = icmp ule i32 %parts, {threads}
  %possible = and i1 %some, %few
  %why = select i1 %aligned, i32 -2, i32 -1
  %accepted = and i1 %aligned, %possible
  %status = select i1 %accepted, i32 0, i32 %why
  ret i32 %status
}}
{team_ir(triple)}"""


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
