"""Whatever a file holds, reading it works or gives an error of the user's: never a crash."""

from __future__ import annotations

import json
from typing import Any

import onnx
from hypothesis import given
from hypothesis import strategies as st

from tests.frontend.test_robustness import damage, outcome
from tests.frontend.uqr import test_apply
from tests.frontend.uqr.models import document, model, text, with_text
from tests.onnx_models import residual_network
from uqfc.errors import UqfcError
from uqfc.frontend.uqr import apply_uqr

WORDS = st.sampled_from(
    ["int4", "int8", "binary", "per_channel", "layer1", "layer2.weight", "Conv_2d", "1.0", ""]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-20, 20)
    | st.floats()
    | st.sampled_from([10**400, -(2**63), 1e-46, 3.5e38])
    | st.text(max_size=4)
    | WORDS
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4) | WORDS, inner, max_size=4)
    ),
    max_leaves=8,
)


def places(content: Any, path: tuple[int | str, ...] = ()) -> list[tuple[int | str, ...]]:
    """Paths to all values inside."""
    items: Any = ()
    if isinstance(content, dict):
        items = content.items()
    elif isinstance(content, list):
        items = enumerate(content)
    found: list[tuple[int | str, ...]] = []
    for key, value in items:
        found += [(*path, key), *places(value, (*path, key))]
    return found


def reads(data: bytes) -> None:
    assert outcome(data).startswith("net.onnx: ")


def change(content: Any, data: st.DataObject) -> None:
    """Set, delete or add something anywhere."""
    *path, last = data.draw(st.sampled_from(places(content) or [("uqr",)]))
    held = content
    for key in path:
        held = held[key]
    match data.draw(st.sampled_from(["set", "delete", "add"])):
        case "set":
            held[last] = data.draw(VALUES)
        case "delete":
            held.pop(last, None) if isinstance(held, dict) else held.pop(last)
        case _ if isinstance(held, dict):
            held[data.draw(WORDS)] = data.draw(VALUES)
        case _:
            held.append(data.draw(VALUES))


@given(st.data())
def test_changed_documents(data: st.DataObject) -> None:
    content = document()
    for _ in range(data.draw(st.integers(1, 3))):
        change(content, data)
    reads(with_text(model(), json.dumps(content)))


@given(st.data())
def test_changed_documents_beside_a_float_model(data: st.DataObject) -> None:
    content = test_apply.document()
    for _ in range(data.draw(st.integers(1, 3))):
        change(content, data)
    try:
        applied = apply_uqr(residual_network(), content)
    except UqfcError:
        return
    reads(applied.SerializeToString())


@given(st.data())
def test_damaged_graphs(data: st.DataObject) -> None:
    proto = onnx.load_from_string(model())
    for _ in range(data.draw(st.integers(1, 3))):
        damage(proto, data.draw)
    reads(proto.SerializeToString())


@given(VALUES)
def test_any_json(value: Any) -> None:
    reads(with_text(model(), json.dumps(value)))


@given(st.text() | st.text(alphabet='{}[]":,0123456789eE+-.nulltrefas '))
def test_any_text(value: str) -> None:
    reads(with_text(model(), value.encode("utf-8", "replace").decode()))


@given(st.integers(0, len(text(model())) - 1), st.characters(codec="utf-8"))
def test_changed_characters(at: int, character: str) -> None:
    written = text(model())
    reads(with_text(model(), written[:at] + character + written[at + 1 :]))


@given(st.data())
def test_changed_bytes(data: st.DataObject) -> None:
    content = bytearray(model())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content) - 1))
        end = data.draw(st.integers(start, min(start + 8, len(content))))
        content[start:end] = data.draw(st.binary(max_size=8))
    reads(bytes(content[: data.draw(st.integers(1, len(content)) | st.just(len(content)))]))
