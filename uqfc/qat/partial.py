"""Modules that stay float because uqfc cannot import them: ``prepare_qat(partial=True)``."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from uqfc.dialects.opaque import CallOp
from uqfc.dialects.tensors import shape_of
from uqfc.errors import UnsupportedError, UqfcError
from uqfc.frontend.torch import UnsupportedCall, stand_ins, unsupported_modules

OUTERMOST = (
    "; it is called by the outermost module itself: what is to stay float must be in a module of "
    "its own"
)


def exported(model: nn.Module, images: Sequence[Tensor]) -> torch.export.ExportedProgram:
    """The program of ``torch.export``. UqfcError if torch cannot capture it, whatever it raises."""
    try:
        with warnings.catch_warnings():
            # of modules that keep tensors in lists, as recurrent ones do
            warnings.filterwarnings("ignore", "The tensor attributes")
            return torch.export.export(model, tuple(images))
    except Exception as error:
        shapes = ", ".join(str(list(image.shape)) for image in images)
        raise UqfcError(
            f"{type(model).__name__}: torch.export cannot capture what it computes on {shapes}: "
            f"{first_line(error)}; accepted: modules that compute on tensors, without Python "
            "branches that depend on their values"
        ) from error


def first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def modules_to_keep(
    model: nn.Module, images: Sequence[Tensor], known: Mapping[str, str]
) -> dict[str, str]:
    """The innermost modules that cannot be imported, by path, and why; ``known`` are some.

    UnsupportedError, or UqfcError, if it is the outermost module itself that cannot.
    """
    kept = outermost(known)
    while True:
        with stand_ins(model, kept, images):
            failing = failures(model, images)
        if not failing:
            return kept
        kept = outermost({**kept, **failing})


def module_of(model: nn.Module, layer: str) -> str:
    """The path of the innermost module that a layer's name begins with; empty if there is none."""
    paths = {path for path, _ in model.named_modules()}
    path = layer.partition("#")[0]
    while path not in paths:
        path = path.rpartition(".")[0]
    return path


def failures(model: nn.Module, images: Sequence[Tensor]) -> dict[str, str]:
    """The modules that make calls without converter, or that cannot be captured, and why."""
    try:
        program = exported(model, images)
    except UqfcError as error:
        found = uncapturable(model, images)
        if "" in found:
            raise error from None
        return found
    calls = unsupported_modules(program, type(model).__name__)
    own = [call for call in calls if not call.module]
    if own:
        named = [UnsupportedCall(c.name, c.op, c.why + OUTERMOST, "", "") for c in own]
        raise UnsupportedError(named, type(model).__name__)
    return {call.module: f"{call.op}: {call.why}" for call in reversed(calls)}  # the first counts


def outermost(found: Mapping[str, str]) -> dict[str, str]:
    """Those that are not within another one."""
    return {
        path: why
        for path, why in found.items()
        if not any(path.startswith(f"{other}.") for other in found)
    }


def uncapturable(model: nn.Module, images: Sequence[Tensor]) -> dict[str, str]:
    """The innermost modules that torch cannot capture on the inputs they get, and why.

    A module whose parts can all be captured is to blame itself.
    """
    seen: dict[nn.Module, tuple[Any, Any]] = {}

    def note(module: nn.Module, args: Any, named: Any) -> None:
        seen.setdefault(module, (args, named))

    hooks = [m.register_forward_pre_hook(note, with_kwargs=True) for m in model.modules()]
    with torch.no_grad(), suppress(Exception):  # what a module raises, its capture will say
        model(*images)
    for hook in hooks:
        hook.remove()

    def search(module: nn.Module, path: str) -> dict[str, str]:
        if module not in seen:
            return {}
        args, named = seen[module]
        try:
            torch.export.export(module, args, named)
        except Exception as error:  # noqa: BLE001 # whatever torch raises
            found: dict[str, str] = {}
            for name, child in module.named_children():
                found |= search(child, f"{path}.{name}" if path else name)
            return found or {path: f"torch.export cannot capture it: {first_line(error)}"}
        return {}

    return search(model, "")


class KeptModules:
    """Calls of modules that stay float, in one forward pass: each call is made once."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.results: dict[tuple[str, int], list[Any]] = {}

    def result(self, op: CallOp, operands: Sequence[Tensor]) -> Tensor:
        """The tensor of an op, for a batch. UqfcError if the module mixes the images."""
        path, call = op.callee.data, op.call.value.data
        if (path, call) not in self.results:
            returned: Any = self.model.get_submodule(path)(*operands)
            self.results[path, call] = tree_leaves(returned)
        found = self.results[path, call][op.index.value.data]
        wanted = [len(operands[0]), *shape_of(op.result)[1:]]
        if list(found.shape) != wanted:
            raise UqfcError(
                f"module '{path}': returns {list(found.shape)} for a batch of {len(operands[0])}; "
                f"accepted: {wanted}, the images first"
            )
        return found
