"""The ordered pipelines. The module is verified after every pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass, PassPipeline
from xdsl.utils.exceptions import ArgSpecParseError, VerifyException

from uqfc.codegen.pack_weights import PackWeightsPass
from uqfc.codegen.place_concats import PlaceConcatsPass
from uqfc.codegen.select_kernels import SelectKernelsPass, Tuner
from uqfc.errors import UqfcError
from uqfc.passes import all_passes
from uqfc.passes.canonicalize_weights import CanonicalizeWeightsPass
from uqfc.passes.convert_to_float8 import ConvertToFloat8Pass
from uqfc.passes.convert_to_integer import ConvertToIntegerPass
from uqfc.passes.form_kernels import FormKernelsPass
from uqfc.passes.nest_concats import NestConcatsPass
from uqfc.passes.plan_memory import PlanMemoryPass
from uqfc.passes.support.verifying import Verifier
from uqfc.passes.transpose_before_quantize import TransposeBeforeQuantizePass

GRAPH_PASSES = (
    "fold-constants",
    "recognize-idioms",
    "recognize-layer-norm",
    "sink-transposes",
    "canonicalize-reshapes",
    "fold-padding",
    "fold-batch-norm",
    "fuse-activation",
    "fuse-residual",
    "fuse-activation",
    "eliminate-dead-code",
)
"""On the float graph, before any quantize point is placed: fusion decides where values round."""

Trace = Callable[[str, ModuleOp], None]
"""Called with a pass's name and the module after it."""


def run_passes(
    module: ModuleOp,
    passes: Iterable[ModulePass],
    trace: Trace | None = None,
    verifier: Verifier | None = None,
) -> None:
    """Apply the passes in order, verifying after each; a VerifyException notes the pass.

    A ``verifier`` that has seen the module before has less to do.
    """
    context = Context()
    verifier = verifier or Verifier()
    for each in passes:
        each.apply(context, module)
        try:
            verifier.verify(module)
        except VerifyException as error:
            error.add_note(f"after the pass '{each.name}'")
            raise
        if trace is not None:
            trace(each.name, module)


def named_passes(names: Sequence[str]) -> list[ModulePass]:
    """Passes with default options by name. UqfcError for an unknown name."""
    known = all_passes()
    for name in names:
        if name not in known:
            raise UqfcError(f"unknown pass '{name}'; known: {', '.join(sorted(known))}")
    return [known[name]()() for name in names]


def checked_pass(value: object) -> ModulePass:
    """A class in the place of an object is an easy mistake."""
    if not isinstance(value, ModulePass):
        raise UqfcError(f"pass pipeline: {value!r} is not an object of a ModulePass class")
    return value


def parse_pipeline(pipeline: str | Iterable[ModulePass]) -> list[ModulePass]:
    """The passes of ``"pass-a,pass-b{option=1}"``, or those given. UqfcError says what is wrong."""
    if not isinstance(pipeline, str):
        return [checked_pass(each) for each in pipeline]
    try:
        parsed = PassPipeline.parse_spec(all_passes(), pipeline)
    except (ValueError, ArgSpecParseError) as error:
        raise UqfcError(f"pass pipeline '{pipeline}': {error}") from error
    return list(parsed.passes)


def graph_passes(pipeline: str | Iterable[ModulePass] = "") -> list[ModulePass]:
    """All passes on the float graph; those of ``pipeline`` come last, and may leave dead ops."""
    added = parse_pipeline(pipeline)
    cleanup = named_passes(["eliminate-dead-code"]) if added else []
    return [*named_passes(GRAPH_PASSES), *added, *cleanup]


def integer_passes() -> list[ModulePass]:
    """From a graph with quantize points to the integer network that every target runs."""
    return [
        ConvertToFloat8Pass(),
        ConvertToIntegerPass(),
        CanonicalizeWeightsPass(),
        TransposeBeforeQuantizePass(),
    ]


def kernel_passes(target: str, tune: Tuner | None = None, threads: int = 1) -> list[ModulePass]:
    """From the integer network to placed kernels of a target (a name or the path of a table).

    ``tune`` measures which kernel is the fastest, where there are several; ``threads``: most
    threads of one run.
    """
    return [
        NestConcatsPass(),
        FormKernelsPass(),
        SelectKernelsPass(target, tune, threads),
        PackWeightsPass(target),
        PlaceConcatsPass(target, threads),
        PlanMemoryPass(),
    ]
