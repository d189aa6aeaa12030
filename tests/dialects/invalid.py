"""What the tests of verifier messages share: one invalid op as text, and the message it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import Builtin
from xdsl.dialects.func import Func
from xdsl.dialects.test import Test
from xdsl.parser import Parser

from uqfc.dialects.nn import Nn
from uqfc.dialects.opaque import Opaque
from uqfc.dialects.qkernel import Qkernel
from uqfc.dialects.qnn import Qnn
from uqfc.dialects.quant import Quant


@dataclass(frozen=True)
class Invalid:
    """``op`` may use %0, %1, … which have the types ``operands``; it must be refused."""

    message: str
    op: str
    operands: Sequence[str] = ()

    @property
    def text(self) -> str:
        names = ", ".join(f"%{i}" for i in range(len(self.operands)))
        source = f'"test.op"() : () -> ({", ".join(self.operands)})'
        return f"{names} = {source}\n{self.op}" if self.operands else self.op


def verify_text(text: str) -> None:
    """Parse and verify."""
    ctx = Context()
    for dialect in (Builtin, Func, Test, Nn, Opaque, Qkernel, Qnn, Quant):
        ctx.load_dialect(dialect)
    Parser(ctx, text).parse_module().verify()


def f32(*shape: int) -> str:
    return tensor(*shape, element="f32")


def tensor(*shape: int, element: str) -> str:
    return f"tensor<{'x'.join([*map(str, shape), element])}>"
