from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codegen.toy import make_info
from uqfc_runtime import ArtifactError, ModelInfo, parse_info
from uqfc_runtime.info import MAX_BYTES

DIGESTS = {"y": "0" * 64, "z": "f" * 64}


def test_sound_document() -> None:
    info = parse_info(json.dumps(make_info(verification={"seed": 7, "outputs": DIGESTS})))
    assert [str(tensor) for tensor in info.inputs] == ["float32[2, 20]", "uint8[1]"]
    assert info.outputs[0].dtype == np.float32
    assert info.outputs[0].nbytes == 160
    assert (info.arena_bytes, info.arena_alignment) == (160, 64)
    assert info.layers[0].reason == "no_kernel"
    assert info.layers[0].kernel is None
    assert info.verification is not None
    assert info.verification.seed == 7
    assert info.raw["uqr"] == {}


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        (["abi"], 1, "ABI version 1; this runtime speaks 2"),
        (["abi"], True, "info.abi must be int, not bool"),
        (["name"], 3, "info.name must be str, not int"),
        (["target", "cpu_features"], [1], "info.target.cpu_features"),
        (["inputs"], {}, "info.inputs must be list"),
        (["inputs", 1], "x", r"info.inputs\[1\] must be an object"),
        (["inputs", 1, "name"], "x", "info.inputs: names are not unique"),
        (["inputs", 0, "dtype"], "float16", r"inputs\[0\].dtype: 'float16' is none of float32"),
        (["inputs", 0, "shape"], [2, 0], r"inputs\[0\].shape"),
        (["inputs", 0, "shape"], [2, -1], r"inputs\[0\].shape"),
        (["inputs", 0, "shape"], [2, 1.0], r"inputs\[0\].shape"),
        (["inputs", 0, "shape"], [True], r"inputs\[0\].shape"),
        (["inputs", 0, "shape"], [1] * 33, "at most 32"),
        (["outputs", 0, "shape"], [2**40, 2**40], "more than"),
        (["arena", "bytes"], -1, "info.arena.bytes: -1"),
        (["arena", "bytes"], MAX_BYTES + 1, "info.arena.bytes"),
        (["arena", "bytes"], 1e3, "must be int, not float"),
        (["arena", "alignment"], 0, "info.arena.alignment"),
        (["arena", "alignment"], 32, "info.arena.alignment: 32 is not within"),
        (["arena", "alignment"], 96, "not a power of two"),
        (["weights_bytes"], None, "info.weights_bytes must be int"),
        (["layers", 0, "op"], None, r"info.layers\[0\].op"),
        (["layers", 0, "kernel"], 1, r"info.layers\[0\].kernel"),
        (["verification"], {"seed": 1, "outputs": {"y": "0" * 64}}, "does not name the model's"),
        (["verification"], {"seed": 1, "outputs": {"y": "0", "z": "0"}}, "y must be a SHA-256"),
        (["verification"], {"seed": 2**64, "outputs": DIGESTS}, "info.verification.seed"),
    ],
)
def test_each_malformed_field_is_named(place: list[Any], value: object, expected: str) -> None:
    with pytest.raises(ArtifactError, match=expected):
        parse_info(json.dumps(replaced(make_info(), place, value)))


@pytest.mark.parametrize("key", sorted(set(make_info()) - {"uqr", "quant_strategy"}))
def test_required_fields(key: str) -> None:
    info = make_info()
    del info[key]
    with pytest.raises(ArtifactError, match=f"info.{key} is missing"):
        parse_info(json.dumps(info))


@pytest.mark.parametrize("text", [b"", b"\xff", b"[" * 100_000, b"3", b"{" + b"9" * 9999, "[1]"])
def test_not_an_object(text: bytes | str) -> None:
    with pytest.raises(ArtifactError, match="model info"):
        parse_info(text)


def places(tree: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all values of a JSON document."""
    if isinstance(tree, dict):
        children = list(tree.items())
    else:
        children = list(enumerate(tree)) if isinstance(tree, list) else []
    found = [(*prefix, key) for key, _ in children]
    return found + [p for key, value in children for p in places(value, (*prefix, key))]


def replaced(tree: dict[str, Any], place: Any, value: object) -> dict[str, Any]:
    """A copy of the document with another value at ``place``."""
    result = copy.deepcopy(tree)
    node: Any = result
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    return result


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


COMPLETE = make_info(verification={"seed": 1, "outputs": DIGESTS})


@given(st.sampled_from(places(COMPLETE)), json_values)
@settings(max_examples=300)
def test_any_replacement_is_read_or_refused(place: tuple[Any, ...], value: object) -> None:
    try:
        info = parse_info(json.dumps(replaced(COMPLETE, place, value)))
    except ArtifactError:
        return
    assert isinstance(info, ModelInfo)
    assert info.arena_bytes <= MAX_BYTES
    assert all(0 < tensor.nbytes <= MAX_BYTES for tensor in info.inputs + info.outputs)
