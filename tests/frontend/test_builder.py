"""Law of the builder: what it computes of constants is what the emitted op means, to the bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from xdsl.dialects.builtin import ModuleOp, f32, i1, i32, i64
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, Block, Region, SSAValue

from uqfc.dialects import nn
from uqfc.dialects.tensors import Array, element_type, i8, numpy_dtype, tensor_type, ui8
from uqfc.elementary import UNARY
from uqfc.errors import ModelError
from uqfc.frontend.builder import Builder
from uqfc.frontend.values import Constant, UnsupportedUseError, Value, constant, dims
from uqfc.interpreter import Interpreter

Apply = Callable[[Builder, list[Value]], Value]

BINARY: dict[str, type[nn.BinaryOp]] = {
    "add": nn.AddOp,
    "div": nn.DivOp,
    "maximum": nn.MaximumOp,
    "minimum": nn.MinimumOp,
    "mul": nn.MulOp,
    "sub": nn.SubOp,
}
ELEMENTS = st.sampled_from([f32, i64, i32, i8, ui8])


def elements_of(kind: Attribute) -> st.SearchStrategy[float]:
    if kind == f32:
        return st.floats(width=32)
    if kind == i1:
        return st.booleans()
    info = np.iinfo(numpy_dtype(kind))
    return st.integers(int(info.min), int(info.max)) | st.sampled_from([0, 1, 2])


def arrays(kind: Attribute, shape: tuple[int, ...]) -> st.SearchStrategy[Array]:
    return hnp.arrays(numpy_dtype(kind), shape, elements=elements_of(kind))


def shapes(most: int = 3) -> st.SearchStrategy[tuple[int, ...]]:
    return hnp.array_shapes(min_dims=0, max_dims=most, max_side=4)


def check_law(apply: Apply, inputs: list[Array]) -> None:
    folded = apply(Builder(Block()), [constant(a) for a in inputs])
    assert isinstance(folded, Constant)
    types = [tensor_type(a.shape, element_type(a.dtype)) for a in inputs]
    block = Block(arg_types=types)
    emitted = apply(Builder(block), list(block.args))
    assert isinstance(emitted, SSAValue)
    block.add_op(ReturnOp(emitted))
    function = FuncOp("main", (types, [emitted.type]), Region(block))
    module = ModuleOp([function])
    module.verify()
    values = {f"input{i}": a for i, a in enumerate(inputs)}
    (result,) = Interpreter().run(module, values).values()
    assert result.dtype == folded.array.dtype
    assert result.shape == folded.array.shape
    np.testing.assert_array_equal(result, folded.array)
    if result.dtype == np.float32:  # equal zeros and infinities of the same sign
        numbers = ~np.isnan(result)
        np.testing.assert_array_equal(
            np.signbit(result)[numbers], np.signbit(folded.array)[numbers]
        )


@given(
    st.data(),
    ELEMENTS,
    st.sampled_from(sorted(BINARY)),
    hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=4, min_side=1),
)
def test_binary(
    data: st.DataObject,
    kind: Attribute,
    op: str,
    both: hnp.BroadcastableShapes,
) -> None:
    inputs = [data.draw(arrays(kind, s)) for s in both.input_shapes]
    check_law(lambda b, v: b.binary(BINARY[op], v[0], v[1]), inputs)


@given(st.data(), shapes())
def test_power(data: st.DataObject, shape: tuple[int, ...]) -> None:
    inputs = [data.draw(arrays(f32, shape)) for _ in range(2)]
    check_law(lambda b, v: b.binary(nn.PowOp, v[0], v[1]), inputs)


@given(st.data(), st.sampled_from(sorted(UNARY)), shapes())
def test_unary(data: st.DataObject, name: str, shape: tuple[int, ...]) -> None:
    params = [0.25, 0.75][: UNARY[name].parameters]
    check_law(lambda b, v: b.unary(name, v[0], *params), [data.draw(arrays(f32, shape))])


@given(st.data(), ELEMENTS, st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge"]), shapes())
def test_compare(
    data: st.DataObject, kind: Attribute, predicate: str, shape: tuple[int, ...]
) -> None:
    inputs = [data.draw(arrays(kind, shape)) for _ in range(2)]
    check_law(lambda b, v: b.compare(predicate, v[0], v[1]), inputs)


@given(
    st.data(),
    ELEMENTS,
    hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=4, min_side=1),
)
def test_select(data: st.DataObject, kind: Attribute, both: hnp.BroadcastableShapes) -> None:
    kinds = (i1, kind, kind)
    inputs = [data.draw(arrays(k, s)) for k, s in zip(kinds, both.input_shapes, strict=True)]
    check_law(lambda b, v: b.select(*v), inputs)


@given(st.data(), ELEMENTS, ELEMENTS | st.just(i1), shapes())
def test_cast(
    data: st.DataObject, source: Attribute, target: Attribute, shape: tuple[int, ...]
) -> None:
    if source != target:
        check_law(lambda b, v: b.cast(v[0], target), [data.draw(arrays(source, shape))])


@given(st.data(), ELEMENTS, st.sampled_from(["sum", "prod", "max", "min"]), shapes())
def test_reduce(
    data: st.DataObject, kind: Attribute, reduction: str, shape: tuple[int, ...]
) -> None:
    if (kind == f32 and reduction in ("sum", "prod")) or not shape:
        return
    axes = data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))
    values = data.draw(arrays(kind, shape))
    if kind == f32:
        values = np.nan_to_num(values) + np.float32(0)
    check_law(lambda b, v: b.reduce(reduction, v[0], sorted(axes)), [values])


@given(st.data(), ELEMENTS, shapes(4))
def test_moves(data: st.DataObject, kind: Attribute, shape: tuple[int, ...]) -> None:
    x = data.draw(arrays(kind, shape))
    order = data.draw(st.permutations(range(len(shape))))
    if list(order) != sorted(order):
        check_law(lambda b, v: b.transpose(v[0], order), [x])
    check_law(lambda b, v: b.reshape(v[0], (1, x.size)), [x])
    check_law(lambda b, v: b.broadcast(v[0], (2, *shape)), [x])
    low = [data.draw(st.integers(0, 2)) for _ in shape]
    if any(low):
        check_law(lambda b, v: b.pad(v[0], low, low[::-1], 1.0), [x])
    if shape:
        axis = data.draw(st.integers(0, len(shape) - 1))
        check_law(lambda b, v: b.concat([v[0], v[1], v[0]], axis), [x, x])
        picks = data.draw(hnp.arrays(np.int64, (3,), elements=st.integers(0, shape[axis] - 1)))
        check_law(lambda b, v: b.gather(v[0], v[1], axis), [x, picks])


@given(st.data(), ELEMENTS, hnp.array_shapes(min_dims=1, max_dims=3, max_side=6))
def test_slice(data: st.DataObject, kind: Attribute, shape: tuple[int, ...]) -> None:
    starts, steps, sizes = [], [], []
    for size in shape:
        span = range(size)[data.draw(st.slices(size))]
        span = span if len(span) else range(size)
        starts.append(span.start)
        steps.append(span.step)
        sizes.append(len(span))
    if tuple(sizes) != shape or set(steps) != {1}:
        x = data.draw(arrays(kind, shape))
        check_law(lambda b, v: b.slice(v[0], starts, sizes, steps), [x])


def test_a_constant_is_made_once_and_only_where_it_is_used() -> None:
    block = Block(arg_types=[tensor_type((3,))])
    b = Builder(block)
    c, unused = constant(np.ones(3, np.float32)), constant(np.zeros(3, np.float32))
    b.add(b.add(block.args[0], c), c)
    assert b.mul(unused, c).array.shape == (3,)  # pyright: ignore[reportAttributeAccessIssue]
    assert [op.name for op in block.ops] == ["nn.constant", "nn.add", "nn.add"]


def test_ops_carry_the_layer_and_constants_do_not() -> None:
    block = Block(arg_types=[tensor_type((3,))])
    b = Builder(block)
    b.layer = "features.0"
    b.add(block.args[0], constant(1.0))
    assert [nn.layer_name(op) for op in block.ops] == ["", "features.0"]


def test_nothing_is_sliced_from_a_run_time_value_as_a_constant() -> None:
    block = Block(arg_types=[tensor_type((3, 4))])
    empty = Builder(block).slice(block.args[0], [0, 0], [3, 0], [1, 1])
    assert isinstance(empty, Constant)
    assert dims(Builder(block).concat([block.args[0], empty], 1)) == (3, 4)


def test_empty_and_huge_results() -> None:
    block = Block(arg_types=[tensor_type((3, 4))])
    b = Builder(block)
    with pytest.raises(UnsupportedUseError, match="is empty"):
        b.ssa(constant(np.zeros((0, 3), np.float32)))
    with pytest.raises(ModelError, match="at most 2147483648 are accepted"):
        b.broadcast(block.args[0], (2**40, 3, 4))


def test_the_mean_of_integers_is_refused() -> None:
    values: NDArray[np.int64] = np.arange(3)
    with pytest.raises(UnsupportedUseError, match="the mean takes float32, got i64"):
        Builder(Block()).reduce("mean", constant(values), [0])


def test_division_by_the_lowest_integer() -> None:
    """``abs(-128)`` is -128 in int8."""
    one, lowest = np.array(1, np.int8), np.array(-128, np.int8)
    check_law(lambda b, v: b.div(v[0], v[1]), [one, lowest])
    check_law(lambda b, v: b.div(v[0], v[1]), [lowest, np.array(3, np.int8)])
