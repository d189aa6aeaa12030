from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue

from tests.networks import NetworkBuilder, networks, with_observers
from tests.passes.graphs import assert_exact
from uqfc.dialects import nn
from uqfc.dialects.quant import ObserveOp
from uqfc.passes.insert_observers import InsertObserversPass
from uqfc.passes.support.quantizable import LAYERS, MOVEMENT, is_constant


def observers(module: ModuleOp) -> list[ObserveOp]:
    return [op for op in module.walk() if isinstance(op, ObserveOp)]


def point_of(value: SSAValue) -> str | None:
    return value.owner.point.data if isinstance(value.owner, ObserveOp) else None


@settings(max_examples=25)
@given(networks())
def test_exact(module: ModuleOp) -> None:
    assert_exact(module, InsertObserversPass())


@settings(max_examples=25)
@given(networks())
def test_every_layer_reads_observed_activations(module: ModuleOp) -> None:
    for op in with_observers(module).walk():
        if isinstance(op, LAYERS):
            assert point_of(op.x) is not None
            assert op.residual is None or point_of(op.residual) is not None


@settings(max_examples=25)
@given(networks())
def test_no_value_is_observed_twice_and_every_observer_is_read(module: ModuleOp) -> None:
    found = observers(with_observers(module))
    assert len({op.x for op in found}) == len(found)
    assert all(op.result.first_use is not None for op in found)


@settings(max_examples=25)
@given(networks())
def test_tied_points_take_the_statistics_of_an_untied_one(module: ModuleOp) -> None:
    found = observers(with_observers(module))
    measured = {op.point.data for op in found if "tied" not in op.attributes}
    assert {op.point.data for op in found} == measured


@settings(max_examples=25)
@given(networks())
def test_movement_has_one_point_on_both_sides(module: ModuleOp) -> None:
    for op in observers(with_observers(module)):
        owner = op.x.owner
        if isinstance(owner, MOVEMENT) and point_of(owner.operands[0]) is not None:
            assert point_of(owner.operands[0]) == op.point.data


def test_branches_of_a_concatenation_share_its_point() -> None:
    b = NetworkBuilder([(1, 2, 2, 4)])
    x = b.block.args[0]
    branches = [b.layer(nn.Conv2dOp(x, b.weights("plain", 3, 1, 1, 4))) for _ in range(2)]
    joined = b.add(nn.ConcatOp(branches, 3))
    module = b.module([b.layer(nn.Conv2dOp(joined, b.weights("plain", 2, 1, 1, 6)))])
    by_value = {
        op.x: op.point.data for op in observers(assert_exact(module, InsertObserversPass()))
    }
    assert (
        sorted(by_value.values()).count(max(by_value.values(), key=list(by_value.values()).count))
        == 3
    )


def test_a_branch_that_others_read_keeps_its_own_point() -> None:
    b = NetworkBuilder([(1, 2, 2, 4)])
    x = b.block.args[0]
    shared = b.layer(nn.Conv2dOp(x, b.weights("plain", 4, 1, 1, 4)))
    joined = b.add(nn.ConcatOp([shared, x], 3))
    outputs = [
        b.layer(nn.Conv2dOp(joined, b.weights("plain", 2, 1, 1, 8))),
        b.layer(nn.Conv2dOp(shared, b.weights("plain", 2, 1, 1, 4))),
    ]
    found = observers(with_observers(b.module(outputs)))
    assert len({op.point.data for op in found}) == 3


def test_a_network_without_layers_stays_float() -> None:
    b = NetworkBuilder([(1, 2, 2, 4)])
    x = b.add(nn.UnaryOp(b.block.args[0], nn.fn("relu")))
    module = b.module([b.add(nn.AddOp(x, x))])
    assert not observers(with_observers(module))


def test_layers_with_weights_that_vary_are_not_observed() -> None:
    b = NetworkBuilder([(2, 4), (3, 4)])
    x, weight = b.block.args
    module = b.module([b.layer(nn.LinearOp(x, weight))])
    assert not observers(with_observers(module))


def test_only_activations_are_observed() -> None:
    b = NetworkBuilder([(1, 4)])
    module = b.module([b.linear(b.block.args[0], 3)])
    found = observers(with_observers(module))
    assert len(found) == 1
    assert not is_constant(found[0].x)
    assert np.prod(found[0].x.type.get_shape()) == 4  # pyright: ignore[reportAttributeAccessIssue]
