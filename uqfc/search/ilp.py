"""The exact optimum of sums of costs, by integer linear programming (SciPy's HiGHS).

A binary variable says whether a layer has a choice. A pair of layers with an interaction has a
variable for each pair of choices; that these sum to the variables of either layer makes them the
products, exactly (the local marginal polytope, whose relaxation is tight where pairs form a tree).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from uqfc.errors import UqfcError
from uqfc.search.costs import F64, CostModel
from uqfc.search.space import Row, Rows

MOST_REPAIRS = 50
"""Solutions that break a limit by less than the solver's tolerance, of which each is excluded."""
OPTIMAL, TIME_LIMIT, INFEASIBLE = 0, 1, 2
"""Statuses of ``scipy.optimize.milp``."""


class SolverMissingError(UqfcError):
    """SciPy is not installed."""


@dataclass(frozen=True)
class Limit:
    """``cost(row) <= most``."""

    name: str
    cost: CostModel
    most: float

    def __post_init__(self) -> None:
        if math.isnan(self.most):
            raise UqfcError(f"{self.name}: the limit is not a number")


@dataclass(frozen=True)
class Optimum:
    """``row`` has ``value``, and no row that respects the limits has less than ``bound``.

    ``row`` is None, and ``bound`` infinite, where no row respects the limits. They are None and
    finite where the solver ran out of time before it found any.
    """

    row: Row | None
    value: float
    bound: float


@dataclass
class Program:
    """Variables and constraints, row by row, of a model that has the given numbers of choices."""

    counts: Sequence[int]
    rows: list[dict[int, float]] = field(default_factory=list[dict[int, float]])
    least: list[float] = field(default_factory=list[float])
    most: list[float] = field(default_factory=list[float])

    def __post_init__(self) -> None:
        self.starts = np.concatenate([[0], np.cumsum(self.counts)]).astype(int)
        self.variables = int(self.starts[-1])
        self.products: dict[tuple[int, int], int] = {}
        self.slacks: list[int] = []
        for layer, count in enumerate(self.counts):
            self.constrain({self.choice(layer, c): 1.0 for c in range(count)}, 1.0, 1.0)

    def choice(self, layer: int, choice: int) -> int:
        """The variable that says that the layer has this choice."""
        return int(self.starts[layer]) + choice

    def constrain(self, row: dict[int, float], least: float, most: float) -> None:
        """``least <= sum(coefficient * variable) <= most``."""
        self.rows.append(row)
        self.least.append(least)
        self.most.append(most)

    def slack(self) -> int:
        """A new variable that is not negative."""
        self.slacks.append(self.variables)
        self.variables += 1
        return self.slacks[-1]

    def product(self, first: int, second: int) -> int:
        """The first of the variables [choices of first, choices of second] of a pair of layers."""
        if (first, second) not in self.products:
            start, counts = self.variables, (self.counts[first], self.counts[second])
            self.variables += counts[0] * counts[1]
            self.products[first, second] = start
            places = start + np.arange(counts[0] * counts[1]).reshape(counts)
            for layer, table in ((first, places), (second, places.T)):
                for choice, line in enumerate(table):
                    row = dict.fromkeys(map(int, line), 1.0) | {self.choice(layer, choice): -1.0}
                    self.constrain(row, 0.0, 0.0)
        return self.products[first, second]

    def linear(self, cost: CostModel) -> dict[int, float]:
        """The cost as coefficients, without its constant."""
        found: dict[int, float] = {}
        for layer, terms in enumerate(cost.unary):
            for choice, value in enumerate(terms):
                found[self.choice(layer, choice)] = float(value)
        for pair in cost.pairs:
            start = self.product(pair.first, pair.second)
            for offset, value in enumerate(pair.table.ravel()):
                found[start + offset] = found.get(start + offset, 0.0) + float(value)
        return found

    def limit(self, limit: Limit, slack: int | None = None) -> float:
        """Add ``cost <= most``, or ``<= most + unit * slack``; returns that unit."""
        row, room = self.linear(limit.cost), limit.most - limit.cost.constant
        unit = max(map(abs, row.values()), default=1.0) or 1.0
        scaled = {place: value / unit for place, value in row.items()}
        if slack is not None:
            scaled[slack] = -1.0
        self.constrain(scaled, -math.inf, room / unit)
        return unit

    def exclude(self, row: Row) -> None:
        """Not this row."""
        places = {self.choice(layer, int(choice)): 1.0 for layer, choice in enumerate(row)}
        self.constrain(places, -math.inf, len(row) - 1.0)

    def solve(self, objective: dict[int, float], seconds: float | None = None) -> Any:
        """What ``scipy.optimize.milp`` gives for the least objective."""
        optimize, sparse = scipy_modules()
        cost = np.zeros(self.variables)
        cost[list(objective)] = list(objective.values())
        entries = [(i, j, v) for i, row in enumerate(self.rows) for j, v in row.items() if v]
        at, to, values = zip(*entries, strict=True)
        matrix = sparse.csr_array((values, (at, to)), (len(self.rows), self.variables))
        integral = np.zeros(self.variables)
        integral[: self.starts[-1]] = 1
        upper = np.ones(self.variables)
        upper[self.slacks] = np.inf
        options: dict[str, Any] = {"mip_rel_gap": 0.0}
        if seconds is not None:
            options["time_limit"] = seconds
        return optimize.milp(
            cost,
            integrality=integral,
            bounds=optimize.Bounds(0.0, upper),
            constraints=optimize.LinearConstraint(matrix, self.least, self.most),
            options=options,
        )

    def row_of(self, x: F64) -> Row:
        """The choices of a solution."""
        pairs = zip(self.starts[:-1], self.starts[1:], strict=True)
        return np.array([int(x[a:b].argmax()) for a, b in pairs], np.uint8)


