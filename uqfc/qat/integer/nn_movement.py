"""Ops that move elements of any type."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from uqfc.dialects import nn
from uqfc.dialects.tensors import int_tuple, shape_of
from uqfc.qat.integer.registry import Step, aligned, constant_of, makes, to_tensor


@makes(nn.ReshapeOp)
def reshape(op: nn.ReshapeOp, device: torch.device) -> Step:
    del device
    shape = shape_of(op.result)
    return Step(lambda x: x.reshape(x.shape[0], *shape), (op.x,))


@makes(nn.TransposeOp)
def transpose(op: nn.TransposeOp, device: torch.device) -> Step:
    del device
    permutation = [0, *(axis + 1 for axis in int_tuple(op.permutation))]
    return Step(lambda x: x.permute(permutation), (op.x,))


@makes(nn.ConcatOp)
def concat(op: nn.ConcatOp, device: torch.device) -> Step:
    del device
    axis = op.axis.value.data + 1

    def run(*inputs: Tensor) -> Tensor:
        runs = max(x.shape[0] for x in inputs)
        return torch.cat([x.expand(runs, *x.shape[1:]) for x in inputs], axis)

    return Step(run, tuple(op.inputs))


@makes(nn.SliceOp)
def slice_(op: nn.SliceOp, device: torch.device) -> Step:
    starts, steps, shape = int_tuple(op.starts), int_tuple(op.steps), shape_of(op.result)
    picks: list[tuple[int, slice | Tensor]] = []
    for axis, (start, step, size) in enumerate(zip(starts, steps, shape, strict=True), 1):
        if step > 0:
            picks.append((axis, slice(start, start + step * size, step)))
        else:
            index = np.arange(size, dtype=np.int64) * step + start
            picks.append((axis, to_tensor(index, device)))

    def run(x: Tensor) -> Tensor:
        for axis, pick in picks:
            if isinstance(pick, slice):
                x = x[(slice(None),) * axis + (pick,)]
            else:
                x = x.index_select(axis, pick)
        return x

    return Step(run, (op.x,))


@makes(nn.PadOp)
def pad(op: nn.PadOp, device: torch.device) -> Step | None:
    del device
    if op.mode.data != "constant":
        return None
    pairs = zip(int_tuple(op.low), int_tuple(op.high), strict=True)
    widths = [width for pair in reversed(list(pairs)) for width in pair]
    value = float(cast(Any, op.value).value.data)

    def run(x: Tensor) -> Tensor:
        fill = value if x.is_floating_point() else int(value)
        return torch.nn.functional.pad(x, widths, value=fill)

    return Step(run, (op.x,))


@makes(nn.BroadcastOp)
def broadcast(op: nn.BroadcastOp, device: torch.device) -> Step:
    del device
    shape = shape_of(op.result)

    def run(x: Tensor) -> Tensor:
        template = x.new_empty(()).expand(1, *shape)
        return aligned(x, template)[0].expand(x.shape[0], *shape)

    return Step(run, (op.x,))


@makes(nn.GatherOp)
def gather(op: nn.GatherOp, device: torch.device) -> Step | None:
    indices = constant_of(op.indices)
    if indices is None:
        return None
    axis = op.axis.value.data
    size = shape_of(op.x)[axis]
    wrapped = np.where(indices < 0, indices + size, indices).astype(np.int64)
    picked = to_tensor(np.clip(wrapped, 0, size - 1).reshape(-1), device)
    shape = indices.shape

    def run(x: Tensor) -> Tensor:
        found = x.index_select(axis + 1, picked)
        return found.reshape(*x.shape[: axis + 1], *shape, *x.shape[axis + 2 :])

    return Step(run, (op.x,))
