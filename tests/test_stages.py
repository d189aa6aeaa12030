"""The same program at every level, after calibration is folded: the same bits."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import ModuleOp

from tests.networks import awkward_inputs, integer, networks, quantized, quantized_networks
from tests.passes.graphs import random_inputs, same_bits
from uqfc.dialects.tensors import Array
from uqfc.interpreter import Interpreter
from uqfc.model import CompiledModel, build
from uqfc.passes.convert_to_integer import ConvertToIntegerPass
from uqfc.pipeline import integer_passes, run_passes
from uqfc.targets import load_target, missing_cpu_features

TARGETS = ("avx512-vnni", "x86-64-v3", "x86-64")


def runnable(target: str) -> str:
    missing = missing_cpu_features(load_target(target))
    if missing:
        pytest.skip(f"this CPU lacks {', '.join(missing)}, which {target} needs")
    return target


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> str:
    return runnable(request.param)


def compiled(network: ModuleOp, target: str) -> CompiledModel:
    return build(network, load_target(target), target, "network", "int8")


def differing(expected: dict[str, Array], actual: dict[str, Array]) -> list[str]:
    """Names of the outputs whose bits differ."""
    assert list(expected) == list(actual)
    return [name for name in expected if not same_bits(expected[name], actual[name])]


def check_every_level(module: ModuleOp, target: str) -> None:
    levels: dict[str, ModuleOp] = {}

    def keep(name: str, at: ModuleOp) -> None:
        levels[name] = at.clone()

    network = module.clone()
    run_passes(network, integer_passes(), keep)
    model = build(network, load_target(target), target, "network", "int8", keep)
    assert list(levels)[-5:] == [
        "canonicalize-weights",
        "form-kernels",
        "select-kernels",
        "pack-weights",
        "plan-memory",
    ]
    for inputs in (random_inputs(module, 1), awkward_inputs(module)):
        expected = Interpreter().run(levels["convert-to-integer"], inputs)
        for name, level in levels.items():
            assert not differing(expected, Interpreter().run(level, inputs)), f"{name}\n{level}"
        assert not differing(expected, model.run(inputs)), f"{target}\n{levels['form-kernels']}"


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(module=quantized_networks())
def test_every_level_gives_the_same_bits(module: ModuleOp, target: str) -> None:
    check_every_level(module, target)


@settings(max_examples=8, suppress_health_check=list(HealthCheck))
@given(module=networks())
def test_float_networks_too(module: ModuleOp, target: str) -> None:
    check_every_level(module, target)
