"""Functions, structured control flow and ``numerics.Arithmetic`` over ``vector`` values."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any

from uqfc.codegen import tails
from uqfc.codegen.arithmetic import VectorArithmetic
from uqfc.codegen.elements import ELEMENTS, constant, round_to_float32
from uqfc.codegen.isa import Isa
from uqfc.codegen.llvm import ir
from uqfc.codegen.vector import Pointer, Value


def new_module(isa: Isa, name: str) -> Any:
    """An empty LLVM module for ``isa``."""
    module: Any = ir.Module(name=name, context=ir.Context())
    module.triple = isa.triple
    return module


def find_function(module: Any, name: str) -> Any | None:
    """The function of that name if the module has it."""
    return module.globals.get(name)


def _kinds(parameters: Mapping[str, str]) -> list[Any]:
    """LLVM types of ``Builder.function``'s parameters."""
    return [
        ir.PointerType() if kind in {"ptr", "noalias"} else ELEMENTS[kind]
        for kind in parameters.values()
    ]


class Builder(VectorArithmetic):
    """Emits one function. ``ir`` is the llvmlite builder, positioned at its end.

    Implements ``numerics.Arithmetic`` on float32 ``Value``s of any lanes.
    """

    def __init__(self, function: Any, isa: Isa) -> None:
        self.llvm_function: Any = function
        self.isa = isa
        self.module: Any = function.module
        self._entry = function.append_basic_block("entry")
        self.ir: Any = ir.IRBuilder(function.append_basic_block("body"))
        self._arguments = {a.name: a for a in function.args}

    @staticmethod
    def function(
        module: Any,
        isa: Isa,
        name: str,
        *,
        internal: bool = False,
        returns: str | None = None,
        **parameters: str,
    ) -> Builder:
        """Starts a new function.

        A parameter is an element type, ``"ptr"``, or ``"noalias"``: a pointer to memory that is
        written and that no other parameter reaches. ``internal`` functions are not exported.
        """
        kinds = _kinds(parameters)
        result = ir.VoidType() if returns is None else ELEMENTS[returns]
        function: Any = ir.Function(module, ir.FunctionType(result, kinds), name)
        function.attributes.add("nounwind")
        if internal:
            function.linkage = "internal"
            function.attributes.add("noinline")
        for argument, (label, parameter) in zip(function.args, parameters.items(), strict=True):
            argument.name = label
            if parameter == "noalias":
                argument.add_attribute("noalias")
        return Builder(function, isa)

    # --- arguments, constants, calls -----------------------------------------------------------

    def value(self, name: str) -> Value:
        """The scalar parameter of that name."""
        return Value(self, self._arguments[name])

    def pointer(self, name: str) -> Pointer:
        """The pointer parameter of that name."""
        return Pointer(self, self._arguments[name])

    def argument(self, name: str) -> Value | Pointer:
        """The parameter of that name."""
        ir_value = self._arguments[name]
        is_pointer = isinstance(ir_value.type, ir.PointerType)
        return Pointer(self, ir_value) if is_pointer else Value(self, ir_value)

    def constant(self, element: str, value: float, lanes: int = 0) -> Value:
        """``value`` (rounded to float32 where it is a float) in every lane."""
        number = round_to_float32(value) if element == "f32" else int(value)
        return Value(self, constant(element, lanes, [number] * (lanes or 1)))

    def f32(self, value: float, lanes: int = 0) -> Value:
        return self.constant("f32", value, lanes)

    def i32(self, value: int, lanes: int = 0) -> Value:
        return self.constant("i32", value, lanes)

    def i64(self, value: int) -> Value:
        return self.constant("i64", value)

    def vector(self, element: str, values: Sequence[float]) -> Value:
        """A constant vector."""
        numbers = [round_to_float32(v) if element == "f32" else int(v) for v in values]
        return Value(self, constant(element, len(numbers), numbers))

    def call(self, function: Any, *arguments: Value | Pointer | float) -> Value | None:
        """Calls an ``ir.Function``; numbers take the type of the parameter."""
        operands = [
            ir.Constant(parameter, round_to_float32(a) if isinstance(a, float) else a)
            if isinstance(a, int | float)
            else a.ir
            for a, parameter in zip(arguments, function.function_type.args, strict=True)
        ]
        result = self.ir.call(function, operands)
        return None if isinstance(result.type, ir.VoidType) else Value(self, result)

    def call_with(self, function: Any, changed: Mapping[str, Value | Pointer]) -> None:
        """Calls ``function`` with this one's parameters of the same names but for ``changed``."""
        self.call(function, *self._passed([argument.name for argument in function.args], changed))

    def call_through(
        self, name: str, parameters: Mapping[str, str], changed: Mapping[str, Value | Pointer]
    ) -> None:
        """``call_with`` of the function with ``parameters`` that the pointer ``name`` points to."""
        callee = copy(self._arguments[name])
        callee.type = ir.PointerType(ir.FunctionType(ir.VoidType(), _kinds(parameters)))
        self.ir.call(callee, [argument.ir for argument in self._passed(parameters, changed)])

    def _passed(
        self, names: Iterable[str], changed: Mapping[str, Value | Pointer]
    ) -> list[Value | Pointer]:
        """This function's parameters of these names but for ``changed``."""
        return [changed[name] if name in changed else self.argument(name) for name in names]

    def intrinsic(self, name: str, result: Any, *arguments: Value) -> Value:
        """Calls the LLVM intrinsic of that full name, ``llvm.sqrt.v16f32``."""
        operands = [a.ir for a in arguments]
        kind = ir.FunctionType(result, [o.type for o in operands])
        function = self.module.globals.get(name) or ir.Function(self.module, kind, name)
        return Value(self, self.ir.call(function, operands))

    def intrinsic_void(self, name: str, *arguments: Value) -> None:
        """``intrinsic`` without a result."""
        self.intrinsic(name, ir.VoidType(), *arguments)

    def load_first(self, source: Pointer, element: str, count: Value | int, lanes: int) -> Value:
        """See ``Pointer.load_first``."""
        return tails.load_first(self, source, element, count, lanes)

    def store_first(self, target: Pointer, value: Value, count: Value | int) -> None:
        """See ``Pointer.store_first``."""
        tails.store_first(self, target, value, count)

    def address_of(self, function: Any | None) -> Pointer:
        """Of an ``ir.Function``; the null pointer without one."""
        return Pointer(self, ir.Constant(ir.PointerType(), None) if function is None else function)

    def stack(self, size: int, align: int = 64) -> Pointer:
        """``size`` bytes of the stack frame."""
        with self.ir.goto_block(self._entry):
            slot = self.ir.alloca(ELEMENTS["i8"], ELEMENTS["i32"](size))
            slot.align = align
            slot.type = ir.PointerType()
        return Pointer(self, slot)

    def ret(self, value: Value | int | None = None) -> Any:
        """Returns, and ends the function; gives the ``ir.Function``."""
        if value is None:
            self.ir.ret_void()
        else:
            kind = self.llvm_function.function_type.return_type
            self.ir.ret(value.ir if isinstance(value, Value) else kind(value))
        body = self.llvm_function.blocks[1]
        ir.IRBuilder(self._entry).branch(body)
        return self.llvm_function

    # --- control flow --------------------------------------------------------------------------

    @contextmanager
    def loop(
        self,
        start: Value | int,
        stop: Value | int,
        step: Value | int = 1,
        carry: list[Value] | list[Pointer] | None = None,
    ) -> Generator[Value]:
        """``for i in range(start, stop, step)``, ``i`` an i64; may run zero times.

        ``carry`` is a list of values or pointers that the body may replace: inside the loop, and
        after it, the list holds the values of that point.
        """
        last, increment = self._i64(stop), self._i64(step)
        state: list[Any] = carry if carry is not None else []
        both: list[Any] = [self._i64(start), *state]
        with self.while_loop(lambda: both[0].lt(last), both):
            index: Value = both[0]
            state[:] = both[1:]
            yield index
            both[:] = [index + increment, *state]
        state[:] = both[1:]

    @contextmanager
    def while_loop(
        self, condition: Callable[[], Value], carry: list[Any]
    ) -> Generator[None, None, None]:
        """Runs the body as long as ``condition()`` of the carried values is true; see ``loop``."""
        kinds: list[Any] = [type(s) for s in carry]
        before = self.ir.block
        header = self.llvm_function.append_basic_block("while")
        body = self.llvm_function.append_basic_block("while.body")
        done = self.llvm_function.append_basic_block("while.end")
        self.ir.branch(header)
        self.ir.position_at_end(header)
        phis = [self._phi(s.ir, before) for s in carry]
        carried = [kind(self, phi) for kind, phi in zip(kinds, phis, strict=True)]
        carry[:] = carried
        self.ir.cbranch(condition().ir, body, done)
        self.ir.position_at_end(body)
        yield
        for phi, value in zip(phis, carry, strict=True):
            phi.add_incoming(value.ir, self.ir.block)
        self.ir.branch(header)
        self.ir.position_at_end(done)
        carry[:] = carried

    def _phi(self, initial: Any, block: Any) -> Any:
        phi = self.ir.phi(initial.type)
        phi.add_incoming(initial, block)
        return phi

    def _i64(self, value: Value | int) -> Value:
        return value if isinstance(value, Value) else self.i64(value)

    @contextmanager
    def when(self, condition: Value) -> Generator[None]:
        """Runs the body if the scalar i1 is true."""
        with self.ir.if_then(condition.ir):
            yield

    @contextmanager
    def if_else(self, condition: Value) -> Generator[tuple[Any, Any]]:
        """``with b.if_else(c) as (then, other):`` and in it ``with then:`` … ``with other:`` …"""
        with self.ir.if_else(condition.ir) as branches:
            yield branches

    def select(self, condition: Value, then: Any, other: Any) -> Any:
        """Per lane for a vector condition; ``then`` and ``other`` have the same type."""
        return type(then)(self, self.ir.select(condition.ir, then.ir, other.ir))
