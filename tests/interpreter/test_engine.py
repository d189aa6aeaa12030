from __future__ import annotations

import weakref
from collections.abc import Sequence

import numpy as np
import pytest
from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.dialects.test import TestOp as UnknownOp
from xdsl.ir import Block, Dialect, Operation, Region, SSAValue
from xdsl.traits import IsTerminator

from uqfc.dialects import nn
from uqfc.dialects.nn import Nn
from uqfc.dialects.qkernel import Qkernel
from uqfc.dialects.qnn import Qnn
from uqfc.dialects.quant import Quant
from uqfc.dialects.tensors import Array, tensor_type
from uqfc.errors import InputError
from uqfc.interpreter import CONTEXTUAL_MEANINGS, MEANINGS, Interpreter

X = np.arange(4, dtype=np.float32) - 1


def chain(length: int = 2) -> ModuleOp:
    """``length`` times ``nn.unary`` on a tensor of four."""
    block = Block(arg_types=[tensor_type((4,))])
    value: SSAValue = block.args[0]
    for _ in range(length):
        op = nn.UnaryOp(value, nn.fn("relu"))
        block.add_op(op)
        value = op.result
    return function(block, value)


def function(block: Block, *results: SSAValue) -> ModuleOp:
    block.add_op(ReturnOp(*results))
    types = ([a.type for a in block.args], [v.type for v in results])
    return ModuleOp([FuncOp("main", types, Region(block))])


def name_values(module: ModuleOp, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    (main,) = module.ops
    main.attributes["input_names"] = ArrayAttr([StringAttr(n) for n in inputs])
    main.attributes["output_names"] = ArrayAttr([StringAttr(n) for n in outputs])


@pytest.mark.parametrize("dialect", [Nn, Quant, Qnn, Qkernel], ids=lambda d: d.name)
def test_every_op_has_a_meaning(dialect: Dialect) -> None:
    known = {*MEANINGS, *CONTEXTUAL_MEANINGS}
    missing = [op for op in dialect.operations if op not in known]
    assert all(op.has_trait(IsTerminator) for op in missing), missing


def test_names_are_positions_unless_they_are_stated() -> None:
    module = chain()
    assert list(Interpreter().run(module, {"input0": X})) == ["output0"]
    name_values(module, ["x"], ["y"])
    assert np.array_equal(Interpreter().run(module, {"x": X})["y"], np.maximum(X, 0))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "input 'x' is missing; the model takes: x"),
        ({"x": X, "z": X}, "unknown input 'z'; the model takes: x"),
        ({"x": X[:2]}, r"input 'x' is float32 \[2\], the model takes float32 \[4\]"),
        ({"x": X.astype(np.float64)}, r"input 'x' is float64 \[4\], the model takes float32"),
    ],
)
def test_wrong_inputs(inputs: dict[str, Array], message: str) -> None:
    module = chain()
    name_values(module, ["x"], ["y"])
    with pytest.raises(InputError, match=message):
        Interpreter().run(module, inputs)


def test_wrong_number_of_names() -> None:
    module = chain()
    name_values(module, ["x", "z"], ["y"])
    with pytest.raises(ValueError, match="2 input name"):
        Interpreter().run(module, {"x": X})


def test_no_main() -> None:
    with pytest.raises(ValueError, match="no function @main"):
        Interpreter().run(ModuleOp([]), {})


def test_an_op_without_meaning_is_named() -> None:
    block = Block()
    op = UnknownOp(result_types=[tensor_type((4,))])
    block.add_op(op)
    with pytest.raises(NotImplementedError, match=r"'test\.op'"):
        Interpreter().run(function(block, op.results[0]), {})


def test_a_meaning_of_another_type_is_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MEANINGS, nn.UnaryOp, lambda op, x: x[:1])
    with pytest.raises(TypeError, match=r"meaning of nn\.unary"):
        Interpreter().run(chain(), {"input0": X})


def test_observe_sees_every_op_in_order() -> None:
    seen: list[str] = []

    def observe(op: Operation, results: Sequence[Array]) -> None:
        assert [r.shape for r in results] == [(4,)]
        seen.append(op.name)

    Interpreter(observe=observe).run(chain(3), {"input0": X})
    assert seen == ["nn.unary"] * 3


def test_values_are_released_after_their_last_use() -> None:
    alive: list[weakref.ref[Array]] = []
    most = 0

    def observe(op: Operation, results: Sequence[Array]) -> None:
        nonlocal most
        alive.append(weakref.ref(results[0]))
        most = max(most, sum(r() is not None for r in alive))

    Interpreter(observe=observe).run(chain(10), {"input0": X})
    assert most == 2


def test_fast_float_is_close_but_need_not_be_equal() -> None:
    random = np.random.default_rng(0)
    block = Block(arg_types=[tensor_type((8, 300))])
    weight = nn.ConstantOp(random.standard_normal((40, 300), dtype=np.float32))
    layer = nn.LinearOp(block.args[0], weight)
    block.add_ops([weight, layer])
    module = function(block, layer.result)
    x = random.standard_normal((8, 300), dtype=np.float32)
    exact = Interpreter().run(module, {"input0": x})["output0"]
    fast = Interpreter(fast_float=True).run(module, {"input0": x})["output0"]
    bound = 2 * 300 * 2.0**-24 * (np.abs(x) @ np.abs(weight.array).T)
    assert (np.abs(exact - fast) <= bound).all()
