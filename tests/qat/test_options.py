"""What prepare_qat may be asked for: every wrong value is named with what is accepted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from uqfc.errors import TargetError, UqfcError  # noqa: E402 - torch first
from uqfc.qat.options import GRANULARITIES, Options, parse_options  # noqa: E402
from uqfc.qat.prepare import prepare_qat  # noqa: E402

nn = torch.nn


def module() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))


X = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"weight_dtype": "int3"}, r"weight_dtype: 'int3' is unknown; accepted: int8, int4"),
    ({"weight_dtype": 4}, r"weight_dtype: 4 is unknown; accepted: int8"),
    ({"activation_dtype": "ternary"}, r"activation_dtype: 'ternary' .*accepted: int8, int4"),
    ({"ste": "magic"}, r"ste: 'magic' is unknown; accepted: identity, clipped, polynomial, lsq"),
    ({"config": 3}, r"config: .*accepted: a mapping"),
    ({"config": {"weights": {}}}, r"config: unknown weights; accepted: weight_quant"),
    ({"config": {"weight_quant": []}}, r"config: weight_quant: \[\]; accepted: a mapping"),
    ({"config": {"weight_quant": {"bits": 4}}}, r"weight_quant: unknown bits; accepted: symmetric"),
    ({"config": {"weight_quant": {"symmetric": 1}}}, r"weight_quant: symmetric: 1; accepted: True"),
    (
        {"config": {"weight_quant": {"granularity": "group"}}},
        r"weight_quant: granularity: 'group' is unknown; accepted: channel, per_channel, tensor",
    ),
    (
        {"config": {"activation_quant": {"granularity": "channel"}}},
        r"activation_quant: granularity: 'channel'; accepted: tensor",
    ),
    (
        {"config": {"activation_quant": {"granularity": ["tensor"]}}},
        r"activation_quant: granularity: .*accepted: tensor",
    ),
    ({"config": {"activation_quant": {"symmetric": "no"}}}, r"activation_quant: symmetric: 'no'"),
    ({"config": {"activation_quant": {"dtype": "u8"}}}, r"activation_quant: unknown dtype"),
    ({"config": {"layers": ["0"]}}, r"config: layers: \['0'\]; accepted: a mapping"),
    ({"config": {"layers": {"0": 8}}}, r"config: layers: '0': 8; accepted: a mapping"),
    ({"config": {"layers": {"0": {"bits": 8}}}}, r"layers: '0': unknown bits; accepted: weight_d"),
    (
        {"config": {"layers": {"0": {"weight_dtype": "fp8"}}}},
        r"layers: '0': weight_dtype: 'fp8' is unknown; accepted: int8",
    ),
    (
        {"config": {"layers": {"0": {"activation_dtype": []}}}},
        r"layers: '0': activation_dtype: \[\] is unknown; accepted: int8",
    ),
    (
        {"weight_dtype": "ternary", "config": {"weight_quant": {"symmetric": False}}},
        r"config: weight_quant: ternary weights are symmetric",
    ),
    (
        {"config": {"layers": {"0": {"weight_dtype": "binary", "symmetric": False}}}},
        r"layers: '0': binary weights are symmetric",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_wrong_values_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UqfcError, match=message):
        prepare_qat(module(), **arguments)


def test_a_pattern_without_a_layer_is_named_with_the_layers() -> None:
    config = {"layers": {"head.*": {"weight_dtype": "int8"}}}
    with pytest.raises(UqfcError, match=r"no layer matches 'head\.\*'; layers: 0, 3"):
        prepare_qat(module(), config=config, example_inputs=X)


def test_an_unknown_backend_is_named() -> None:
    with pytest.raises(TargetError, match="pdp11"):
        prepare_qat(module(), backend="pdp11")


@given(
    st.sampled_from(["int8", "int4"]),
    st.sampled_from(sorted(GRANULARITIES)),
    st.booleans(),
    st.booleans(),
)
def test_options_survive_their_document(
    dtype: str, granularity: str, symmetric: bool, activations: bool
) -> None:
    config = {
        "weight_quant": {"granularity": granularity, "symmetric": symmetric},
        "activation_quant": {"symmetric": activations},
        "layers": {"a*": {"weight_dtype": "binary", "symmetric": True}},
    }
    options = parse_options(dtype, "int8", "clipped", config)
    assert Options.restored(options.document()) == options
    assert options.default.per_channel == GRANULARITIES[granularity]
    assert options.of("b").weight_dtype == dtype
    assert options.of("abc").weight_dtype == "binary"


def test_later_patterns_change_earlier_ones() -> None:
    layers = {"*": {"weight_dtype": "int8"}, "b*": {"weight_dtype": "int4", "symmetric": True}}
    options = parse_options("ternary", "int8", "lsq", {"layers": layers})
    assert options.of("a").weight_dtype == "int8"
    assert (options.of("b1").weight_dtype, options.of("b1").symmetric) == ("int4", True)


def test_layers_have_what_patterns_say() -> None:
    config = {"layers": {"0": {"weight_dtype": "int8"}, "3": {"weight_dtype": "float32"}}}
    model = prepare_qat(module(), config=config, example_inputs=X)
    assert model.plan.layers["0"].kind.storage == "i8"
    assert model.plan.floats == {"3": "requested"}
