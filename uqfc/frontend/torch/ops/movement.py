"""Ops that move or select elements, or do nothing: sizes are static."""

from __future__ import annotations

from collections.abc import Sequence

from uqfc.errors import ModelError
from uqfc.frontend.builder import Builder
from uqfc.frontend.onnx_ops.movement import reshaped
from uqfc.frontend.torch.call import Call
from uqfc.frontend.torch.registry import converter
from uqfc.frontend.values import UnsupportedUseError, Value, dims, rank, wrap_axes, wrap_axis


@converter("alias", "clone", moves=True)
def identity(call: Call, b: Builder) -> Value:
    call.ignore("memory_format")
    return call.value("self")


@converter("_to_copy", "type_as", moves=True)
def convert(call: Call, b: Builder) -> Value:
    """Conversion of elements; floats are float32, whatever their width."""
    call.ignore("dtype", "layout", "device", "pin_memory", "non_blocking", "memory_format", "other")
    return b.cast(call.value("self"), call.element)


@converter("view", "_unsafe_view", moves=True)
def view(call: Call, b: Builder) -> Value:
    x, size = call.value("self"), call.ints("size")
    return b.reshape(x, reshaped(dims(x), size, True))


@converter("squeeze", moves=True)
def squeeze(call: Call, b: Builder) -> Value:
    """Without the axes of size 1 that are named, or all of them."""
    x = call.value("self")
    axes = wrap_axes(call.ints("dim"), rank(x)) if call.given("dim") else range(rank(x))
    return b.reshape(x, [d for i, d in enumerate(dims(x)) if d != 1 or i not in axes])


@converter("unsqueeze", moves=True)
def unsqueeze(call: Call, b: Builder) -> Value:
    x = call.value("self")
    axis = wrap_axis(call.integer("dim"), rank(x) + 1)
    return b.reshape(x, (*dims(x)[:axis], 1, *dims(x)[axis:]))


@converter("permute", moves=True)
def permute(call: Call, b: Builder) -> Value:
    x = call.value("self")
    return b.transpose(x, wrap_axes(call.ints("dims"), rank(x)))


@converter("transpose", moves=True)
def transpose(call: Call, b: Builder) -> Value:
    x = call.value("self")
    first, second = (wrap_axis(call.integer(name), rank(x)) for name in ("dim0", "dim1"))
    axes = list(range(rank(x)))
    axes[first], axes[second] = second, first
    return b.transpose(x, axes)


@converter("t", moves=True)
def matrix_transpose(call: Call, b: Builder) -> Value:
    x = call.value("self")
    return b.transpose(x, list(range(rank(x)))[::-1])


@converter("expand", moves=True)
def expand(call: Call, b: Builder) -> Value:
    """To a size in which -1 keeps what the tensor has."""
    call.ignore("implicit")
    x, size = call.value("self"), call.ints("size")
    own = [1] * (len(size) - rank(x)) + list(dims(x))
    return b.broadcast(x, [d if s == -1 else s for d, s in zip(own, size, strict=True)])


@converter("repeat", moves=True)
def repeat(call: Call, b: Builder) -> Value:
    """Every repeated axis becomes two, of which the first is broadcast."""
    x, repeats = call.value("self"), call.ints("repeats")
    own = [1] * (len(repeats) - rank(x)) + list(dims(x))
    split = [s for d in own for s in (1, d)]
    repeated = [s for r, d in zip(repeats, own, strict=True) for s in (r, d)]
    final = [r * d for r, d in zip(repeats, own, strict=True)]
    return b.reshape(b.broadcast(b.reshape(x, split), repeated), final)


@converter("cat", moves=True)
def cat(call: Call, b: Builder) -> Value:
    values = [b.cast(v, call.element) for v in call.values("tensors") if dims(v) != (0,)]
    if not values:
        raise ModelError("nothing is concatenated")
    return b.concat(values, wrap_axis(call.integer("dim"), rank(values[0])))


@converter("stack", moves=True)
def stack(call: Call, b: Builder) -> Value:
    values = [b.cast(v, call.element) for v in call.values("tensors")]
    axis = wrap_axis(call.integer("dim"), rank(values[0]) + 1)
    shape = dims(values[0])
    return b.concat([b.reshape(v, (*shape[:axis], 1, *shape[axis:])) for v in values], axis)


def part(b: Builder, x: Value, axis: int, start: int, size: int, step: int = 1) -> Value:
    """``size`` elements of one axis."""
    starts = [start if i == axis else 0 for i in range(rank(x))]
    steps = [step if i == axis else 1 for i in range(rank(x))]
    return b.slice(x, starts, [*dims(x)[:axis], size, *dims(x)[axis + 1 :]], steps)


def parts(b: Builder, x: Value, axis: int, sizes: Sequence[int]) -> list[Value]:
    """Consecutive parts of one axis."""
    return [part(b, x, axis, sum(sizes[:i]), size) for i, size in enumerate(sizes)]


