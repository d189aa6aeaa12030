"""From a PyTorch module and a batch of its inputs to a plan with calibrated scales."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from uqfc.calibration import Observer, make_observer
from uqfc.errors import CalibrationError, UqfcError
from uqfc.frontend.torch import TorchNetwork, import_torch, stand_ins
from uqfc.passes.quantize_weights import usable_scales
from uqfc.passes.support.quantizable import LAYERS
from uqfc.passes.support.rewriting import constant_of
from uqfc.qat.estimators import Estimator
from uqfc.qat.float_ops import UntrainableError
from uqfc.qat.inputs import check_inputs, check_parameters
from uqfc.qat.layers import LayerModules
from uqfc.qat.options import Options
from uqfc.qat.partial import exported, module_of, modules_to_keep
from uqfc.qat.plan import HeldParameter, Plan, PlannedLayer, fuse, make_plan
from uqfc.qat.state import Quantization
from uqfc.qat.sums import FloatSums
from uqfc.qat.training import ForwardPass, Mode
from uqfc.qat.weights import initial_parameters
from uqfc.targets import Target

SAME = 2.0**-10
"""Float results may differ from the module's by that share of the largest: sums of some 2**10 terms
are added in another order, each rounded by 2**-24, through some ten layers."""


def capture(
    model: nn.Module, inputs: Sequence[Tensor], options: Options, target: Target, *, partial: bool
) -> Plan:
    """The plan of a module, captured by ``torch.export`` for one image of the inputs.

    ``partial``: modules that cannot be imported or trained stay float. Otherwise UnsupportedError
    lists what they call; UqfcError if the module cannot be captured or the plan computes something
    else.
    """
    check_inputs(inputs)
    check_parameters(model)
    kept: dict[str, str] = {}
    with evaluating(model):
        while True:
            try:
                return captured(model, inputs, options, target, kept, partial=partial)
            except UntrainableError as error:
                path = module_of(model, error.layer) if partial else ""
                while path in kept:  # it was not that: an op may have the name of a module
                    path = path.rpartition(".")[0]
                if not path:
                    raise
                kept[path] = error.why


def captured(
    model: nn.Module,
    inputs: Sequence[Tensor],
    options: Options,
    target: Target,
    kept: Mapping[str, str],
    *,
    partial: bool,
) -> Plan:
    """The plan if the modules ``kept`` stay float; UntrainableError if another one has to."""
    images = [tensor[:1].detach().contiguous() for tensor in inputs]
    kept = modules_to_keep(model, images, kept) if partial else kept
    with stand_ins(model, kept, images):
        program = exported(model, images)
    network = import_torch(program, type(model).__name__)
    constants = {
        name: HeldParameter(use, digest_of(held_tensor(model, name)))
        for name, use in network.parameters.items()
    }
    fuse(network.module)
    check_folds(model, network)
    plan = make_plan(network.module, network.layers, options, target)
    plan = replace(plan, constants=constants, kept=kept)
    check_same(model, plan, [tensor[:2].detach() for tensor in inputs])
    return plan


def check_folds(model: nn.Module, network: TorchNetwork) -> None:
    """UqfcError for a layer that took in more than its batch norm: training could not follow.

    What it is made of is rounded a few times by 2**-24 of its size, far below ``SAME``.
    """
    for op in network.module.walk():
        origin = network.layers.get(op.layer) if isinstance(op, LAYERS) else None
        if origin is None or not isinstance(op, LAYERS):
            continue
        folded = LayerModules(model, origin).folded(learned=False)
        bias = torch.zeros(len(folded.weight)) if folded.bias is None else folded.bias
        fused = constant_of(op.weight), constant_of(op.bias)
        for own, array in zip((folded.weight, bias), fused, strict=True):
            expected = own.detach().cpu().numpy()
            found = np.zeros_like(expected) if array is None else array
            limit = SAME * max(float(np.abs(expected).max()), float(np.abs(found).max()))
            if bool((np.abs(found - expected) > limit).any()):
                raise UntrainableError(
                    op.layer,
                    "a constant behind it is folded into its weights or bias; accepted: a batch "
                    "norm, or parameters of the layer itself",
                )


def held_tensor(model: nn.Module, name: str) -> Tensor:
    """The parameter or buffer of that name."""
    path, _, attribute = name.rpartition(".")
    return getattr(model.get_submodule(path), attribute)


def digest_of(tensor: Tensor) -> str:
    """SHA-256 of the values."""
    return sha256(tensor.detach().cpu().contiguous().numpy().tobytes()).hexdigest()


def check_constants(model: nn.Module, plan: Plan) -> None:
    """UqfcError if what is constant in the plan has other values by now."""
    changed = [
        f"'{name}' ({held.use})"
        for name, held in plan.constants.items()
        if digest_of(held_tensor(model, name)) != held.digest
    ]
    if changed:
        raise UqfcError(
            f"{type(model).__name__}: {', '.join(changed)} has other values than when the model "
            "was captured, where it is a constant: load them into the float model, and prepare that"
        )


def check_parts(model: nn.Module, plan: Plan) -> None:
    """UqfcError if the model lacks what the plan names: it is the plan of another model."""
    tensors = dict(
        [
            *model.named_parameters(remove_duplicate=False),
            *model.named_buffers(remove_duplicate=False),
        ]
    )
    modules = dict(model.named_modules(remove_duplicate=False))
    weights = [origin.weight for origin in plan.origins.values()]
    missing = [name for name in [*weights, *plan.constants] if name not in tensors]
    missing += [path for path in plan.kept if path not in modules]
    if missing:
        names = ", ".join(f"'{name}'" for name in missing)
        raise UqfcError(
            f"{type(model).__name__} has no {names}: the state is that of another model"
        )


@contextmanager
def evaluating(model: nn.Module) -> Generator[None]:
    """In evaluation mode; at the end every module has the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def check_same(model: nn.Module, plan: Plan, inputs: Sequence[Tensor]) -> None:
    """UqfcError unless the plan gives for each image what the module gives for all of them.

    Modules that stay float may mix the images: with them the plan is given all, too.
    """
    name = type(model).__name__
    size = len(inputs[0]) if plan.kept else 1
    with torch.no_grad():
        expected: Any = model(*inputs)
        each = [
            evaluate_float(model, plan, [x[index : index + size] for x in inputs])
            for index in range(0, len(inputs[0]), size)
        ]
    wanted: list[Any] = list(expected) if isinstance(expected, tuple | list) else [expected]
    if not all(isinstance(tensor, Tensor) for tensor in wanted):
        raise UqfcError(
            f"{name}: returns {type(expected).__name__}; accepted: a tensor, or several"
        )
    for index, (a, *parts) in enumerate(zip(wanted, *each, strict=True)):
        b = torch.cat(parts)
        same = a.shape == b.shape
        if same and a.numel() and bool(a.isfinite().all()):  # else calibration will say so
            largest = float(a.abs().max())
            same = float((a - b).abs().max()) <= SAME * max(largest, 1e-6)
        if not same:
            raise UqfcError(
                f"{name}: output {index} of the captured network differs from the module's: what "
                "it computes for an image must not depend on the batch or on Python state"
                + (", and what stays float must not write to what others read" * bool(plan.kept))
            )


