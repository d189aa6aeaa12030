"""What is trained: the fused network with its quantize points, and what is known of each layer.

The network is the compiler's: imported from the program that ``torch.export`` captured, put through
the same fusion passes, with ``quant.observe`` where values will be rounded. Training evaluates it,
and exporting replaces its constants and its points by what was learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from glob import escape
from typing import Any, cast

from xdsl.context import Context
from xdsl.dialects.builtin import Builtin, DenseIntOrFPElementsAttr, ModuleOp
from xdsl.dialects.func import Func, FuncOp
from xdsl.parser import Parser
from xdsl.rewriter import InsertPoint, Rewriter
from xdsl.utils.exceptions import ParseError, VerifyException

from uqfc.calibrate import name_layers
from uqfc.dialects import nn
from uqfc.dialects.opaque import Opaque
from uqfc.dialects.quant import ObserveOp, Quant
from uqfc.dialects.quant.decisions import Decision, Reason, decisions_in, set_decision
from uqfc.dialects.tensors import shape_of, type_of
from uqfc.errors import UqfcError
from uqfc.frontend.torch import LayerOrigin
from uqfc.interpreter import main_function
from uqfc.passes.eliminate_dead_code import EliminateDeadCodePass
from uqfc.passes.insert_observers import InsertObserversPass
from uqfc.passes.quantize_weights import SYMMETRIC, WEIGHT_TYPES, WeightType
from uqfc.passes.support.quantizable import LAYERS
from uqfc.pipeline import graph_passes, run_passes
from uqfc.qat.options import LayerOptions, Options
from uqfc.qat.points import Point, points_of
from uqfc.targets import Target, load_target


@dataclass(frozen=True)
class PlannedLayer:
    """A layer that is quantized; its scales are ``[start, start + count)`` of all weights'."""

    op: nn.Layer
    origin: LayerOrigin
    options: LayerOptions
    kind: WeightType
    decision: Decision
    start: int
    count: int

    @property
    def name(self) -> str:
        return self.op.layer


@dataclass(frozen=True)
class HeldParameter:
    """A parameter or buffer that is not trained: the calls that use it, and its SHA-256."""

    use: str
    digest: str


@dataclass(frozen=True)
class Plan:
    """The network, its points by name, its layers by name, and what stays float32 and why.

    ``origins``: the parameters of all layers, quantized or not. ``constants``: parameters and
    buffers that are used in another way, whose values are part of the network. ``kept``: the
    modules that PyTorch computes, by path, and why. ``target``: the name or path of the backend's
    table.
    """

    module: ModuleOp
    origins: Mapping[str, LayerOrigin]
    points: Mapping[str, Point]
    layers: Mapping[str, PlannedLayer]
    floats: Mapping[str, str]
    options: Options
    target: str
    constants: Mapping[str, HeldParameter] = field(default_factory=dict[str, HeldParameter])
    kept: Mapping[str, str] = field(default_factory=dict[str, str])

    def __deepcopy__(self, memo: object) -> Plan:
        """Nothing in it changes."""
        return self

    def __reduce__(self) -> tuple[object, ...]:
        return restored_plan, (self.document(),)

    def document(self) -> dict[str, Any]:
        """All of the plan as JSON values: ``restored_plan`` is the inverse."""
        return {
            "network": str(self.module),
            "layers": {name: asdict(origin) for name, origin in self.origins.items()},
            "options": self.options.document(),
            "target": self.target,
            "constants": {name: asdict(held) for name, held in self.constants.items()},
            "kept": dict(self.kept),
        }

    @property
    def function(self) -> FuncOp:
        return main_function(self.module)

    def point_of(self, layer: PlannedLayer) -> Point:
        """The point that a layer reads."""
        owner = layer.op.x.owner
        assert isinstance(owner, ObserveOp)
        return self.points[owner.point.data]

    @property
    def decisions(self) -> dict[str, Decision]:
        """Of every layer by name: the weight type that was asked for, what it has, and why."""
        return dict(decisions_in(self.module))

    @property
    def scales(self) -> int:
        """How many scales the weights have."""
        return sum(layer.count for layer in self.layers.values())


def fuse(module: ModuleOp) -> None:
    """Fuse, name layers and place quantize points, as the compiler does."""
    run_passes(module, graph_passes())
    name_layers(module)
    run_passes(module, [InsertObserversPass()])


def make_plan(
    module: ModuleOp, origins: Mapping[str, LayerOrigin], options: Options, target: Target
) -> Plan:
    """Decide the types of a fused network. UqfcError for a pattern without a layer.

    The constants of layers are the model's parameters: the plan holds zeros in their place.
    """
    for op in module.walk():
        if isinstance(op, LAYERS) and op.layer in origins:
            clear(op)
    run_passes(module, [EliminateDeadCodePass()])
    return planned(module, origins, options, target)


