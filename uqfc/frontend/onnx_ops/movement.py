"""Ops that move elements: their parameters become static, so only the moves are left."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from uqfc.dialects.tensors import Shape
from uqfc.errors import ModelError
from uqfc.frontend.builder import Builder
from uqfc.frontend.node import Node, as_float
from uqfc.frontend.onnx_ops.registry import converter
from uqfc.frontend.values import UnsupportedUseError, Value, dims, kind, rank, wrap_axes, wrap_axis


@converter("Reshape", moves=True)
def reshape(node: Node, b: Builder) -> Value:
    x = node.input(0)
    return b.reshape(x, reshaped(dims(x), node.int_list(1, "shape"), node.flag("allowzero")))


def reshaped(shape: Shape, request: Sequence[int], allow_zero: bool) -> list[int]:
    """The shape asked for, with 0 (copy) and -1 (the rest) resolved; ModelError if impossible."""
    target = list(request)
    for axis, size in enumerate(target):
        if size == 0 and not allow_zero:
            if axis >= len(shape):
                raise ModelError(f"shape {list(request)} copies axis {axis} of {list(shape)}")
            target[axis] = shape[axis]
    if min(target, default=0) < -1 or target.count(-1) > 1:
        raise ModelError(f"shape {list(request)} is not valid")
    if -1 in target:
        rest = prod(s for s in target if s != -1)
        target[target.index(-1)] = prod(shape) // rest if rest else 0
    if prod(target) != prod(shape):
        raise ModelError(f"{list(shape)} cannot be reshaped to {list(request)}")
    return target


@converter("Flatten", moves=True)
def flatten(node: Node, b: Builder) -> Value:
    x = node.input(0)
    axis = node.integer("axis", 1)
    axis = axis if axis == rank(x) else wrap_axis(axis, rank(x))
    return b.reshape(x, (prod(dims(x)[:axis]), prod(dims(x)[axis:])))


@converter("Transpose", moves=True)
def transpose(node: Node, b: Builder) -> Value:
    x = node.input(0)
    permutation = node.ints("perm") or list(range(rank(x)))[::-1]
    if sorted(permutation) != list(range(rank(x))):
        raise ModelError(f"perm {permutation} does not permute rank {rank(x)}")
    return b.transpose(x, permutation)


@converter("Squeeze", moves=True)
def squeeze(node: Node, b: Builder) -> Value:
    x = node.input(0)
    given = node.axes("axes", 1)
    shape = dims(x)
    ones = [i for i, d in enumerate(shape) if d == 1]
    axes = ones if given is None else wrap_axes(given, rank(x))
    for axis in axes:
        if shape[axis] != 1:
            raise ModelError(f"axis {axis} of {list(shape)} is not 1")
    return b.reshape(x, [d for i, d in enumerate(shape) if i not in axes])


@converter("Unsqueeze", moves=True)
def unsqueeze(node: Node, b: Builder) -> Value:
    x = node.input(0)
    given = node.axes("axes", 1) or []
    axes = wrap_axes(given, rank(x) + len(given))
    shape = list(dims(x))
    for axis in sorted(axes):
        shape.insert(axis, 1)
    return b.reshape(x, shape)


@converter("Concat", moves=True)
def concat(node: Node, b: Builder) -> Value:
    values = node.all_inputs()
    if len({kind(v) for v in values}) > 1:
        values = [b.stored(b.ssa(v)) for v in values]
    return b.concat(values, wrap_axis(node.integer("axis", 1), rank(values[0])))


@converter("Split", moves=True)
def split(node: Node, b: Builder) -> list[Value]:
    """Sizes are given, or equal; with ``num_outputs`` the last part may be smaller."""
    x = node.input(0)
    axis = wrap_axis(node.integer("axis", 0), rank(x))
    size = dims(x)[axis]
    count = node.integer("num_outputs", len(node.used))
    sizes = node.axes("split", 1)
    if count != len(node.used):
        raise ModelError(f"attribute 'num_outputs' is {count} for {len(node.used)} outputs")
    if sizes is None:
        part = -(-size // count)
        sizes = [min(part, max(size - i * part, 0)) for i in range(count)]
    if sum(sizes) != size or min(sizes) < 0 or len(sizes) != len(node.used):
        raise ModelError(f"{size} elements of axis {axis} cannot be split into {sizes}")
    parts: list[Value] = []
    for index, part in enumerate(sizes):
        shape = [*dims(x)[:axis], part, *dims(x)[axis + 1 :]]
        starts = [sum(sizes[:index]) if i == axis else 0 for i in range(rank(x))]
        parts.append(b.slice(x, starts, shape, [1] * rank(x)))
    return parts


@converter("Slice", moves=True)
def slice_(node: Node, b: Builder) -> Value:
    """Python's rules for bounds: they count from the end if negative, and are cut to the size."""
    x = node.input(0)
    if node.version < 10:
        first, last = node.ints("starts") or [], node.ints("ends") or []
        axes, strides = node.ints("axes"), None
    else:
        first, last = node.int_list(1, "starts"), node.int_list(2, "ends")
        axes = node.int_list(3, "axes") if node.has(3) else None
        strides = node.int_list(4, "steps") if node.has(4) else None
    axes = wrap_axes(list(range(len(first))) if axes is None else axes, rank(x))
    strides = [1] * len(axes) if strides is None else strides
    if not len(first) == len(last) == len(axes) == len(strides) or 0 in strides:
        raise ModelError("starts, ends, axes and steps do not belong together")
    starts, steps, shape = [0] * rank(x), [1] * rank(x), list(dims(x))
    for axis, start, end, step in zip(axes, first, last, strides, strict=True):
        span = range(*slice(start, end, step).indices(shape[axis]))
        starts[axis], steps[axis], shape[axis] = span.start, step, len(span)
    return b.slice(x, starts, shape, steps)


