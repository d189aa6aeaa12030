"""Modules that have no converters, as opaque calls: for training, which can leave them to PyTorch.

While a program is captured, stand-ins take the place of what such modules compute: each result of a
call is a call of the custom op ``uqfc::opaque``, which is imported as ``opaque.call``.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.utils import _pytree as pytree
from xdsl.ir import SSAValue

from uqfc.dialects.opaque import CallOp
from uqfc.dialects.tensors import Shape
from uqfc.errors import UqfcError
from uqfc.frontend.builder import Builder
from uqfc.frontend.torch.program import arguments_of
from uqfc.frontend.values import Value

SCHEMA = "(Tensor[] inputs, str path, int call, int index, int[] shape) -> Tensor"
HOOKS = ("_forward_pre_hooks", "_forward_hooks")


@torch.library.custom_op("uqfc::opaque", mutates_args=(), schema=SCHEMA)
def opaque(inputs: list[Tensor], path: str, call: int, index: int, shape: list[int]) -> Tensor:
    """A result of the module at ``path``: a name in captured programs, which is never run."""
    raise NotImplementedError(f"'{path}' is known by name only")


@opaque.register_fake
def _(inputs: list[Tensor], path: str, call: int, index: int, shape: list[int]) -> Tensor:
    return inputs[0].new_empty(shape, dtype=torch.float32)


def is_opaque(node: Node) -> bool:
    """Whether the node calls ``uqfc::opaque``."""
    target: Any = node.target
    return getattr(target, "_opoverload", target) is torch.ops.uqfc.opaque.default


def imported(node: Node, inputs: Sequence[Value], builder: Builder) -> SSAValue:
    """The op for a call of ``uqfc::opaque``."""
    given = arguments_of(node)
    operands = [builder.ssa(each) for each in inputs]
    shape: Shape = tuple(given["shape"])
    op = CallOp(operands, given["path"], given["call"], given["index"], shape)
    return builder.emit(op)


class Returned(NamedTuple):
    """What one call returned: shapes of the tensors in it, and how they are arranged."""

    shapes: list[list[int]]
    structure: Any


def stand_in(path: str, calls: list[Returned]) -> Callable[..., Any]:
    """A forward that makes opaque calls of the module at ``path``, which returns ``calls``."""
    made = count()

    def forward(*inputs: Tensor) -> Any:
        call = next(made) % len(calls)  # torch may trace a program more than once
        shapes, structure = calls[call]
        results = [
            torch.ops.uqfc.opaque(list(inputs), path, call, index, shape)
            for index, shape in enumerate(shapes)
        ]
        return pytree.tree_unflatten(results, structure)

    return forward


@contextmanager
def stand_ins(model: nn.Module, paths: Iterable[str], inputs: Sequence[Tensor]) -> Generator[None]:
    """Stand-ins in the place of what the modules at ``paths`` compute on these inputs.

    Their attributes and parameters remain; hooks are part of what they compute. UqfcError for one
    that takes or returns anything but float32 tensors, or is not called.
    """
    modules = {model.get_submodule(path): path for path in paths}
    calls = observed(model, modules, inputs) if modules else {}
    before = {module: dict(module.__dict__) for module in modules}
    for module, path in modules.items():
        hooks = {name: OrderedDict[int, Any]() for name in HOOKS}
        module.__dict__.update(hooks, forward=stand_in(path, calls[path]))
    try:
        yield
    finally:
        for module, state in before.items():
            module.__dict__.clear()
            module.__dict__.update(state)


def observed(
    model: nn.Module, modules: Mapping[nn.Module, str], inputs: Sequence[Tensor]
) -> dict[str, list[Returned]]:
    """What each of the modules returns when the model is called.

    A call within a call of another one of them is no call of its own.
    """
    calls: dict[str, list[Returned]] = defaultdict(list)
    running: list[nn.Module] = []

    def called(module: nn.Module, args: Any, named: Any) -> None:
        if not running:
            given = [*args, *named.values()]
            check_tensors(modules[module], "is called with", given, named=bool(named))
        running.append(module)

    def returned(module: nn.Module, _: Any, result: Any) -> None:
        running.pop()
        if not running:
            leaves, structure = pytree.tree_flatten(result)
            check_tensors(modules[module], "returns", leaves, named=False)
            shapes = [list(each.shape) for each in leaves]
            calls[modules[module]].append(Returned(shapes, structure))

    hooks = [m.register_forward_hook(returned) for m in modules]
    hooks += [m.register_forward_pre_hook(called, with_kwargs=True, prepend=True) for m in modules]
    try:
        with torch.no_grad():
            model(*inputs)
    except UqfcError:
        raise
    except Exception as error:
        where = f"module '{modules[running[0]]}'" if running else type(model).__name__
        raise UqfcError(f"{where}: {type(error).__name__} for one image: {error}") from error
    finally:
        for each in hooks:
            each.remove()
    for path in modules.values():
        if path not in calls:
            raise UqfcError(f"module '{path}' cannot stay float: its forward is not called")
    return calls


def check_tensors(path: str, what: str, given: Sequence[Any], named: bool) -> None:
    """UqfcError for anything but float32 tensors, and for arguments that are given by name."""
    found = [type(x).__name__ for x in given if not isinstance(x, Tensor)]
    found += [str(x.dtype) for x in given if isinstance(x, Tensor) and x.dtype != torch.float32]
    if not given:
        found = ["nothing"]
    if found or named:
        kinds = ", ".join(found) or "arguments by name"
        raise UqfcError(
            f"module '{path}' cannot stay float: it {what} {kinds}; accepted: float32 tensors, by "
            "position"
        )