@converter("split", "split_with_sizes", moves=True)
def split(call: Call, b: Builder) -> list[Value]:
    """Into parts of one size, of which the last may be smaller, or of the sizes given."""
    x = call.value("self")
    axis = wrap_axis(call.integer("dim"), rank(x))
    size = dims(x)[axis]
    given = call.get("split_size" if call.given("split_size") else "split_sizes")
    if isinstance(given, int):
        given = [min(given, size - start) for start in range(0, size, max(given, 1))]
    return parts(b, x, axis, [int(s) for s in given])


@converter("unbind", moves=True)
def unbind(call: Call, b: Builder) -> list[Value]:
    x = call.value("self")
    axis = wrap_axis(call.integer("dim"), rank(x))
    shape = [*dims(x)[:axis], *dims(x)[axis + 1 :]]
    return [b.reshape(v, shape) for v in parts(b, x, axis, [1] * dims(x)[axis])]


@converter("slice", moves=True)
def slice_(call: Call, b: Builder) -> Value:
    x = call.value("self")
    axis = wrap_axis(call.integer("dim"), rank(x))
    first, last, step = call.get("start"), call.get("end"), call.integer("step")
    span = range(*slice(first, last, step).indices(dims(x)[axis]))
    return part(b, x, axis, span.start, len(span), step)


@converter("slice_scatter", moves=True)
def slice_scatter(call: Call, b: Builder) -> Value:
    """The tensor with ``src`` in the place of a slice: what an assignment to one becomes."""
    x, source = call.value("self"), b.cast(call.value("src"), call.element)
    axis = wrap_axis(call.integer("dim"), rank(x))
    call.must_be("step", 1)
    size = dims(x)[axis]
    span = range(*slice(call.get("start"), call.get("end")).indices(size))
    return replaced(b, x, source, axis, span.start, span.start + len(span))


@converter("select_scatter", moves=True)
def select_scatter(call: Call, b: Builder) -> Value:
    """The tensor with ``src`` in the place of one index."""
    x, source = call.value("self"), b.cast(call.value("src"), call.element)
    axis = wrap_axis(call.integer("dim"), rank(x))
    index = wrap_axis(call.integer("index"), dims(x)[axis])
    row = b.reshape(source, (*dims(x)[:axis], 1, *dims(x)[axis + 1 :]))
    return replaced(b, x, row, axis, index, index + 1)


def replaced(b: Builder, x: Value, source: Value, axis: int, start: int, stop: int) -> Value:
    """``source`` between what is before ``start`` and what is from ``stop`` on."""
    before = part(b, x, axis, 0, start)
    return b.concat([before, source, part(b, x, axis, stop, dims(x)[axis] - stop)], axis)


@converter("copy", moves=True)
def copy(call: Call, b: Builder) -> Value:
    """What is copied into a tensor takes its shape and type."""
    call.ignore("non_blocking")
    return b.broadcast(b.cast(call.value("src"), call.element), dims(call.value("self")))


@converter("select", moves=True)
def select(call: Call, b: Builder) -> Value:
    x = call.value("self")
    axis = wrap_axis(call.integer("dim"), rank(x))
    index = wrap_axis(call.integer("index"), dims(x)[axis])
    return b.reshape(part(b, x, axis, index, 1), [*dims(x)[:axis], *dims(x)[axis + 1 :]])


@converter("flip", moves=True)
def flip(call: Call, b: Builder) -> Value:
    x = call.value("self")
    axes = wrap_axes(call.ints("dims"), rank(x))
    starts = [d - 1 if i in axes else 0 for i, d in enumerate(dims(x))]
    return b.slice(x, starts, dims(x), [-1 if i in axes else 1 for i in range(rank(x))])


PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@converter("pad", "constant_pad_nd", moves=True)
def pad(call: Call, b: Builder) -> Value:
    """Widths come in pairs from the last axis on; negative ones cut."""
    x, widths = call.value("self"), call.ints("pad")
    mode = call.get("mode") or "constant"
    value = call.real("value") if call.given("value") else 0.0
    count = len(widths) // 2
    if len(widths) % 2 or count > rank(x) or mode not in PAD_MODES:
        raise UnsupportedUseError(f"pads {widths} of mode '{mode}' for {list(dims(x))}")
    unpadded = [0] * (rank(x) - count)
    low, high = [*unpadded, *widths[::2][::-1]], [*unpadded, *widths[1::2][::-1]]
    shape = [n + min(a, 0) + min(c, 0) for n, a, c in zip(dims(x), low, high, strict=True)]
    x = b.slice(x, [max(-a, 0) for a in low], shape, [1] * rank(x))
    low, high = [max(a, 0) for a in low], [max(c, 0) for c in high]
    return b.pad(x, low, high, value, PAD_MODES[mode])
