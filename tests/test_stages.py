"""The same program at every level, after calibration is folded: the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import dropwhile
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue

from tests.codegen import amx
from tests.networks import (
    NetworkBuilder,
    awkward_inputs,
    integer,
    named,
    networks,
    quantized,
    quantized_networks,
)
from tests.passes.graphs import random_inputs, same_bits
from uqfc.codegen.isa import isa_for
from uqfc.codegen.lowering import alternatives
from uqfc.dialects import nn
from uqfc.dialects.qkernel import LaunchOp
from uqfc.dialects.tensors import Array, shape_of
from uqfc.interpreter import Interpreter
from uqfc.model import CompiledModel, build
from uqfc.passes.form_kernels import FormKernelsPass
from uqfc.pipeline import integer_passes, kernel_passes, run_passes
from uqfc.targets import load_target, missing_cpu_features

TARGETS = ("avx512-amx", "avx512-vnni", "avx-vnni", "x86-64-v3", "x86-64")
on_every_target = pytest.mark.parametrize("target", TARGETS)


@pytest.fixture(autouse=True, scope="module")
def emulated_amx() -> Iterator[None]:
    with amx.emulated():
        yield


def skip_unless_runnable(target: str) -> None:
    missing = missing_cpu_features(load_target(target))
    if missing:
        pytest.skip(f"this CPU lacks {', '.join(missing)}, which {target} needs")


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
    assert list(levels) == [p.name for p in (*integer_passes(), *kernel_passes(target))]
    for inputs in (random_inputs(module, 1), awkward_inputs(module)):
        expected = Interpreter().run(levels["convert-to-integer"], inputs)
        defined = dropwhile(lambda item: item[0] != "convert-to-integer", levels.items())
        for name, level in defined:
            assert not differing(expected, Interpreter().run(level, inputs)), f"{name}\n{level}"
        assert not differing(expected, model.run(inputs)), f"{target}\n{levels['form-kernels']}"


@on_every_target
@settings(max_examples=25)
@given(module=quantized_networks())
def test_every_level_gives_the_same_bits(target: str, module: ModuleOp) -> None:
    skip_unless_runnable(target)
    check_every_level(module, target)


@on_every_target
@settings(max_examples=8)
@given(module=networks())
def test_float_networks_too(target: str, module: ModuleOp) -> None:
    skip_unless_runnable(target)
    check_every_level(module, target)


def network_for_tiles(strategy: str) -> ModuleOp:
    """Layers that are large enough for matrix tiles, some of them just so."""
    b = NetworkBuilder([(1, 13, 11, 40)], seed=1)
    x = b.block.args[0]
    around = (1, 1, 1, 1)

    def conv(x: SSAValue, outputs: int, kernel: int, **options: Any) -> SSAValue:
        weight = b.weights("plain", outputs, kernel, kernel, shape_of(x)[-1])
        bias = b.constant(b.random.standard_normal(outputs))
        return b.layer(nn.Conv2dOp(x, weight, bias, **options))

    wide = conv(x, 90, 3, padding=around, activation=nn.fn("hard_swish"))
    small = conv(wide, 61, 1, strides=(2, 2))
    back = conv(small, 59, 3, dilations=(1, 2), padding=(1, 2, 1, 2))
    y = conv(back, 61, 1, residual=small)
    rows = b.add(nn.ReshapeOp(y, (42, 61)))
    return quantized(named(b.module([b.linear(rows, 17), back])), strategy)


@on_every_target
@pytest.mark.parametrize("strategy", ["int8", "int4", "mixed_int4_int8", "ternary", "binary"])
def test_layers_that_are_large_enough_for_tiles(target: str, strategy: str) -> None:
    skip_unless_runnable(target)
    network = integer(network_for_tiles(strategy))
    model = compiled(network, target)
    kernels = [layer.kernel or "" for layer in model.layers]
    assert sum(name.endswith("__amx") for name in kernels) == (5 if "amx" in target else 0)
    inputs = random_inputs(network)
    assert not differing(model.reference(inputs), model.run(inputs))


@on_every_target
def test_every_alternative_has_an_estimate(target: str) -> None:
    """Or it would look best."""
    kernels, isa = integer(network_for_tiles("int8")).clone(), isa_for(load_target(target))
    run_passes(kernels, [FormKernelsPass()])
    found = [alternatives(op, isa) for op in kernels.walk() if isinstance(op, LaunchOp)]
    several = [choices for choices in found if len(choices) > 1]
    assert several
    assert all(choice.estimate > 0 for choices in several for choice in choices)


@on_every_target
@settings(max_examples=3)
@given(module=quantized_networks())
def test_runs_from_several_threads_do_not_see_each_other(target: str, module: ModuleOp) -> None:
    """Every run finds in its arena what some other input left there."""
    skip_unless_runnable(target)
    network = integer(module)
    model = compiled(network, target)
    inputs = [random_inputs(network, seed) for seed in range(4)]
    expected = [model.reference(x) for x in inputs]
    order = [i % len(inputs) for i in range(40)]
    with ThreadPoolExecutor(4) as pool:
        actual = list(pool.map(lambda i: model.run(inputs[i]), order))
    for i, outputs in zip(order, actual, strict=True):
        assert not differing(expected[i], outputs)


@on_every_target
@settings(max_examples=5)
@given(module=quantized_networks())
def test_results_do_not_depend_on_what_the_arena_holds(target: str, module: ModuleOp) -> None:
    skip_unless_runnable(target)
    network = integer(module)
    model = compiled(network, target)
    inputs = random_inputs(network)
    expected = model.reference(inputs)
    model.run(inputs)
    (workspace,) = model._loaded._idle
    for filling in (0x00, 0x7F, 0xFF):
        workspace._arena[:] = filling
        out = {name: np.full(array.shape, 99, array.dtype) for name, array in expected.items()}
        assert not differing(expected, model.run(inputs, out))
