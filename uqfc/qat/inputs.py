"""What a model may be called with: checked before torch would fail somewhere inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from uqfc.dialects.tensors import numpy_dtype, shape_of, type_of
from uqfc.errors import InputError, UqfcError
from uqfc.qat.plan import Plan


def check_inputs(inputs: Sequence[Any], plan: Plan | None = None) -> None:
    """InputError unless these are batches of what the network takes, once that is known."""
    if not inputs:
        raise InputError("no inputs; accepted: a batch of each of the network's inputs")
    for index, x in enumerate(inputs):
        if not isinstance(x, Tensor):
            raise InputError(f"input {index} is {type(x).__name__}; accepted: a torch.Tensor")
        if not x.ndim or not len(x):
            raise InputError(f"input {index} is {list(x.shape)}; accepted: a batch, not empty")
        if x.dtype in (torch.float64, torch.float16, torch.bfloat16):
            raise InputError(f"input {index} is {name_of(x)}; accepted: float32")
    sizes = {len(x) for x in inputs}
    if len(sizes) > 1:
        raise InputError(f"inputs are batches of {', '.join(map(str, sorted(sizes)))} images")
    if plan is not None:
        check_types(inputs, plan)


def check_types(inputs: Sequence[Tensor], plan: Plan) -> None:
    """InputError unless count, shapes and dtypes are those that were captured."""
    arguments = plan.function.body.block.args
    if len(inputs) != len(arguments):
        raise InputError(f"{len(inputs)} input(s); the network takes {len(arguments)}")
    for index, (x, argument) in enumerate(zip(inputs, arguments, strict=True)):
        dtype = numpy_dtype(type_of(argument).get_element_type())
        shape = shape_of(argument)[1:]
        if tuple(x.shape[1:]) != shape or name_of(x) != str(dtype):
            wanted = ", ".join(["N", *map(str, shape)])
            raise InputError(
                f"input {index} is {name_of(x)} {list(x.shape)}; the network was captured for "
                f"{dtype} [{wanted}]"
            )


def name_of(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


def check_parameters(model: nn.Module) -> None:
    """UqfcError for parameters that are finer or coarser than float32."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            kind = type(model).__name__
            raise UqfcError(f"{kind}: '{name}' is {name_of(tensor)}; accepted: float32")
