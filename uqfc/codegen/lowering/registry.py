"""From the meaning of a launch to the kernel that computes it.

A *lowering* is registered for the type of the op whose value a launch yields. It looks at the
launch and gives a ``Choice``: the kernel's name, its scratch memory, how constants are laid out,
and a function that emits the call. Where several kernels can do it, it gives one for each, with
names that differ: ``select-kernels`` takes one, and from then on the launch's kernel name says
which it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from numpy.typing import NDArray
from xdsl.ir import BlockArgument, Operation, SSAValue

from uqfc.codegen.builder import Builder
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.tensor import TensorKernel
from uqfc.codegen.parts import Part
from uqfc.codegen.vector import Pointer
from uqfc.dialects.nn import ConstantOp, layer_name
from uqfc.dialects.qkernel import LaunchOp, UnpackOp, yielded
from uqfc.errors import UnsupportedError, UnsupportedNode

Array: TypeAlias = NDArray[Any]
EmitCall: TypeAlias = Callable[
    [Builder, Sequence[Pointer], Pointer, Pointer | None, Part | None], None
]
"""``emit(builder, operand pointers, result, scratch, part)``: one part's share, or all of it."""
Layout: TypeAlias = Callable[[Array], Array]
RESULT = -1
"""In the place of an operand's index: the result."""


@dataclass(frozen=True)
class Choice:
    """A kernel that can compute one launch.

    ``scratch_bytes``: what each part needs. ``splits``: ``emit_call`` can compute a part.
    ``layouts``: how the constant operand of that index is stored, where not as it is.
    ``problem``: all that the time of this kernel and its alternatives depends on, except
    the ``int16_steps`` of AVX2 tiles: layers that differ only in weights share one measurement.
    ``estimate``: cycles by the cost model, to compare with those of alternatives.
    ``pitched``: operands, and ``RESULT``, whose rows may be any distance apart.
    """

    name: str
    emit_call: EmitCall
    scratch_bytes: int = 0
    splits: bool = False
    layouts: Mapping[int, Layout] = field(default_factory=dict[int, Layout])
    problem: str = ""
    estimate: float = 0.0
    pitched: frozenset[int] = frozenset()


def choice_of(kernel: TensorKernel, places: Sequence[int], pitched: Iterable[int] = ()) -> Choice:
    """A kernel whose inputs are these operands of the launch; ``pitched`` as in ``Choice``."""

    def emit_call(
        b: Builder,
        operands: Sequence[Pointer],
        out: Pointer,
        scratch: Pointer | None,
        part: Part | None,
    ) -> None:
        inputs = [operands[i] for i in places]
        if part is None:
            kernel.call(b, inputs, out, scratch)
        else:
            kernel.call_part(b, inputs, out, scratch, part)

    splits, scratch = kernel.splits, kernel.scratch_bytes
    return Choice(kernel.name, emit_call, scratch, splits, pitched=frozenset(pitched))


Lowering: TypeAlias = Callable[[LaunchOp, Any, Isa], Choice | Sequence[Choice]]

LOWERINGS: dict[type[Operation], Lowering] = {}

F = TypeVar("F", bound=Lowering)


def lowering(*op_types: type[Operation]) -> Callable[[F], F]:
    """Register ``f(launch, op, isa)`` for launches that yield the value of such an op.

    It gives a ``Choice``, or some with different names.
    """

    def register(function: F) -> F:
        for op_type in op_types:
            LOWERINGS[op_type] = function
        return function

    return register


def alternatives(launch: LaunchOp, isa: Isa) -> Sequence[Choice]:
    """All kernels for a launch, one at least; of equal estimates the first is preferred.

    UnsupportedError if there is none.
    """
    op = yielded(launch.body).owner
    found = LOWERINGS.get(type(op)) if isinstance(op, Operation) else None
    if found is None or not isinstance(op, Operation):
        name = op.name if isinstance(op, Operation) else "block argument"
        raise no_kernel(launch, name, isa, "no kernel computes this op")
    choices = found(launch, op, isa)
    return [choices] if isinstance(choices, Choice) else choices


def choose(launch: LaunchOp, isa: Isa) -> Choice:
    """The kernel that was selected for a launch, or else the fastest by the cost model.

    UnsupportedError if there is none, ValueError if the selected one cannot compute it.
    """
    choices = alternatives(launch, isa)
    if not launch.kernel_name:
        return min(choices, key=lambda choice: choice.estimate)
    for choice in choices:
        if choice.name == launch.kernel_name:
            return choice
    names = ", ".join(choice.name for choice in choices)
    raise ValueError(f"'{launch.kernel_name}' was selected, but the kernels here are: {names}")


def no_kernel(launch: LaunchOp, op: str, isa: Isa, why: str) -> UnsupportedError:
    return UnsupportedError([UnsupportedNode(layer_name(launch), op, why)], f"target {isa.name}")


def operand_index(value: SSAValue) -> int:
    """Which operand of the launch a value of its body is (packed weights: the packed operand)."""
    if isinstance(value.owner, UnpackOp):
        value = value.owner.packed
    if not isinstance(value, BlockArgument):
        raise ValueError(f"{value} is not an operand of the kernel")
    return value.index


def constant_operand(launch: LaunchOp, value: SSAValue) -> Array | None:
    """The constant that a value of the body is, if it is one."""
    if isinstance(value.owner, ConstantOp):
        return value.owner.array
    owner = launch.inputs[operand_index(value)].owner
    return owner.array if isinstance(owner, ConstantOp) else None
