"""``torch.export`` → ``nn``: walks the graph in order and lets the converters do the calls."""

from __future__ import annotations

from typing import Any

from torch.export import ExportedProgram
from torch.fx import Node
from xdsl.ir import Attribute, Block, SSAValue
from xdsl.utils.exceptions import VerifyException

from uqfc.dialects.tensors import tensor_type
from uqfc.errors import ModelError, UnsupportedError, UnsupportedNode
from uqfc.frontend.builder import Builder
from uqfc.frontend.finishing import hint, main_function
from uqfc.frontend.torch.call import Call
from uqfc.frontend.torch.evaluation import NO_CONVERTER, Results, evaluated, is_aten
from uqfc.frontend.torch.layers import layer_names, layer_origins, module_of, other_uses
from uqfc.frontend.torch.network import TorchNetwork, UnsupportedCall
from uqfc.frontend.torch.opaque import imported, is_opaque
from uqfc.frontend.torch.ops import CONVERTERS
from uqfc.frontend.torch.program import (
    ELEMENTS,
    EXACT,
    Program,
    arguments_of,
    as_constant,
    defaults_of,
    dtype_of,
    is_part,
    op_name,
    overload_name,
    read_program,
    shapes_of,
)
from uqfc.frontend.values import Constant, Quantized, UnsupportedUseError, Value, dims, kind

MOVES = frozenset(name for name, each in CONVERTERS.items() if each.moves)


def import_torch(program: ExportedProgram, source: str = "module") -> TorchNetwork:
    """A network that computes what the exported module computes; ``source`` is what messages call
    it. The program is ``torch.export.export(module.eval(), (example,))``, whose shapes are kept.

    Raises UnsupportedError with all calls that cannot be imported (as ``UnsupportedCall``),
    ModelError if the program is inconsistent or too large.
    """
    importer = Importer(read_program(program, source), source)
    network = importer.run()
    if importer.failed:
        raise UnsupportedError(importer.failed, source)
    assert network is not None
    return network


def unsupported_modules(program: ExportedProgram, source: str = "module") -> list[UnsupportedCall]:
    """The calls that ``import_torch`` would refuse, with the modules that make them."""
    importer = Importer(read_program(program, source), source)
    importer.run()
    return importer.failed


