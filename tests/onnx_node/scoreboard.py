"""ONNX's own node tests as a scoreboard: which ops import and compute what the standard expects.

A case that fails to import only because a parameter (a shape, axes, a scale) is a run-time input
is tried again with inputs as initializers, which is how models give parameters.
"""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, numpy_helper
from xdsl.dialects.builtin import ModuleOp

from tests.memory_cache import MemoryCache
from uqfc.dialects.tensors import Array, numpy_dtype, type_of
from uqfc.errors import UnsupportedError
from uqfc.frontend import import_onnx
from uqfc.interpreter import main_function
from uqfc.model import Keeping, build
from uqfc.pipeline import graph_passes, integer_passes, run_passes
from uqfc.targets import host_target

Runner: TypeAlias = Callable[[ModuleOp, Mapping[str, Array]], Mapping[str, Array]]
"""Computes the outputs of an imported module by name."""

KERNELS = Keeping(MemoryCache())
"""Cases are of few kernels: each is compiled once."""


def compile_and_run(module: ModuleOp, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
    """The compiled model's outputs, which must be the interpreter's to the bit (NaN payloads and
    signs excepted: the contract does not define them)."""
    run_passes(module, [*graph_passes(), *integer_passes()])
    model = build(module, host_target(), "host", "case", "float32", keeping=KERNELS)
    outputs = model.run(inputs)
    for name, reference in model.reference(inputs).items():
        numbers = reference.dtype.kind == "f"
        assert np.array_equal(outputs[name], reference, equal_nan=numbers), f"{name}: bits differ"
    return outputs


@dataclass(frozen=True)
class Outcome:
    """``status`` is passed, constant (passed, but all inputs had to be constants), unsupported or
    failed; ``detail`` says why it did not pass."""

    case: str
    op: str
    status: str
    detail: str = ""


@dataclass
class Row:
    """Number of cases of one op by status."""

    passed: int = 0
    constant: int = 0
    unsupported: int = 0
    failed: list[Outcome] = field(default_factory=list[Outcome])


def collect() -> list[Any]:
    """Every node test of the installed onnx; fresh models, with inputs and expected outputs."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases  # slow: generates all the data

        return list(collect_testcases(None))


def op_names(cases: Iterable[Any]) -> dict[str, str]:
    """The op that each case is about; expanded cases are about that of the case they expand."""
    names = {c.name: c.model.graph.node[0].op_type for c in cases if len(c.model.graph.node) == 1}
    result: dict[str, str] = {}
    for case in cases:
        base = re.sub(r"_expanded(_ver\d+)?$", "", case.name)
        result[case.name] = names.get(base, case.model.graph.node[-1].op_type)
    return result


def run_case(case: Any, op: str, runner: Runner) -> Outcome:
    """Import, run and compare one case."""
    inputs, expected = ([as_array(v) for v in values] for values in case.data_sets[0])
    try:
        module, given = import_case(case.model, inputs)
    except UnsupportedError as error:
        return Outcome(case.name, op, "unsupported", error.nodes[0].why)
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is a failure to report
        return Outcome(case.name, op, "failed", f"import: {type(error).__name__}: {error}")
    try:
        actual = runner(module, given)
        names = [o.name for o in case.model.graph.output]
        compare([actual[n] for n in names], expected, case.rtol, case.atol)
    except Exception as error:  # noqa: BLE001
        return Outcome(case.name, op, "failed", f"{type(error).__name__}: {error}")
    return Outcome(case.name, op, "passed" if given or not inputs else "constant")


def import_case(model: ModelProto, inputs: Sequence[Any]) -> tuple[ModuleOp, dict[str, Array]]:
    """The module and its inputs; parameters become initializers where they have to.

    First no input does, then all but the first, then all.
    """
    names = [i.name for i in model.graph.input]
    error: UnsupportedError | None = None
    for count in dict.fromkeys((len(names), 1, 0)):
        if count < len(names) and not all(is_tensor(v) for v in inputs):
            break
        given = dict(zip(names[:count], inputs, strict=False))
        shapes = {n: np.shape(v) for n, v in given.items() if is_tensor(v)}
        try:
            module = import_onnx(freeze(model, inputs, count), shapes)
        except UnsupportedError as reason:
            error = reason
            continue
        return module, in_dtypes(module, given)
    raise error or AssertionError("no attempt was made")


def as_array(value: Any) -> Any:
    """Tensors that onnx gives as protobuf become arrays."""
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else value


def is_tensor(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic)


def freeze(model: ModelProto, inputs: Sequence[Any], count: int) -> ModelProto:
    """The model with inputs from number ``count`` on as initializers."""
    if count == len(inputs):
        return model
    copy = ModelProto()
    copy.CopyFrom(model)
    rest = list(copy.graph.input)[count:]
    del copy.graph.input[count:]
    for info, value in zip(rest, inputs[count:], strict=True):
        tensor = numpy_helper.from_array(np.asarray(value), info.name)
        tensor.data_type = info.type.tensor_type.elem_type
        copy.graph.initializer.append(tensor)
    return copy


def in_dtypes(module: ModuleOp, values: Mapping[str, Any]) -> dict[str, Array]:
    """The values in the dtypes that the module takes."""
    arguments = main_function(module).body.block.args
    converted: dict[str, Array] = {}
    for argument, (name, value) in zip(arguments, values.items(), strict=True):
        dtype = numpy_dtype(type_of(argument).get_element_type())
        with np.errstate(all="ignore"):
            converted[name] = np.asarray(value).astype(dtype)
    return converted


def compare(actual: Sequence[Array], expected: Sequence[Any], rtol: float, atol: float) -> None:
    """AssertionError unless all are within the case's tolerance; integers must be equal.

    Expected values of shorter types were rounded to these at every step, ours only to float32:
    they get a tolerance of four units in the last place.
    """
    for a, wanted in zip(actual, expected, strict=True):
        array = np.asarray(wanted)
        assert a.shape == array.shape, f"shape {a.shape}, expected {array.shape}"
        if array.dtype.kind in "iub":
            np.testing.assert_array_equal(a, array)
            continue
        limit = max(rtol, precision(array))
        np.testing.assert_allclose(
            a.astype(np.float64), array.astype(np.float64), rtol=limit, atol=atol
        )


def precision(array: Array) -> float:
    """Four times the distance from 1 to the next number of a type shorter than float32, else 0."""
    if array.dtype.itemsize > 2:
        return 0.0
    return 2.0**-8 if array.dtype == np.float16 else 2.0**-5


def tally(outcomes: Iterable[Outcome]) -> dict[str, Row]:
    """Outcomes by op, in alphabetical order."""
    rows: dict[str, Row] = defaultdict(Row)
    for outcome in outcomes:
        row = rows[outcome.op]
        if outcome.status == "failed":
            row.failed.append(outcome)
        else:
            setattr(row, outcome.status, getattr(row, outcome.status) + 1)
    return dict(sorted(rows.items()))


def markdown(rows: Mapping[str, Row]) -> str:
    """The scoreboard as the text of ``docs/onnx-support.md``."""
    supported = {op: r for op, r in rows.items() if r.passed or r.constant or r.failed}
    others = [op for op in rows if op not in supported]
    passed = sum(r.passed for r in rows.values())
    constant = sum(r.constant for r in rows.values())
    unsupported = sum(r.unsupported for r in rows.values())
    lines = [
        "# ONNX operators",
        "",
        f"Written by `tests/onnx_node/` from the node tests of onnx {onnx.__version__}; a test",
        "keeps it up to date. A case counts as *passed* if it imports, runs and agrees with the",
        "standard's expected outputs within the standard's tolerance, and as *unsupported* if the",
        "import says so in a clear error. None may fail. Parameters such as shapes and axes are",
        "given as initializers where the case has them as inputs; *constant* are cases that pass",
        "only if all inputs are, so that the import evaluates the op.",
        "",
        f"Passed: {passed}. Constant: {constant}. Unsupported: {unsupported}.",
        "",
        "| op | passed | constant | unsupported |",
        "|---|---:|---:|---:|",
    ]
    lines += [
        f"| {op} | {row.passed} | {row.constant} | {row.unsupported} |"
        for op, row in supported.items()
    ]
    lines += ["", "Not supported at all: " + ", ".join(others) + ".", ""]
    return "\n".join(lines)