def evaluate_float(
    model: nn.Module,
    plan: Plan,
    inputs: Sequence[Tensor],
    observers: dict[str, Observer] | None = None,
) -> list[Tensor]:
    """The float network's outputs; points feed ``observers``."""
    nothing = Quantization()  # nor are there sums of integers
    forward = ForwardPass(
        plan, model, nothing, FloatSums(), Estimator.IDENTITY, Mode.FLOAT, observers
    )
    return forward.run(inputs)


def calibrate(
    model: nn.Module, plan: Plan, state: Quantization, batches: Iterable[Sequence[Tensor]]
) -> None:
    """Set all scales and zero points: of activations from the data, of weights from themselves.

    CalibrationError if there is no data.
    """
    observers = {
        point.name: make_observer(
            "mse", levels=point.qmax - point.qmin + 1, symmetric=point.symmetric
        )
        for point in plan.points.values()
    }
    check_finite(model, plan)
    with torch.no_grad(), evaluating(model):
        for inputs in batches:
            check_inputs(inputs, plan)
            evaluate_float(model, plan, inputs, observers)
    state.set_points(plan, observers)
    for layer in plan.layers.values():
        start_weights(model, plan, state, layer)


def check_finite(model: nn.Module, plan: Plan) -> None:
    """CalibrationError for a layer whose weight or bias, batch norm folded, is not finite."""
    for layer, origin in plan.origins.items():
        with torch.no_grad():
            folded = LayerModules(model, origin).folded(learned=False)
        for what, tensor in (("weight", folded.weight), ("bias", folded.bias)):
            if tensor is not None and not bool(tensor.isfinite().all()):
                raise CalibrationError(
                    f"layer '{layer}': {what} '{getattr(origin, what) or origin.batch_norm}', with "
                    "its batch norm folded, is not finite everywhere"
                )


def start_weights(model: nn.Module, plan: Plan, state: Quantization, layer: PlannedLayer) -> None:
    """Scales and zero points of least squared error for a layer's folded weights."""
    with torch.no_grad():
        folded = LayerModules(model, layer.origin).folded(learned=False)
        weight = folded.weight.cpu().numpy()
        axis = 0 if layer.options.per_channel else None
        found = initial_parameters(weight, layer.decision.chosen, layer.kind, axis)
        point = plan.point_of(layer)
        x_scale = float(state.scales().activations[point.index])
        bias = None if folded.bias is None else folded.bias.cpu().numpy()
        scale = usable_scales(np.atleast_1d(found.scale), weight, bias, x_scale)
        zero_point = torch.from_numpy(np.atleast_1d(found.zero_point).copy())
        state.set_weights(layer, torch.from_numpy(scale), zero_point)
