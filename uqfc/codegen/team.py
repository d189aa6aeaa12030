"""What the parts of a run do together, as LLVM IR: the barrier, and teams of waiting workers.

``uqf_internal_barrier(sync, parts)``
    returns when all parts have called it. ``sync`` is an i64, 0 at first: its low 16 bits count
    those that have arrived, the rest counts barriers, so that the last one to arrive opens it with
    one store and any number of parts may come next. Polls, and gives its core away when it takes
    long: there may be more parts than cores.
``uqf_internal_work(team, part, parts, weights)``
    a worker: takes part in every run of the team until it ends. Polls for some 0.1 ms, then sleeps.
``uqf_internal_run_team(inputs, outputs, arena, weights, team, parts)``
    a run as part 0, with the workers. While the team is busy with another run, or has ended, the
    caller runs alone.
``uqf_internal_end_team(team)``
    makes the workers return; -3 if the team is busy.

A team is 256 bytes, zero at first. A caller that has the lock writes the addresses of the run and
increments the epoch, which workers poll. A worker that goes to sleep first counts itself and then
looks at the epoch once more, a caller first increments the epoch and then looks at the count: one
of them sees the other.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from uqfc.codegen.isa import Isa
from uqfc.codegen.jit import target_machine
from uqfc.codegen.llvm import binding as llvm

TEAM = ("uqf_internal_run_team", "uqf_internal_work", "uqf_internal_end_team")
"""What a caller in this process needs."""

SYNC_POLLS = 1 << 10
"""Polls of a barrier (30 to 50 µs) before the core is given away."""
IDLE_POLLS = 1 << 12
"""Polls of an idle worker before it sleeps: callers in a loop find it awake."""

# In the first cache line what a run's start reads, in the next what only callers write.
_ENDED, _INPUTS, _OUTPUTS, _ARENA = 4, 8, 16, 24
_SLEEPERS, _BUSY = 64, 68
_SYNC = 128


def team_ir(triple: str) -> str:
    """The functions for a machine; they call ``uqf_internal_run``, which they declare.

    Workers sleep, and busy cores are given away, on Linux on x86-64; elsewhere they only poll.
    """
    architecture, *system = triple.split("-")
    pause = _PAUSE.get(architecture, 'fence syncscope("singlethread") seq_cst')
    linux = architecture == "x86_64" and "linux" in system
    return _system_ir(pause, *(_LINUX_X86_64 if linux else (pause, pause, pause))) + _FUNCTIONS


@cache
def team_object(isa: Isa) -> bytes:
    """The object code of ``team_ir``, with global functions, to be linked in this process."""
    text = team_ir(isa.triple).replace("define hidden", "define")
    module: Any = llvm.parse_assembly(text, context=llvm.create_context())
    module.triple = isa.triple
    return target_machine(isa).emit_object(module)


_PAUSE = {
    "x86_64": "call void @llvm.x86.sse2.pause()",
    "aarch64": "call void @llvm.aarch64.hint(i32 1)",
}
_SYSTEM_CALL = (
    'call i64 asm sideeffect "syscall", "={rax},{rax},{rdi},{rsi},{rdx},{r10},~{rcx},~{r11},'
    '~{memory}"(i64 %s)'
)
_SCHED_YIELD, _FUTEX = 24, 202
_FUTEX_WAIT_PRIVATE, _FUTEX_WAKE_PRIVATE = 128, 129
_LINUX_X86_64 = (
    _SYSTEM_CALL % f"{_SCHED_YIELD}, i64 0, i64 0, i64 0, i64 0",
    _SYSTEM_CALL % f"{_FUTEX}, i64 %address, i64 {_FUTEX_WAIT_PRIVATE}, i64 %seen, i64 0",
    _SYSTEM_CALL % f"{_FUTEX}, i64 %address, i64 {_FUTEX_WAKE_PRIVATE}, i64 {2**31 - 1}, i64 0",
)


def _system_ir(pause: str, give_core_away: str, sleep: str, wake: str) -> str:
    return f"""
declare void @llvm.x86.sse2.pause()
declare void @llvm.aarch64.hint(i32)

define internal void @uqf_pause() nounwind {{
  {pause}
  ret void
}}

define internal void @uqf_give_core_away() nounwind {{
  {give_core_away}
  ret void
}}

define internal void @uqf_sleep(ptr %word, i32 %value) nounwind {{
  %address = ptrtoint ptr %word to i64
  %seen = zext i32 %value to i64
  {sleep}
  ret void
}}

define internal void @uqf_wake_all(ptr %word) nounwind {{
  %address = ptrtoint ptr %word to i64
  {wake}
  ret void
}}
"""


_FUNCTIONS = f"""
declare hidden void @uqf_internal_run(ptr, ptr, ptr, ptr, i64, i64, ptr)

define hidden void @uqf_internal_barrier(ptr %sync, i64 %parts) nounwind {{
entry:
  %before = atomicrmw add ptr %sync, i64 1 acq_rel
  %arrived = and i64 %before, 65535
  %others = sub i64 %parts, 1
  %last = icmp eq i64 %arrived, %others
  br i1 %last, label %open, label %poll
open:
  %full = or i64 %before, 65535
  %next = add i64 %full, 1
  store atomic i64 %next, ptr %sync release, align 8
  ret void
poll:
  %polls = phi i64 [ 0, %entry ], [ %more, %again ]
  %now = load atomic i64, ptr %sync acquire, align 8
  %changed = xor i64 %now, %before
  %closed = icmp ult i64 %changed, 65536
  br i1 %closed, label %wait, label %done
wait:
  %more = add i64 %polls, 1
  %soon = icmp ult i64 %polls, {SYNC_POLLS}
  br i1 %soon, label %pause, label %give_core_away
pause:
  call void @uqf_pause()
  br label %again
give_core_away:
  call void @uqf_give_core_away()
  br label %again
again:
  br label %poll
done:
  ret void
}}

