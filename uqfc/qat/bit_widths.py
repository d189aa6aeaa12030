"""Learned bit widths: per layer, a differentiable choice between weight dtypes.

Each layer's weights are the mixture ``Σ p_c · w_hat_c`` of their quantized versions, with
``p = softmax(logits / temperature)``, after B. Wu et al., "Mixed Precision Quantization of ConvNets
via Differentiable Neural Architecture Search" (arXiv:1812.00090); with ``gumbel`` noise on the
logits, ``p`` is a sample, closer to one-hot the lower the temperature. The loss gets a penalty for
the expected cost. At the end ``choose`` gives the dtypes to quantize with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from uqfc.dialects.quant import STORAGE_ELEMENTS
from uqfc.errors import UqfcError
from uqfc.qat.estimators import Estimator
from uqfc.qat.weights import WeightQuantizer, weight_type

FLOAT = "float32"


def size_in_bytes(weight: Tensor, dtype: str, config: Mapping[str, Any] | None = None) -> float:
    """Bytes of the weights in the storage of a dtype (scales are the same for all of them)."""
    if dtype == FLOAT:
        return 4.0 * weight.numel()
    element: Any = STORAGE_ELEMENTS[weight_type(dtype, config)[0].storage]
    return weight.numel() * element.bitwidth / 8


class BitWidthSearch(nn.Module):
    """The choice of a weight dtype for each layer, to be learned with the weights.

    ``weights``: by layer name, float32, output channels first; only used to start the scales and
    for sizes. ``candidates``: dtypes of weights (also ``float32``), of all layers or by layer name.
    ``costs``: by layer name and dtype, in any unit, e.g. measured latency; by default the size in
    bytes. ``config`` and ``estimator`` are those of ``WeightQuantizer``.

    Trained parameters are one logit per layer and candidate and the scales of the candidates.
    Raises UqfcError, naming the layer, if candidates or costs are missing or unknown.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        candidates: Sequence[str] | Mapping[str, Sequence[str]] = ("int4", "int8"),
        *,
        costs: Mapping[str, Mapping[str, float]] | None = None,
        config: Mapping[str, Any] | None = None,
        estimator: Estimator | str | None = None,
        temperature: float = 1.0,
        gumbel: bool = False,
    ) -> None:
        super().__init__()
        self.temperature, self.gumbel = temperature, gumbel
        self.names = tuple(weights)
        self.candidates: dict[str, tuple[str, ...]] = {}
        self.logits = nn.ParameterList()
        self.quantizers = nn.ModuleList()
        for name, weight in weights.items():
            dtypes = candidates.get(name, ()) if isinstance(candidates, Mapping) else candidates
            if not dtypes:
                raise UqfcError(f"layer '{name}': no candidate dtypes")
            self.candidates[name] = tuple(dtypes)
            made = nn.ModuleDict()
            for dtype in dtypes:
                if dtype != FLOAT:
                    made[dtype] = WeightQuantizer(
                        weight, dtype, config, estimator=estimator, layer=name
                    )
            self.quantizers.append(made)
            self.logits.append(nn.Parameter(torch.zeros(len(dtypes), device=weight.device)))
            cost = [_cost(name, weight, dtype, costs, config) for dtype in dtypes]
            self.register_buffer(f"cost_{len(self.logits) - 1}", torch.tensor(cost).to(weight))

    def shares(self, layer: str) -> Tensor:
        """The probability of each candidate, float32 [candidates]; sums to 1."""
        return torch.softmax(self.logits[self._index(layer)] / self.temperature, 0)

    def forward(self, layer: str, weight: Tensor) -> Tensor:
        """The weights for a layer's forward pass, float32 of the weights' shape.

        In training the mixture, with gradients to weights, logits and scales; otherwise what
        ``choose`` would have, quantized.
        """
        dtypes, index = self.candidates[layer], self._index(layer)
        quantizers = cast(nn.ModuleDict, self.quantizers[index])
        if not self.training:
            return self._quantized(quantizers, self._best(index), weight)
        logits = self.logits[index]
        if self.gumbel:
            # -log of an exponential variable; above zero, as the logarithm's argument must be
            least = torch.finfo(logits.dtype).tiny
            logits = logits - torch.empty_like(logits).exponential_().clamp_(min=least).log()
        shares = torch.softmax(logits / self.temperature, 0)
        mixture = shares[0] * self._quantized(quantizers, dtypes[0], weight)
        for share, dtype in zip(shares[1:], dtypes[1:], strict=True):
            mixture = torch.addcmul(mixture, share, self._quantized(quantizers, dtype, weight))
        return mixture

    def expected_cost(self) -> Tensor:
        """``Σ p · cost`` over layers and candidates, without noise: 0-dimensional."""
        return torch.stack([torch.dot(self.shares(n), self._costs(n)) for n in self.names]).sum()

    def penalty(self, budget: float | None = None) -> Tensor:
        """What to add to the loss, times a weight of its own.

        Without budget the expected cost as a share of the dearest choice's, in (0, 1]. With one (in
        cost units) the excess as a share of it: ``max(0, expected / budget - 1)``.
        """
        if budget is None:
            dearest = torch.stack([self._costs(name).max() for name in self.names]).sum()
            return self.expected_cost() / dearest
        if budget <= 0:
            raise UqfcError(f"budget of bit widths is {budget}; accepted: above 0")
        return torch.relu(self.expected_cost() / budget - 1.0)

    def choose(self) -> dict[str, str]:
        """The most probable dtype of each layer, by name; of equal ones the first candidate."""
        return {name: self._best(index) for index, name in enumerate(self.names)}

    def cost_of(self, choice: Mapping[str, str]) -> float:
        """The cost of a choice of dtypes, e.g. of ``choose()``."""
        return sum(
            self._costs(name)[self.candidates[name].index(dtype)].item()
            for name, dtype in choice.items()
        )

    def _index(self, layer: str) -> int:
        return self.names.index(layer)

    def _best(self, index: int) -> str:
        return self.candidates[self.names[index]][int(torch.argmax(self.logits[index]))]

    def _costs(self, layer: str) -> Tensor:
        return cast(Tensor, getattr(self, f"cost_{self._index(layer)}"))

    @staticmethod
    def _quantized(quantizers: nn.ModuleDict, dtype: str, weight: Tensor) -> Tensor:
        return weight if dtype == FLOAT else quantizers[dtype](weight)[0]


def _cost(
    layer: str,
    weight: Tensor,
    dtype: str,
    costs: Mapping[str, Mapping[str, float]] | None,
    config: Mapping[str, Any] | None,
) -> float:
    if costs is None:
        return size_in_bytes(weight, dtype, config)
    if dtype not in costs.get(layer, {}):
        raise UqfcError(f"layer '{layer}': no cost is given for candidate {dtype}")
    return float(costs[layer][dtype])