@converter("Expand", moves=True)
def expand(node: Node, b: Builder) -> Value:
    """To the common shape of the input and ``shape``: a 1 there keeps what the input has."""
    x, target = node.input(0), node.int_list(1, "shape")
    if min(target, default=1) < 0:
        raise ModelError(f"shape {target} has a negative dimension")
    width = max(rank(x), len(target))
    own = [1] * (width - rank(x)) + list(dims(x))
    other = [1] * (width - len(target)) + target
    if any(a != c and 1 not in (a, c) for a, c in zip(own, other, strict=True)):
        raise ModelError(f"{list(dims(x))} does not expand to {target}")
    return b.broadcast(x, [c if a == 1 else a for a, c in zip(own, other, strict=True)])


@converter("Tile", moves=True)
def tile(node: Node, b: Builder) -> Value:
    """Every repeated axis becomes two, of which the first is broadcast."""
    x, repeats = node.input(0), node.int_list(1, "repeats")
    if len(repeats) != rank(x) or min(repeats, default=0) < 0:
        raise ModelError(f"repeats {repeats} do not fit rank {rank(x)}")
    split_shape = [s for d in dims(x) for s in (1, d)]
    repeated = [s for r, d in zip(repeats, dims(x), strict=True) for s in (r, d)]
    final = [r * d for r, d in zip(repeats, dims(x), strict=True)]
    return b.reshape(b.broadcast(b.reshape(x, split_shape), repeated), final)


@converter("DepthToSpace", moves=True)
def depth_to_space(node: Node, b: Builder) -> Value:
    x, block = node.input(0), node.integer("blocksize", 0)
    mode = node.choice("mode", "DCR", ("DCR", "CRD"))
    n, c, h, w = image_shape(x)
    if block < 1 or c % (block * block):
        raise ModelError(f"{c} channels do not make blocks of {block}x{block}")
    depth = c // (block * block)
    if mode == "DCR":
        parts, order = (n, block, block, depth, h, w), (0, 3, 4, 1, 5, 2)
    else:
        parts, order = (n, depth, block, block, h, w), (0, 1, 4, 2, 5, 3)
    moved = b.transpose(b.reshape(x, parts), order)
    return b.reshape(moved, (n, depth, h * block, w * block))


@converter("SpaceToDepth", moves=True)
def space_to_depth(node: Node, b: Builder) -> Value:
    x, block = node.input(0), node.integer("blocksize", 0)
    mode = node.choice("mode", "DCR", ("DCR", "CRD"))
    n, c, h, w = image_shape(x)
    if block < 1 or h % block or w % block:
        raise ModelError(f"{h}x{w} is not divisible into blocks of {block}")
    parts = b.reshape(x, (n, c, h // block, block, w // block, block))
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    return b.reshape(b.transpose(parts, order), (n, c * block * block, h // block, w // block))


def image_shape(x: Value) -> tuple[int, int, int, int]:
    """N, C, H, W of a tensor of rank 4; UnsupportedUseError for another rank."""
    shape = dims(x)
    if len(shape) != 4:
        raise UnsupportedUseError(f"takes rank 4, got {list(shape)}")
    return shape[0], shape[1], shape[2], shape[3]


@converter("Pad")
def pad(node: Node, b: Builder) -> Value:
    """Negative widths cut, the others add."""
    x = node.input(0)
    mode = node.choice("mode", "constant", ("constant", "reflect", "edge", "wrap"))
    axes = wrap_axes(node.int_list(3, "axes"), rank(x)) if node.has(3) else list(range(rank(x)))
    if node.version < 11:
        widths, value = node.ints("pads") or [], node.real("value", 0.0)
    else:
        widths = node.int_list(1, "pads")
        given = node.optional_array(2, "constant_value")
        value = 0.0 if given is None else as_float(given)
    if len(widths) != 2 * len(axes):
        raise ModelError(f"{len(widths)} pads for {len(axes)} axes")
    low, high = [0] * rank(x), [0] * rank(x)
    for i, axis in enumerate(axes):
        low[axis], high[axis] = widths[i], widths[i + len(axes)]
    shape = [n + min(a, 0) + min(c, 0) for n, a, c in zip(dims(x), low, high, strict=True)]
    if min(shape, default=0) < 0:
        raise ModelError(f"pads {widths} cut more than there is of {list(dims(x))}")
    x = b.slice(x, [max(-a, 0) for a in low], shape, [1] * rank(x))
    low, high = [max(a, 0) for a in low], [max(c, 0) for c in high]
    largest = [d - 1 if mode == "reflect" else d for d in shape]
    if mode in ("reflect", "wrap") and any(
        max(a, c) > m for a, c, m in zip(low, high, largest, strict=True)
    ):
        raise UnsupportedUseError(f"pads of mode '{mode}' larger than the tensor")
    return b.pad(x, low, high, value, mode)
