"""``search_bit_width``: weight types of all layers, for accuracy, latency and size at once."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from uqfc.cache import key_of
from uqfc.calibration import iterate
from uqfc.compiler import compile as compile_model
from uqfc.errors import UqfcError
from uqfc.options import read_model
from uqfc.results import RecordedData
from uqfc.search.answer import answer
from uqfc.search.constraints import Constraints, Goal, Metric, default_objective, quantity
from uqfc.search.evaluation import Evaluate, Top1, try_accuracy
from uqfc.search.evaluations import Evaluations
from uqfc.search.jobs import AT_HAND, Workers, make_ready
from uqfc.search.journal import Journal
from uqfc.search.loop import METHODS, Progress, Setting, planners_of, reporter, run
from uqfc.search.problem import Bench, SearchProblem, portable
from uqfc.search.result import SearchResult
from uqfc.search.samples import labelled
from uqfc.search.space import SearchSpace
from uqfc.search.surrogate import Surrogate
from uqfc.search.terms import CostsOf, Latencies, Sensitivities, latency_function
from uqfc.targets import load_target

WITHOUT_INFLUENCE = ("cache", "threads")
"""Options that change no evaluation."""
CALIBRATION_SAMPLES = 512
"""Of ``data``, at most, where no calibration data is given."""


def search_bit_width(
    model: Any,
    search_space: Mapping[str, Sequence[str]] | None = None,
    *,
    accuracy_constraint: float | None = None,
    max_drop_points: float | None = None,
    latency_target: float | str | None = None,
    size_target: float | str | None = None,
    objective: str | None = None,
    data: object = None,
    labels: object = None,
    evaluate: Evaluate | None = None,
    calibration_data: object = None,
    target: str | Path = "host",
    method: str = "auto",
    budget: int = 32,
    seconds: float | None = None,
    executor: Executor | None = None,
    seed: int = 0,
    journal: str | Path | None = None,
    progress: Progress | None = None,
    sensitivity: Sensitivities | None = None,
    interactions: Mapping[tuple[str, str, str, str], float] | None = None,
    latencies: Latencies | None = None,
    **options: Any,
) -> SearchResult:
    """Find weight types by layer that are accurate, fast and small enough; see docs/search.md.

    ``search_space``: types by layer, or by pattern of layers; the default, also for layers that it
    does not name, is all that the target has. ``accuracy_constraint``: least share of right
    answers, 0..1, or ``max_drop_points`` below that of the network in float32, in points
    (hundredths). ``latency_target``: most milliseconds of a call (or ``"100us"``);
    ``size_target``: most bytes of constants (or ``"1MB"``). ``objective``: ``size``, ``latency`` or
    ``accuracy``: what is best within these limits; by default the size if the accuracy is
    constrained, else the accuracy.

    ``evaluate`` takes a ``CompiledModel`` and returns its accuracy; without it, that is the share
    of ``data`` whose largest output is the one of ``labels`` (an array or a file, or the array
    ``labels`` of ``data``). ``calibration_data``: what quantization is calibrated with; by default
    ``data``. ``options``: ``calibration_method``, ``calibration_samples``, ``weight_quant``,
    ``shapes``, ``threads`` and others of ``calibrate_model``.

    ``method``: ``ilp`` evaluates optima of the calibrated surrogate, ``mcts`` and ``evolution``
    what these find on it; ``auto`` is ``ilp``, then ``mcts``. ``budget``: candidates that are
    compiled and evaluated; ``seconds``: after which no new ones are. ``executor`` evaluates
    candidates in parallel; results do not depend on it. ``journal``: a file that keeps every
    evaluation, so that an interrupted search goes on where it was. ``sensitivity``,
    ``interactions`` and ``latencies`` replace what would be measured.

    The result is determined by the arguments and the measured latencies. Raises UqfcError for what
    the caller can mend; that no configuration meets the constraints is a result.
    """
    limits = checked_limits(accuracy_constraint, max_drop_points, latency_target, size_target)
    check_arguments(method, budget, seconds, objective)
    table = load_target(target)
    shapes = options.get("shapes")
    inputs = read_model(model, shapes).inputs
    if evaluate is not None and not callable(evaluate):
        raise UqfcError(f"evaluate: {evaluate!r:.80}; accepted: a function of a compiled model")
    if evaluate is None and data is None:
        raise UqfcError("search: give `data` with `labels`, or `evaluate`")
    if evaluate is None:
        samples, answers = labelled(data, labels, inputs)
        evaluate = Top1(samples, answers)
        described = key_of([x.tobytes() for x in [*samples.values(), answers]])
    else:
        samples = data
        described = f"{getattr(evaluate, '__module__', '')}.{getattr(evaluate, '__qualname__', '')}"
    source = samples if calibration_data is None else calibration_data
    if source is None:
        raise UqfcError("search: give `calibration_data`")
    limit = options.pop("calibration_samples", None)
    if limit is None and calibration_data is None:
        limit = CALIBRATION_SAMPLES
    recorded = RecordedData(iterate(source, inputs, limit=limit))
    calibration = list(recorded)
    problem = SearchProblem(
        portable(model), str(target), {**options, "calibration_data": calibration}, evaluate
    )
    identity = {
        "model": key_of([read_model(model, shapes).digest()]),
        "target": key_of([table.model_dump_json()]),
        "calibration": recorded.description,
        "options": repr(sorted((n, v) for n, v in options.items() if n not in WITHOUT_INFLUENCE)),
        "evaluate": described,
    }
    book = Journal(journal, identity)
    bench = problem.bench(progress)
    available = {layer.name: layer.choices for layer in bench.network.layers}
    space = SearchSpace.of(search_space, available)
    key = str(book.header["sha256"])
    make_ready(key, bench.evaluate_configuration)
    workers = Workers(executor, key, problem)
    reference = reference_accuracy(model, bench, book, evaluate, options)
    if max_drop_points is not None:
        if reference is None:
            raise UqfcError("search: max_drop_points: the float32 network cannot be evaluated")
        least = max(0.0, reference - max_drop_points / 100)
        limits = Constraints(least, limits.latency, limits.size)
    wanted = default_objective(limits) if objective is None else Metric(objective)
    goal = Goal(limits, wanted)
    timed = limits.latency is not None or wanted == Metric.LATENCY
    costs = CostsOf(bench, space, book, progress)
    latency = costs.latency(latencies) if timed else None
    evaluations = Evaluations(space, book, workers)
    if timed:
        evaluations.latency = latency_function(bench, space, latency)
    evaluations.report = reporter(progress, budget, goal)
    surrogate = Surrogate(
        costs.loss(sensitivity, interactions, calibration, seed), costs.size(), latency
    )
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    setting = Setting(space, goal, evaluations, surrogate, reference, budget, deadline)
    try:
        state = run(setting, planners_of(method, seed))
    finally:
        AT_HAND.pop(key, None)
    return answer(
        state,
        evaluations,
        bench.network,
        method=method,
        seed=seed,
        reference=reference,
    )


def checked_limits(
    accuracy: float | None, drop: float | None, latency: float | str | None, size: Any
) -> Constraints:
    """UqfcError for what no configuration could meet, and for two limits of the accuracy."""
    if accuracy is not None and drop is not None:
        raise UqfcError("search: give accuracy_constraint or max_drop_points, not both")
    if drop is not None and not 0 <= drop <= 100:
        raise UqfcError(f"max_drop_points: {drop}; accepted: points of accuracy, 0 to 100")
    return Constraints(
        accuracy,
        None if latency is None else quantity(latency, "latency"),
        None if size is None else quantity(size, "size"),
    )


def check_arguments(method: str, budget: int, seconds: float | None, objective: str | None) -> None:
    """UqfcError that says what is accepted."""
    if method not in METHODS:
        raise UqfcError(f"method: '{method}' is unknown; accepted: {', '.join(METHODS)}")
    if isinstance(budget, bool) or budget < 1:
        raise UqfcError(f"budget: {budget}; accepted: a number of evaluations above 0")
    if seconds is not None and not seconds > 0:
        raise UqfcError(f"seconds: {seconds}; accepted: a number above 0")
    if objective is not None and objective not in list(Metric):
        raise UqfcError(f"objective: '{objective}' is unknown; accepted: {', '.join(Metric)}")


def reference_accuracy(
    model: Any, bench: Bench, journal: Journal, evaluate: Evaluate, options: Mapping[str, Any]
) -> float | None:
    """Of the network in float32; from the journal, if it is there."""
    record = journal.find("float32")
    if record is None:
        known = ("shapes", "input_types", "threads", "pass_pipeline", "cache")
        passed = {name: options[name] for name in known if name in options}
        target = bench.running.options.target
        compiled = compile_model(model, target=target, quant_strategy="float32", **passed)
        accuracy, error = try_accuracy(compiled, evaluate)
        record = {"accuracy": accuracy, "error": error}
        journal.add("float32", record)
    accuracy = record.get("accuracy")
    return accuracy if isinstance(accuracy, float) else None