def clear(op: nn.Layer) -> None:
    """Zeros for the layer's weight and bias."""
    for value in (op.weight, op.bias):
        if value is not None:
            zeros = DenseIntOrFPElementsAttr.from_list(cast(Any, type_of(value)), [0.0])
            constant = nn.ConstantOp.create(properties={"value": zeros}, result_types=[value.type])
            Rewriter.insert_op(constant, InsertPoint.before(op))
            value.replace_uses_with_if(constant.result, lambda use: use.operation is op)


class PlanParser(Parser):
    """Names need not be ASCII: what is printed of others is read as bytes."""

    def parse_optional_str_literal(self) -> str | None:
        text = super().parse_optional_str_literal()
        if text is None and (data := self.parse_optional_bytes_literal()) is not None:
            return data.decode()
        return text


def restored_plan(document: Mapping[str, Any]) -> Plan:
    """The plan of ``Plan.document``. UqfcError if it is not one."""
    try:
        context = Context()
        for dialect in (Builtin, Func, nn.Nn, Opaque, Quant):
            context.load_dialect(dialect)
        module = PlanParser(context, document["network"]).parse_module()
        module.verify()
        origins = {name: LayerOrigin(**origin) for name, origin in document["layers"].items()}
        options, target = Options.restored(document["options"]), str(document["target"])
        constants = {name: HeldParameter(**held) for name, held in document["constants"].items()}
        kept = {str(path): str(why) for path, why in document["kept"].items()}
    except (AttributeError, KeyError, TypeError, ValueError, ParseError, VerifyException) as error:
        raise UqfcError(f"state of a QatModel: not what uqfc saves: {error!r}") from None
    plan = planned(module, origins, options, load_target(target))
    return replace(plan, target=target, constants=constants, kept=kept)


def retyped(plan: Plan, dtypes: Mapping[str, str], target: Target) -> Plan:
    """The plan with other weight types of quantized layers, by name; all else stays.

    UqfcError for a layer that is not quantized, or a type that has no levels.
    """
    layers = {name: dict(change) for name, change in plan.options.layers.items()}
    for name, dtype in dtypes.items():
        if name not in plan.layers:
            known = ", ".join(plan.layers)
            raise UqfcError(f"no layer '{name}' is quantized; layers: {known}")
        if dtype not in SYMMETRIC:
            raise UqfcError(f"layer '{name}': {dtype!r}; accepted: {', '.join(SYMMETRIC)}")
        literal = escape(name)
        layers[literal] = {**layers.pop(literal, {}), "weight_dtype": dtype}
    options = replace(plan.options, layers=layers)
    found = planned(plan.module.clone(), plan.origins, options, target)
    return replace(found, target=plan.target, constants=plan.constants, kept=plan.kept)


def planned(
    module: ModuleOp, origins: Mapping[str, LayerOrigin], options: Options, target: Target
) -> Plan:
    """The plan of a network that has its quantize points."""
    floats: dict[str, str] = {}
    layers: dict[str, PlannedLayer] = {}
    ops = [op for op in module.walk() if isinstance(op, LAYERS)]
    check_patterns(options, [op.layer for op in ops])
    start = 0
    for op in ops:
        choice = options.of(op.layer)
        origin = origins.get(op.layer)
        if origin is None or not isinstance(op.x.owner, ObserveOp):
            floats[op.layer] = "its weights are computed" if origin is None else "not quantizable"
            set_decision(op, Decision(choice.weight_dtype, "float32", Reason.NO_KERNEL))
            continue
        if choice.weight_dtype == "float32":
            floats[op.layer] = "requested"
            set_decision(op, Decision("float32", "float32", Reason.REQUESTED))
            continue
        decision = decide(choice.weight_dtype, target)
        set_decision(op, decision)
        count = shape_of(op.weight)[0] if choice.per_channel else 1
        symmetric = SYMMETRIC[decision.chosen] if choice.symmetric is None else choice.symmetric
        kind = WEIGHT_TYPES[decision.chosen, symmetric]
        layers[op.layer] = PlannedLayer(op, origin, choice, kind, decision, start, count)
        start += count
    readers = {name: layer.options for name, layer in layers.items()}
    points = points_of(module, readers, symmetric=options.activation_symmetric)
    return Plan(module, dict(origins), points, layers, floats, options, target.name)


def decide(requested: str, target: Target) -> Decision:
    """INT8 where the target lacks what was asked for."""
    if requested in target.weight_dtypes:
        return Decision(requested, requested, Reason.REQUESTED)
    return Decision(requested, "int8", Reason.UNSUPPORTED_BY_TARGET)


def check_patterns(options: Options, names: list[str]) -> None:
    """UqfcError for a pattern of the configuration that no layer's name matches."""
    for pattern in options.layers:
        if not any(fnmatchcase(name, pattern) for name in names):
            known = ", ".join(names)
            raise UqfcError(f"config: layers: no layer matches '{pattern}'; layers: {known}")
