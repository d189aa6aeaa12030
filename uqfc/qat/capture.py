"""From a PyTorch module and a batch of its inputs to a plan with calibrated scales."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from uqfc.calibration import Observer, make_observer
from uqfc.errors import CalibrationError, UqfcError
from uqfc.frontend.torch import import_torch
from uqfc.passes.quantize_weights import usable_scales
from uqfc.qat.estimators import Estimator
from uqfc.qat.layers import LayerModules
from uqfc.qat.options import Options
from uqfc.qat.plan import Plan, PlannedLayer, make_plan
from uqfc.qat.state import Quantization
from uqfc.qat.sums import Backend
from uqfc.qat.training import ForwardPass, Mode
from uqfc.qat.weights import initial_parameters
from uqfc.targets import Target

SAME = 2.0**-10
"""Float results may differ from the module's by that share of the largest: sums of some 2**10 terms
are added in another order, each rounded by 2**-24, through some ten layers."""


def capture(model: nn.Module, inputs: Sequence[Tensor], options: Options, target: Target) -> Plan:
    """The plan of a module, captured by ``torch.export`` for one image of the inputs.

    UnsupportedError lists what cannot be imported; UqfcError if the plan computes something else.
    """
    was_training = model.training
    model.eval()
    try:
        images = tuple(tensor[:1].detach().contiguous() for tensor in inputs)
        program = torch.export.export(model, images)
        network = import_torch(program, type(model).__name__)
        plan = make_plan(network, options, target)
        check_same(model, plan, [tensor[:2].detach() for tensor in inputs])
    finally:
        model.train(was_training)
    return plan


def check_same(model: nn.Module, plan: Plan, inputs: Sequence[Tensor]) -> None:
    """UqfcError unless the plan gives what the module gives, for more than one image."""
    with torch.no_grad():
        expected = model(*inputs)
        found = evaluate_float(model, plan, inputs)
    wanted = expected if isinstance(expected, tuple | list) else [expected]
    for index, (a, b) in enumerate(zip(wanted, found, strict=True)):
        largest = float(a.abs().max())
        if a.shape != b.shape or float((a - b).abs().max()) > SAME * max(largest, 1e-6):
            raise UqfcError(
                f"{type(model).__name__}: output {index} of the captured network differs from the "
                "module's: what it computes must not depend on the batch or on Python state"
            )


def evaluate_float(
    model: nn.Module,
    plan: Plan,
    inputs: Sequence[Tensor],
    observers: dict[str, Observer] | None = None,
) -> list[Tensor]:
    """The float network's outputs; points feed ``observers``."""
    nothing = Quantization()
    forward = ForwardPass(
        plan, model, nothing, no_backend, Estimator.IDENTITY, Mode.FLOAT, observers
    )
    return forward.run(inputs)


no_backend: Backend = lambda operands: operands.x.float()  # noqa: E731 # never called


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
    with torch.no_grad():
        for inputs in batches:
            evaluate_float(model, plan, inputs, observers)
    state.set_points(plan, observers)
    for layer in plan.layers.values():
        start_weights(model, plan, state, layer)


def start_weights(model: nn.Module, plan: Plan, state: Quantization, layer: PlannedLayer) -> None:
    """Scales and zero points of least squared error for a layer's folded weights."""
    with torch.no_grad():
        folded = LayerModules(model, layer.origin).folded(learned=False)
        weight = folded.weight.cpu().numpy()
        if not np.isfinite(weight).all():
            raise CalibrationError(f"layer '{layer.name}': weights are not all finite")
        axis = 0 if layer.options.per_channel else None
        found = initial_parameters(weight, layer.decision.chosen, layer.kind, axis)
        point = plan.point_of(layer)
        x_scale = float(state.scales().activations[point.index])
        bias = None if folded.bias is None else folded.bias.cpu().numpy()
        scale = usable_scales(np.atleast_1d(found.scale), weight, bias, x_scale)
        zero_point = torch.from_numpy(np.atleast_1d(found.zero_point).copy())
        state.set_weights(layer, torch.from_numpy(scale), zero_point)
