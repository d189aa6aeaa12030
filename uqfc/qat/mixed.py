"""Weight types of layers, learned in training: see ``uqfc.qat.bit_widths``."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.func import functional_call

from uqfc.errors import UqfcError
from uqfc.passes.quantize_weights import SYMMETRIC
from uqfc.qat.bit_widths import BitWidthSearch
from uqfc.qat.loading import Batch
from uqfc.qat.model import QatModel
from uqfc.qat.objective import Objective
from uqfc.targets import load_target

CANDIDATES = ("int4", "int8")
CHOICE_RATE = 0.05
"""Of the logits of the choice, which have few steps and start at zero."""


@dataclass(frozen=True)
class BitWidths:
    """What is searched for.

    ``budget_bytes``: of all weights that are quantized, without scales and biases; None: no bound,
    and size counts ``strength`` times its share of the dearest choice's, beside the loss.
    ``costs``: by layer and type, instead of bytes, e.g. measured latencies; the budget is in their
    unit, then.
    """

    candidates: Sequence[str] | Mapping[str, Sequence[str]] = CANDIDATES
    budget_bytes: float | None = None
    costs: Mapping[str, Mapping[str, float]] | None = None
    epochs: int = 1
    strength: float = 1.0

    @staticmethod
    def of(given: Any) -> BitWidths:
        """From what ``finetune`` is given. UqfcError names a field that there is not."""
        if isinstance(given, BitWidths):
            return given
        if not isinstance(given, Mapping):
            kind = type(given).__name__
            raise UqfcError(f"bit_widths: {kind}; accepted: a mapping, BitWidths, None")
        accepted = tuple(BitWidths.__dataclass_fields__)
        unknown = [str(name) for name in given if name not in accepted]
        if unknown:
            names = ", ".join(unknown)
            raise UqfcError(f"bit_widths: unknown {names}; accepted: {', '.join(accepted)}")
        return BitWidths(**given)


class Search:
    """A search in a copy of the float module, whose weights are mixtures of quantized ones.

    Activations are float32, and batch norms are not folded: per channel, scales take up what is
    folded. Weights and types are learned together; only the types are kept.
    """

    def __init__(self, model: QatModel, wanted: BitWidths, learning_rate: float) -> None:
        self.wanted = wanted
        self.module = copy.deepcopy(model.model).train()
        shared: dict[str, list[str]] = {}
        for name, layer in model.plan.layers.items():
            shared.setdefault(layer.origin.weight, []).append(name)
        self.layers = {names[0]: names for names in shared.values()}
        self.parameters = {names[0]: weight for weight, names in shared.items()}
        weights = {name: self.module.get_parameter(at) for name, at in self.parameters.items()}
        if not weights:
            raise UqfcError("bit_widths: no layer is quantized")
        self.search = BitWidthSearch(
            weights,
            self.candidates(model),
            costs=wanted.costs,
            estimator=model.options.estimator,
        ).train()
        least = min_cost(self.search)
        if wanted.budget_bytes is not None and least > wanted.budget_bytes:
            raise UqfcError(
                f"bit_widths: budget_bytes is {wanted.budget_bytes:g}, the least of the candidates "
                f"{least:g}"
            )
        choice = list(self.search.logits.parameters())
        scales = list(self.search.quantizers.parameters())
        rest = [*self.module.parameters(), *scales]
        groups: list[Any] = [
            {"params": [p for p in rest if p.requires_grad], "lr": learning_rate},
            {"params": choice, "lr": CHOICE_RATE},
        ]
        self.optimizer = torch.optim.Adam(groups)

    def candidates(self, model: QatModel) -> dict[str, tuple[str, ...]]:
        """By layer. UqfcError for one that a layer or the target cannot have."""
        wanted, plan = self.wanted.candidates, model.plan
        had = [d for d in load_target(model.target).weight_dtypes if d in SYMMETRIC]
        found: dict[str, tuple[str, ...]] = {}
        for name in self.layers:
            given = wanted.get(name, CANDIDATES) if isinstance(wanted, Mapping) else wanted
            refused = [str(dtype) for dtype in given if dtype not in had]
            if refused:
                raise UqfcError(
                    f"bit_widths: candidates: {', '.join(refused)}; target {model.target} has "
                    f"{', '.join(had)}"
                )
            found[name] = tuple(given)
        if isinstance(wanted, Mapping):
            unknown = [str(name) for name in wanted if name not in plan.layers]
            if unknown:
                known = ", ".join(plan.layers)
                raise UqfcError(f"bit_widths: no layer {', '.join(unknown)}; layers: {known}")
        return found

    def step(self, batch: Batch, objective: Objective) -> None:
        weights = {
            at: self.search(name, self.module.get_parameter(at))
            for name, at in self.parameters.items()
        }
        outputs = functional_call(self.module, weights, batch.inputs)
        penalty = self.search.penalty(self.wanted.budget_bytes)
        loss = objective(outputs, batch) + self.wanted.strength * penalty
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def run(self, batches: Iterable[Batch], objective: Objective) -> dict[str, str]:
        """The type of every quantized layer, by name."""
        for _ in range(self.wanted.epochs):
            for batch in batches:
                self.step(batch, objective)
        choice = within_budget(self.search, self.wanted.budget_bytes)
        return {name: choice[first] for first, names in self.layers.items() for name in names}


def min_cost(search: BitWidthSearch) -> float:
    """Of the cheapest candidate of every layer."""
    return sum(
        min(search.cost_of({name: dtype}) for dtype in search.candidates[name])
        for name in search.names
    )


def within_budget(search: BitWidthSearch, budget: float | None) -> dict[str, str]:
    """The most probable types; while they cost too much, the least probability that is given up for
    what is saved (as a difference of logarithms) goes to a cheaper type."""
    choice = search.choose()
    while budget is not None and search.cost_of(choice) > budget:
        best: tuple[float, str, str] | None = None
        for name, dtype in choice.items():
            dtypes, shares = search.candidates[name], search.shares(name).log().tolist()
            here = shares[dtypes.index(dtype)]
            for other, share in zip(dtypes, shares, strict=True):
                saved = search.cost_of({name: dtype}) - search.cost_of({name: other})
                if saved > 0:
                    best = min(
                        best or (float("inf"), "", ""), ((here - share) / saved, name, other)
                    )
        assert best is not None  # the cheapest choice is within the budget
        choice[best[1]] = best[2]
    return choice
