"""Modules that stay float because uqfc cannot import them: ``prepare_qat(partial=True)``."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, suppress
from io import StringIO
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage] # the base
from torch.utils._pytree import tree_leaves

from uqfc.dialects.opaque import CallOp
from uqfc.dialects.tensors import shape_of
from uqfc.errors import UnsupportedError, UqfcError
from uqfc.frontend.torch import UnsupportedCall, stand_ins, unsupported_modules


class Given(NamedTuple):
    """Arguments of a call, by position and by name."""

    args: tuple[Any, ...]
    named: dict[str, Any]


OUTERMOST = (
    "; it is called by the outermost module itself: what is to stay float must be in a module of "
    "its own"
)


def exported(model: nn.Module, images: Sequence[Tensor]) -> torch.export.ExportedProgram:
    """The program of ``torch.export``. UqfcError if torch cannot capture it, whatever it raises."""
    try:
        return captured(model, tuple(images), {})
    except Exception as error:
        shapes = ", ".join(str(list(image.shape)) for image in images)
        raise UqfcError(
            f"{type(model).__name__}: torch.export cannot capture what it computes on {shapes}: "
            f"{first_line(error)}; accepted: modules that compute on tensors, without Python "
            "branches that depend on their values"
        ) from error


def captured(model: nn.Module, args: Any, named: Any) -> torch.export.ExportedProgram:
    """The program of ``torch.export``, which raises whatever it raises."""
    with warnings.catch_warnings():
        # of modules that keep tensors in lists, as recurrent ones do
        warnings.filterwarnings("ignore", "The tensor attributes")
        return torch.export.export(model, args, named)


def first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def modules_to_keep(
    model: nn.Module, images: Sequence[Tensor], known: Mapping[str, str]
) -> dict[str, str]:
    """The innermost modules that cannot be imported, by path, and why; ``known`` are some.

    UnsupportedError, or UqfcError, if it is the outermost module itself that cannot.
    """
    kept, calls = outermost(known), first_calls(model, images)
    while True:
        with stand_ins(model, kept, images), redirect_stderr(StringIO()):  # torch prints graphs
            failing = failures(model, images, calls)
        if not failing:
            return kept
        found = {place_outside(model, path, kept): why for path, why in failing.items()}
        before, kept = kept, outermost({**kept, **found})
        if kept == before:
            named = ", ".join(f"'{path}'" for path in failing)
            raise UqfcError(f"{type(model).__name__}: {named} cannot be captured, or stay float")


def place_outside(model: nn.Module, path: str, kept: Mapping[str, str]) -> str:
    """A path of the module at ``path`` that is in none of those kept; ``path`` if there is none.

    torch names a module that has several places by one of them, wherever it is called.
    """
    module = model.get_submodule(path)
    for place, each in model.named_modules(remove_duplicate=False):
        if each is module and not any(place.startswith(f"{other}.") for other in kept):
            return place
    return path


def module_of(model: nn.Module, layer: str) -> str:
    """The path of the innermost module that a layer's name begins with; empty if there is none."""
    paths = {path for path, _ in model.named_modules(remove_duplicate=False)}
    path = layer.partition("#")[0]
    while path not in paths:
        path = path.rpartition(".")[0]
    return path


def failures(
    model: nn.Module, images: Sequence[Tensor], calls: Mapping[nn.Module, Given]
) -> dict[str, str]:
    """The modules that make calls without converter, or that cannot be captured, and why."""
    try:
        program = exported(model, images)
    except UqfcError as error:
        found = uncapturable(model, "", calls)
        if "" in found:
            raise error from None
        return found
    refused = unsupported_modules(program, type(model).__name__)
    own = [call for call in refused if not call.module]
    if own:
        named = [UnsupportedCall(c.name, c.op, c.why + OUTERMOST, "", "") for c in own]
        raise UnsupportedError(named, type(model).__name__)
    return {call.module: f"{call.op}: {call.why}" for call in reversed(refused)}  # the first counts


def outermost(found: Mapping[str, str]) -> dict[str, str]:
    """Those that are not within another one."""
    return {
        path: why
        for path, why in found.items()
        if not any(path.startswith(f"{other}.") for other in found)
    }


def first_calls(model: nn.Module, images: Sequence[Tensor]) -> dict[nn.Module, Given]:
    """What each module is called with, the first time."""
    calls: dict[nn.Module, Given] = {}

    def note(module: nn.Module, args: Any, named: Any) -> None:
        calls.setdefault(module, Given(args, named))

    hooks = [
        module.register_forward_pre_hook(note, with_kwargs=True)
        for module in model.modules()
        if not isinstance(module, torch.jit.ScriptModule)  # it takes no hooks
    ]
    with torch.no_grad(), suppress(Exception):  # what a module raises, its capture will say
        model(*images)
    for hook in hooks:
        hook.remove()
    return calls


def uncapturable(module: nn.Module, path: str, calls: Mapping[nn.Module, Given]) -> dict[str, str]:
    """The innermost modules, in the one at ``path``, that torch cannot capture, and why.

    A module whose parts can all be captured is to blame itself; lists of modules are not called.
    """
    why = ""
    if module in calls:
        try:
            captured(module, *calls[module])
        except Exception as error:  # noqa: BLE001 # whatever torch raises
            why = f"torch.export cannot capture it: {first_line(error)}"
        else:
            return {}
    found: dict[str, str] = {}
    for name, child in module.named_children():
        found |= uncapturable(child, f"{path}.{name}" if path else name, calls)
    return found or ({path: why} if why else {})


def norms_within(module: nn.Module) -> list[_BatchNorm]:
    return [part for part in module.modules() if isinstance(part, _BatchNorm)]


@contextmanager
def frozen_norms(module: nn.Module) -> Generator[None]:
    """The batch norms within use their running statistics, and leave them as they are."""
    norms = [norm for norm in norms_within(module) if norm.training]
    for norm in norms:
        norm.training = False
    try:
        yield
    finally:
        for norm in norms:
            norm.training = True


class KeptModules:
    """Calls of modules that stay float, for one batch: each call is made once."""

    def __init__(self, model: nn.Module, batch: int, *, statistics: bool) -> None:
        self.model = model
        self.batch = batch
        self.statistics = statistics
        self.results: dict[tuple[str, int], list[Any]] = {}

    def result(self, op: CallOp, operands: Sequence[Tensor]) -> Tensor:
        """The tensor of an op. UqfcError unless the images are first in what is returned."""
        path, call = op.callee.data, op.call.value.data
        if (path, call) not in self.results:
            module = self.model.get_submodule(path)
            given = [x.clone() for x in operands]  # the module may write to it
            with nullcontext() if self.statistics else frozen_norms(module):
                returned: Any = module(*given)
            self.results[path, call] = tree_leaves(returned)
        found = self.results[path, call][op.index.value.data]
        wanted = [self.batch, *shape_of(op.result)[1:]]
        if list(found.shape) != wanted:
            raise UqfcError(
                f"module '{path}': returns {list(found.shape)} for a batch of {self.batch}; "
                f"accepted: {wanted}, the images first"
            )
        return found