define hidden void @uqf_internal_work(ptr %team, i64 %part, i64 %parts, ptr %weights) nounwind {{
entry:
  %p_ended = getelementptr i8, ptr %team, i64 {_ENDED}
  %p_inputs = getelementptr i8, ptr %team, i64 {_INPUTS}
  %p_outputs = getelementptr i8, ptr %team, i64 {_OUTPUTS}
  %p_arena = getelementptr i8, ptr %team, i64 {_ARENA}
  %sleepers = getelementptr i8, ptr %team, i64 {_SLEEPERS}
  %sync = getelementptr i8, ptr %team, i64 {_SYNC}
  br label %idle
idle:
  %seen = phi i32 [ 0, %entry ], [ %epoch, %run ]
  br label %poll
poll:
  %polls = phi i64 [ 0, %idle ], [ %more, %pause ], [ 0, %awake ]
  %epoch = load atomic i32, ptr %team acquire, align 4
  %called = icmp ne i32 %epoch, %seen
  br i1 %called, label %call, label %wait
wait:
  %more = add i64 %polls, 1
  %soon = icmp ult i64 %polls, {IDLE_POLLS}
  br i1 %soon, label %pause, label %tired
pause:
  call void @uqf_pause()
  br label %poll
tired:
  %count = atomicrmw add ptr %sleepers, i32 1 seq_cst
  br label %asleep
asleep:
  %latest = load atomic i32, ptr %team seq_cst, align 4
  %still = icmp eq i32 %latest, %seen
  br i1 %still, label %sleep, label %awake
sleep:
  call void @uqf_sleep(ptr %team, i32 %seen)
  br label %asleep
awake:
  %left = atomicrmw sub ptr %sleepers, i32 1 seq_cst
  br label %poll
call:
  %ended = load i32, ptr %p_ended
  %is_over = icmp ne i32 %ended, 0
  br i1 %is_over, label %over, label %run
run:
  %inputs = load ptr, ptr %p_inputs
  %outputs = load ptr, ptr %p_outputs
  %arena = load ptr, ptr %p_arena
  call void @uqf_internal_run(ptr %inputs, ptr %outputs, ptr %arena, ptr %weights,
                              i64 %part, i64 %parts, ptr %sync)
  br label %idle
over:
  ret void
}}

define internal void @uqf_call(ptr %team) nounwind {{
  %before = atomicrmw add ptr %team, i32 1 seq_cst
  %p_sleepers = getelementptr i8, ptr %team, i64 {_SLEEPERS}
  %sleepers = load atomic i32, ptr %p_sleepers seq_cst, align 4
  %awake = icmp eq i32 %sleepers, 0
  br i1 %awake, label %done, label %wake
wake:
  call void @uqf_wake_all(ptr %team)
  br label %done
done:
  ret void
}}

define hidden void @uqf_internal_run_team(ptr %inputs, ptr %outputs, ptr %arena, ptr %weights,
                                          ptr %team, i64 %parts) nounwind {{
  %busy = getelementptr i8, ptr %team, i64 {_BUSY}
  %exchange = cmpxchg ptr %busy, i32 0, i32 1 acquire monotonic
  %free = extractvalue {{ i32, i1 }} %exchange, 1
  br i1 %free, label %together, label %alone
together:
  %p_inputs = getelementptr i8, ptr %team, i64 {_INPUTS}
  %p_outputs = getelementptr i8, ptr %team, i64 {_OUTPUTS}
  %p_arena = getelementptr i8, ptr %team, i64 {_ARENA}
  store ptr %inputs, ptr %p_inputs
  store ptr %outputs, ptr %p_outputs
  store ptr %arena, ptr %p_arena
  call void @uqf_call(ptr %team)
  %sync = getelementptr i8, ptr %team, i64 {_SYNC}
  call void @uqf_internal_run(ptr %inputs, ptr %outputs, ptr %arena, ptr %weights,
                              i64 0, i64 %parts, ptr %sync)
  store atomic i32 0, ptr %busy release, align 4
  ret void
alone:
  call void @uqf_internal_run(ptr %inputs, ptr %outputs, ptr %arena, ptr %weights,
                              i64 0, i64 1, ptr null)
  ret void
}}

define hidden i32 @uqf_internal_end_team(ptr %team) nounwind {{
  %busy = getelementptr i8, ptr %team, i64 {_BUSY}
  %exchange = cmpxchg ptr %busy, i32 0, i32 1 acquire monotonic
  %free = extractvalue {{ i32, i1 }} %exchange, 1
  br i1 %free, label %end, label %refuse
end:
  %p_ended = getelementptr i8, ptr %team, i64 {_ENDED}
  store i32 1, ptr %p_ended
  call void @uqf_call(ptr %team)
  ret i32 0
refuse:
  ret i32 -3
}}
"""