def scipy_modules() -> tuple[Any, Any]:
    """``scipy.optimize`` and ``scipy.sparse``. SolverMissingError where SciPy is not installed."""
    try:
        from scipy import optimize, sparse  # noqa: PLC0415 # optional: an extra
    except ImportError:
        raise SolverMissingError(
            "the exact optimum needs SciPy: pip install 'uqfc[search]', or search by "
            "method='mcts' or 'evolution'"
        ) from None
    return optimize, sparse


def minimize(
    objective: CostModel,
    limits: Sequence[Limit] = (),
    excluded: Rows | Sequence[Row] = (),
    seconds: float | None = None,
) -> Optimum:
    """The least objective among rows that respect the limits and are not ``excluded``.

    The solver's tolerance (1e-6 of a limit's largest coefficient) does not let a row pass that
    breaks a limit: the row is checked by its costs. ``seconds``: of each call of the solver.
    """
    program = Program(objective.counts)
    coefficients = program.linear(objective)
    unit = max(map(abs, coefficients.values()), default=1.0) or 1.0
    scaled = {place: value / unit for place, value in coefficients.items()}
    for limit in limits:
        if limit.most == -math.inf:
            return Optimum(None, math.inf, math.inf)
        if limit.most < math.inf:
            program.limit(limit)
    for row in excluded:
        program.exclude(row)
    bound = -math.inf
    for _ in range(MOST_REPAIRS):
        solution = program.solve(scaled, seconds)
        if solution.status == INFEASIBLE:
            return Optimum(None, math.inf, math.inf)
        if solution.status not in (OPTIMAL, TIME_LIMIT):
            raise RuntimeError(f"HiGHS: {solution.message}")
        found = solution.mip_dual_bound
        bound = max(bound, objective.constant + unit * found if found is not None else -math.inf)
        if solution.x is None:
            return Optimum(None, math.inf, bound)
        row = program.row_of(solution.x)
        if all(limit.cost.one(row) <= limit.most for limit in limits):
            value = objective.one(row)
            return Optimum(row, value, min(bound, value))
        program.exclude(row)
    return Optimum(None, math.inf, bound)


@dataclass(frozen=True)
class Shortfall:
    """How far a limit is from what can be had.

    ``alone``: the least of this cost without any other limit. ``least``: with all other limits,
    None where these contradict each other. ``row`` has that least.
    """

    name: str
    most: float
    alone: float
    least: float | None
    row: Row | None

    @property
    def missing(self) -> float | None:
        """By how much the limit must grow, all others as they are; 0 where it need not."""
        return None if self.least is None else max(0.0, self.least - self.most)


@dataclass(frozen=True)
class Relaxation:
    """Why no row respects all limits: each by itself, and the least change of all together.

    ``together``: by how much each limit grows where the sum of growths, as shares of the limits,
    is least; ``row`` respects the limits so grown.
    """

    shortfalls: tuple[Shortfall, ...]
    together: dict[str, float]
    row: Row


def relax(limits: Sequence[Limit]) -> Relaxation:
    """What would have to give; ``limits`` are finite."""
    shortfalls: list[Shortfall] = []
    for limit in limits:
        rest = [other for other in limits if other is not limit]
        alone, best = minimize(limit.cost), minimize(limit.cost, rest)
        least = None if best.row is None else best.value
        shortfalls.append(Shortfall(limit.name, limit.most, alone.value, least, best.row))
    program = Program(limits[0].cost.counts)
    objective: dict[int, float] = {}
    for limit in limits:
        slack = program.slack()
        unit = program.limit(limit, slack)
        objective[slack] = unit / (abs(limit.most) or unit)
    row = program.row_of(program.solve(objective).x)
    together = {each.name: max(0.0, each.cost.one(row) - each.most) for each in limits}
    return Relaxation(tuple(shortfalls), together, row)
