"""``QatModel``: a PyTorch module whose layers compute with the deployed integers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from xdsl.dialects.builtin import ModuleOp

from uqfc.dialects.quant.decisions import Decision, check_no_fallback
from uqfc.errors import UqfcError
from uqfc.frontend.uqr import write_uqr
from uqfc.qat.capture import (
    calibrate,
    capture,
    check_constants,
    check_parts,
    held_tensor,
    start_weights,
)
from uqfc.qat.comparison import Comparison, compare, interpreted
from uqfc.qat.deploy import quantized_module
from uqfc.qat.deployed import (
    KERNELS,
    DeployedNetwork,
    FloatNetwork,
    Made,
    Network,
    copies,
    has_kernels,
)
from uqfc.qat.inputs import check_inputs
from uqfc.qat.options import Options
from uqfc.qat.plan import Plan, restored_plan, retyped
from uqfc.qat.state import Quantization
from uqfc.qat.sums import Backend, CompiledSums, FloatSums
from uqfc.qat.training import ForwardPass, Mode
from uqfc.targets import load_target


class QatModel(nn.Module):
    """The user's module, ``model``, and the parameters of its quantization, ``quantization``.

    In training mode batch norms take the statistics of the batch, unless ``frozen_statistics``; all
    else, and everything in evaluation mode, has the deployed network's bits. It is captured with,
    and calibrated on, the first inputs that it sees, if that was not done before.
    """

    def __init__(
        self,
        model: nn.Module,
        options: Options,
        target: str,
        *,
        learn_scales: bool = True,
        kernels: bool | None = None,
        strict: bool = False,
        partial: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.quantization = Quantization(learn_scales)
        self.options = options
        self.target = target
        self.kernels = has_kernels() if kernels is None else kernels
        self.strict = strict
        self.partial = partial
        self.frozen_statistics = False
        self.calibrated = False
        self._plan: Plan | None = None
        self._deployed: Made | None = None
        self.register_load_state_dict_post_hook(loaded)

    @property
    def plan(self) -> Plan:
        """The captured network. UqfcError before it was captured."""
        if self._plan is None:
            raise UqfcError(
                "the model was not captured yet: call it on a batch, or give prepare_qat "
                "example_inputs"
            )
        return self._plan

    @property
    def is_captured(self) -> bool:
        return self._plan is not None

    @property
    def decisions(self) -> dict[str, Decision]:
        """Of every layer: the weight type that was asked for, what it has, and why."""
        return self.plan.decisions

    @property
    def fallbacks(self) -> dict[str, Decision]:
        """Of the layers that do not have the weight type that was asked for."""
        return {name: each for name, each in self.decisions.items() if each.is_fallback}

    @property
    def floats(self) -> dict[str, str]:
        """What stays float32, and why: layers, and modules of a partial model, by name."""
        return {**self.plan.floats, **self.plan.kept}

    @property
    def constants(self) -> dict[str, str]:
        """Parameters and buffers that no layer or batch norm of one uses, with the calls that do.

        Training leaves them as they were when the model was captured; other values are refused.
        """
        return {name: held.use for name, held in self.plan.constants.items()}

    def _hold_constants(self) -> None:
        for name in self.plan.constants:
            held_tensor(self.model, name).requires_grad_(False)

    def capture(self, *inputs: Tensor) -> None:
        """Capture the module as it computes on these inputs, of any batch size, once.

        FallbackError if the model is strict and has a fallback.
        """
        if self._plan is not None:
            return
        table = load_target(self.target)
        plan = capture(self.model, inputs, self.options, table, partial=self.partial)
        plan = replace(plan, target=self.target)
        if self.strict:
            check_no_fallback(plan.decisions.items(), plan.target)
        self._plan = plan
        self.quantization.materialize(plan)
        self._hold_constants()

    def calibrate(self, batches: Iterable[Sequence[Tensor]]) -> None:
        """Set all scales from data: a few batches, each a tuple of the network's inputs."""
        calibrate(self.model, self.plan, self.quantization, batches)
        self.calibrated = True

    def set_weight_dtypes(self, dtypes: Mapping[str, str]) -> None:
        """Quantize the weights of layers, by name, with other integer types, and new scales.

        UqfcError for a layer or type that there is not, FallbackError if the model is strict.
        """
        plan = retyped(self.plan, dtypes, load_target(self.target))
        if self.strict:
            check_no_fallback(plan.decisions.items(), plan.target)
        self.options, self._plan, self._deployed = plan.options, plan, None
        for name in dtypes:
            start_weights(self.model, plan, self.quantization, plan.layers[name])

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        self.capture(*inputs)
        check_inputs(inputs, self._plan)
        if not self.calibrated:
            self.calibrate([inputs])
        differentiable = torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters())
        if self.training or differentiable or self.plan.kept:
            statistics = self.training and not self.frozen_statistics
            outputs = self.pass_of(Mode.STATISTICS if statistics else Mode.DEPLOYED).run(inputs)
        else:
            outputs = self.deployed()(*inputs)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def pass_of(self, mode: Mode) -> ForwardPass:
        """A forward pass of the present parameters, to be run once."""
        estimator = self.options.estimator
        return ForwardPass(self.plan, self.model, self.quantization, self.sums, estimator, mode)

    @property
    def uses_kernels(self) -> bool:
        """Whether compiled kernels compute: on the CPU, unless they were declined."""
        return self.kernels and self.quantization.weight_change.device.type == "cpu"

    @property
    def sums(self) -> Backend:
        """How the sums of layers are computed in training."""
        return CompiledSums(KERNELS) if self.uses_kernels else FloatSums()

    def quantized_module(self) -> ModuleOp:
        """The quantized network of the present parameters, for the compiler.

        UqfcError for a partial model.
        """
        if self.plan.kept:
            lines = [f"  module '{path}': {why}" for path, why in self.plan.kept.items()]
            raise UqfcError(
                "a model with modules that only PyTorch can compute has no deployed network\n"
                + "\n".join(lines)
            )
        check_constants(self.model, self.plan)
        return quantized_module(self.plan, self.model, self.quantization)

    def to_uqr(self, name: str = "model") -> bytes:
        """The content of a UQR file: see ``export``."""
        training = {"estimator": str(self.options.estimator), "target": self.target}
        return write_uqr(self.quantized_module(), provenance={"qat": training}, name=name)

    def deployed(self) -> Network:
        """The deployed network of the present parameters, made anew when they have changed."""
        made = self._deployed
        if made is None or not made.is_of(self, self.uses_kernels):
            kind = DeployedNetwork if self.uses_kernels else FloatNetwork
            device = self.quantization.weight_change.device
            network = kind(self.quantized_module(), device)
            made = self._deployed = Made(network, self.uses_kernels, copies(self))
        return made.network

    def compare(self, *inputs: Tensor) -> Comparison:
        """The deployed pass of training beside the definition of the deployed network.

        Slow: the interpreter computes image by image.
        """
        forward = self.pass_of(Mode.DEPLOYED)
        return compare(forward, self.quantized_module(), inputs, interpreted)

    # --- state ---------------------------------------------------------------------------------

    def get_extra_state(self) -> dict[str, Any]:
        """What was captured, beside the parameters."""
        plan = None if self._plan is None else self._plan.document()
        flags = {"frozen_statistics": self.frozen_statistics, "calibrated": self.calibrated}
        return {"plan": plan, **flags}

    def set_extra_state(self, state: Any) -> None:
        """The inverse; the model need not have been captured. UqfcError for another state."""
        if not isinstance(state, dict) or {"plan", "calibrated"} - set(state):
            raise UqfcError("state of a QatModel: not what uqfc saves")
        if state["plan"] is not None and self._plan is None:
            plan = restored_plan(state["plan"])
            check_parts(self.model, plan)
            self._plan = plan
            self.options = self._plan.options
            self.quantization.materialize(self._plan)
            self._hold_constants()
        self.frozen_statistics = bool(state["frozen_statistics"])
        self.calibrated = bool(state["calibrated"])

    def __getstate__(self) -> dict[str, Any]:
        """Without compiled code, which is made again."""
        return {**self.__dict__, "_deployed": None}


def loaded(model: QatModel, _: object) -> None:
    """After a state dict was loaded: UqfcError if it has other constants than the network."""
    if model.is_captured:
        check_constants(model.model, model.plan)
