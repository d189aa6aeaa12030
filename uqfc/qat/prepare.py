"""``prepare_qat``: from a float PyTorch module to one that trains with the deployed integers."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from uqfc.errors import InputError, UqfcError
from uqfc.qat.estimators import Estimator
from uqfc.qat.model import QatModel
from uqfc.qat.options import parse_options
from uqfc.targets import load_target

Batches = Iterable[Tensor | Sequence[Tensor]]


def prepare_qat(
    model: nn.Module,
    weight_dtype: str = "int4",
    activation_dtype: str = "int8",
    backend: str | Path = "host",
    *,
    ste: str = "lsq",
    learn_scales: bool | None = None,
    config: Mapping[str, Any] | None = None,
    example_inputs: Tensor | Sequence[Tensor] | None = None,
    calibration_data: Batches | None = None,
    inplace: bool = False,
    kernels: bool | None = None,
    strict: bool = False,
    partial: bool = False,
) -> QatModel:
    """A copy of a float module whose layers compute with the integers that are deployed.

    ``weight_dtype``: int8, int4, ternary, binary or float32; ``activation_dtype``: int8 or int4.
    ``backend`` is a target (a name, or the path of a table): a weight type that it lacks becomes
    int8, for a reason that the artifact states. ``ste``: the gradient of rounding, identity,
    clipped, polynomial or lsq; ``learn_scales``: whether scales are parameters, by default with
    lsq. ``config``: ``weight_quant`` and ``activation_quant`` (``symmetric``, ``granularity``), and
    ``layers``, changes by patterns of layer names: ``{"layers": {"head.*": {"weight_dtype":
    "int8"}}}``.

    The module is captured as it computes on ``example_inputs``, and scales are found from
    ``calibration_data`` (batches of inputs; by default the example inputs). Without either, the
    first batch that the result is called on serves for both. ``inplace``: do not copy the module.
    ``kernels``: whether compiled kernels compute on the CPU, by default where there are any;
    without them, and on other devices, integer-valued floats give the same bits. ``strict``: a
    layer without the weight type that was asked for is a FallbackError when the module is captured;
    otherwise ``fallbacks`` of the result has it. ``partial``: modules that uqfc cannot import stay
    float, and PyTorch computes them, in training and in evaluation: ``floats`` of the result lists
    them. Such a model can be trained and measured; it cannot be exported or compiled.

    Raises UnsupportedError with all calls that cannot be imported, UqfcError for what the arguments
    may not be.
    """
    if not isinstance(model, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance] # users err
        raise UqfcError(f"prepare_qat takes a torch.nn.Module, got {type(model).__name__}")
    options = parse_options(weight_dtype, activation_dtype, ste, config)
    load_target(backend)
    learned = options.estimator == Estimator.LSQ if learn_scales is None else learn_scales
    kept = model if inplace else copy.deepcopy(model)
    qat_model = QatModel(
        kept,
        options,
        str(backend),
        learn_scales=learned,
        kernels=kernels,
        strict=strict,
        partial=partial,
    )
    if example_inputs is not None:
        qat_model.capture(*as_inputs(example_inputs))
    if calibration_data is not None:
        batches = [as_inputs(batch) for batch in as_batches(calibration_data)]
        if not batches:
            raise UqfcError("calibration_data: no batches")
        qat_model.capture(*batches[0])
        qat_model.calibrate(batches)
    elif example_inputs is not None:
        qat_model.calibrate([as_inputs(example_inputs)])
    return qat_model


def as_inputs(batch: Any) -> tuple[Tensor, ...]:
    """A batch's inputs as a tuple. InputError for anything else."""
    if isinstance(batch, Tensor):
        return (batch,)
    if not isinstance(batch, Sequence):
        kind = type(batch).__name__
        raise InputError(f"a batch is {kind}; accepted: a torch.Tensor, or a sequence of them")
    return tuple(batch)


def as_batches(data: Any) -> Batches:
    """Itself. InputError for what is not several batches."""
    if isinstance(data, Tensor) or not isinstance(data, Iterable):
        kind = type(data).__name__
        raise InputError(f"calibration_data: {kind}; accepted: an iterable of batches")
    return cast(Batches, data)
