"""What is printed reads back as the same bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xdsl.context import Context
from xdsl.dialects.builtin import Builtin, ModuleOp
from xdsl.ir import Attribute
from xdsl.parser import Parser
from xdsl.utils.exceptions import ParseError

from uqfc.dialects import nn
from uqfc.dialects.nn import Nn
from uqfc.dialects.tensors import ELEMENT_DTYPES, NARROW, Array


def read(text: str) -> nn.ConstantOp:
    ctx = Context()
    ctx.load_dialect(Builtin)
    ctx.load_dialect(Nn)
    module = Parser(ctx, text).parse_module()
    module.verify()
    (op,) = module.ops
    assert isinstance(op, nn.ConstantOp)
    return op


def assert_reads_back(value: Array, element: Attribute | None = None) -> None:
    op = nn.ConstantOp(value, element)
    nn.with_layer(op, "layer")
    text = str(ModuleOp([op]))
    again = read(text)
    assert again.value == op.value
    assert again.layer == "layer"
    assert again.array.tobytes() == np.ascontiguousarray(value, op.array.dtype).tobytes()
    assert str(ModuleOp([again.clone()])) == text


@given(st.lists(st.integers(0, 2**32 - 1), max_size=6))
def test_any_float(bits: list[int]) -> None:
    assert_reads_back(np.array(bits, np.uint32).view(np.float32))


@given(st.integers(-(2**24), 2**24))
def test_whole_floats(value: int) -> None:
    assert_reads_back(np.array([value, 0.5], np.float32))
    assert_reads_back(np.full((2, 2), value, np.float32))


@pytest.mark.parametrize("element", ELEMENT_DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (5,), (2, 2), (3, 70)])
def test_every_element_type(element: Attribute, shape: tuple[int, ...]) -> None:
    low, high = NARROW.get(element, (0, 7))
    value = (low + np.arange(np.prod(shape)) % (high - low + 1)).reshape(shape)
    assert_reads_back(value.astype(ELEMENT_DTYPES[element]), element)
    assert_reads_back(np.full(shape, 1, ELEMENT_DTYPES[element]), element)


def test_few_numbers_are_decimal_and_many_are_bytes() -> None:
    two = nn.ConstantOp(np.arange(2, dtype=np.float32))
    assert "dense<[0.000000e+00, 1.000000e+00]>" in str(two)
    assert 'dense<"0x' in str(nn.ConstantOp(np.arange(101, dtype=np.float32)))
    assert "dense<1.000000e+00>" in str(nn.ConstantOp(np.ones(101, np.float32)))


def test_a_constant_needs_a_dense_value() -> None:
    with pytest.raises(ParseError, match="takes a dense value"):
        read("%0 = nn.constant {value = 1 : i64} : tensor<1xi64>")