class Importer:
    """The state of one import: values by their node, the builder, what went wrong."""

    def __init__(self, program: Program, source: str) -> None:
        self.program = program
        self.source = source
        self.names = layer_names(program.calls, MOVES)
        self.values: dict[Node, Results] = {}
        self.failed: list[UnsupportedCall] = []
        self.retyped: dict[str, None] = {}

    def run(self) -> TorchNetwork | None:
        """Convert every call; None if some could not be."""
        block = Block()
        for node, name in self.program.inputs.items():
            block.insert_arg(self._input_type(node, name), len(block.args))
            block.args[-1].name_hint = hint(name)
            self.values[node] = block.args[-1]
        builder = Builder(block)
        for node in self.program.nodes:
            if node in self.names:
                self._convert(node, builder)
            elif is_part(node):
                self._part(node)
        return None if self.failed else self._finish(block, builder)

    def _input_type(self, node: Node, name: str) -> Attribute:
        dtype, (shape,) = dtype_of(node), shapes_of(node)
        why = ""
        if dtype not in ELEMENTS:
            why = f"elements of type {dtype} are not supported"
        elif -1 in shape:
            why = f"dimension {shape.index(-1)} is dynamic; export the module with static shapes"
        if why:
            raise UnsupportedError([UnsupportedNode(name, "input", why)], self.source)
        self._note_type(f"input {name}", node)
        return tensor_type(shape, ELEMENTS[dtype])  # pyright: ignore[reportArgumentType] # a key

    def _convert(self, node: Node, builder: Builder) -> None:
        builder.layer = self.names[node]
        try:
            self.values[node] = self._results(node, builder)
        except Unavailable:
            return
        except UnsupportedUseError as error:
            self._fail(node, str(error))
        except (ModelError, VerifyException) as error:
            where = f"{self.source}: {overload_name(node)} '{builder.layer}'"
            raise ModelError(f"{where}: {error}") from None

    def _fail(self, node: Node, why: str) -> None:
        _, path, kind_ = module_of(node)
        call = UnsupportedCall(self.names[node], overload_name(node), why, path, kind_)
        self.failed.append(call)

    def _results(self, node: Node, builder: Builder) -> Results:
        """What the call computes; Unavailable if an argument depends on a call that failed."""
        if is_opaque(node):
            return self._opaque(node, builder)
        converter = CONVERTERS.get(op_name(node))
        if converter is None or not is_aten(node):
            return self._evaluated(node)
        arguments = {n: self._argument(v) for n, v in arguments_of(node).items()}
        dtype = dtype_of(node)
        if dtype not in ELEMENTS:
            raise UnsupportedUseError(f"a result of elements {dtype} is not supported")
        defaults = defaults_of(node)
        call = Call(op_name(node), builder.layer, arguments, defaults, ELEMENTS[dtype])
        outputs = converter.convert(call, builder)
        call.check_all_read()
        single = isinstance(outputs, SSAValue | Constant | Quantized)
        values: list[Value] = [outputs] if single else list(outputs)
        check_shapes(node, values)
        for value in values:
            if isinstance(value, SSAValue) and value.name_hint is None:
                value.name_hint = hint(node.name)
        return values[0] if single else values

    def _opaque(self, node: Node, builder: Builder) -> Results:
        inputs: list[Value] = [self._argument(each) for each in arguments_of(node)["inputs"]]
        return imported(node, inputs, builder)

    def _evaluated(self, node: Node) -> Results:
        try:
            return evaluated(node, self._operand)
        except Unavailable:
            raise UnsupportedUseError(NO_CONVERTER) from None

    def _argument(self, value: Any) -> Any:
        if isinstance(value, Node):
            return self._operand(value)
        if isinstance(value, list | tuple):
            return [self._argument(v) for v in value]
        return value

    def _operand(self, node: Node) -> Results:
        """The value of a node that a call reads."""
        dtype = dtype_of(node)
        if node in self.program.constants and dtype not in ELEMENTS:
            name = self.program.constants[node]
            raise UnsupportedUseError(f"'{name}' has elements of type {dtype}")
        return self._value(node)

    def _value(self, node: Node) -> Results:
        """The value of a node; constants are read when they are first used."""
        if node not in self.values:
            if node not in self.program.constants:
                raise Unavailable
            name = self.program.constants[node]
            self.values[node] = as_constant(self.program.tensors[name], f"'{name}'")
            self._note_type("constants", node)
        return self.values[node]

    def _part(self, node: Node) -> None:
        """``results[index]`` of a call with several results."""
        source, index = node.args
        assert isinstance(source, Node)
        assert isinstance(index, int)
        whole = self.values.get(source)
        if isinstance(whole, list) and index < len(whole):
            self.values[node] = whole[index]
        elif whole is not None:
            self._fail(source, f"its result {index} cannot be used")

    def _note_type(self, what: str, node: Node) -> None:
        dtype = dtype_of(node)
        if dtype not in EXACT and dtype in ELEMENTS:
            name = str(dtype).removeprefix("torch.")
            self.retyped[f"{what}: {name} as {ELEMENTS[dtype]}"] = None

    def _finish(self, block: Block, builder: Builder) -> TorchNetwork:
        builder.layer = ""
        results: list[SSAValue] = []
        for name, node in self.program.outputs.items():
            value = self._value(node)
            assert not isinstance(value, list)
            results.append(builder.ssa(value))
            self._note_type(f"output {name}", node)
        attributes = {
            "input_names": list(self.program.inputs.values()),
            "output_names": list(self.program.outputs),
            "assumed_batch": [],
            "retyped": list(self.retyped),
        }
        module = main_function(block, results, attributes)
        origins = layer_origins(self.program)
        layers = {self.names[node]: origin for node, origin in origins.items()}
        return TorchNetwork(module, layers, other_uses(self.program, self.names, origins))


class Unavailable(Exception):  # noqa: N818 - it is no error, but a consequence of one
    """An argument depends on a call that could not be converted."""


def check_shapes(node: Node, values: list[Value]) -> None:
    """UnsupportedUseError unless the results have the shapes that torch inferred, and its type."""
    shapes = shapes_of(node)
    for value, shape in zip(values, shapes, strict=False):
        if dims(value) != shape:
            raise UnsupportedUseError(
                f"a result of shape {list(shape)} (of {list(dims(value))} as imported)"
            )
    dtype = dtype_of(node)
    if dtype is not None and kind(values[0]) != ELEMENTS[dtype]:
        raise UnsupportedUseError(f"a result of {dtype} (of {kind(values[0])} as imported)")
