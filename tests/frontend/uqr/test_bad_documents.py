"""Every kind of wrong document is refused with the op, the field, and what would be accepted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import numpy_helper

from tests.frontend.uqr.models import (
    FIRST,
    INPUT,
    SECOND,
    Change,
    changed,
    document,
    entry,
    model,
    of,
    text,
    with_text,
    without,
)
from uqfc.errors import ModelError, UqfcError, UqrError
from uqfc.frontend import read_onnx

W, A = "weight_quant", "activation_quant"
HARD_SWISH = f"{FIRST}/HardSwish"


def rename(name: str, other: str) -> Change:
    return lambda content: entry(content, name).update(name=other)


def drop(name: str) -> Change:
    return lambda content: content["ops"].remove(entry(content, name))


def repeat(name: str) -> Change:
    return lambda content: content["ops"].append(entry(content, name))


def put(**fields: Any) -> Change:
    return lambda content: content.update(fields)


BAD: dict[str, tuple[Change, str]] = {
    "version": (put(uqr="2.0"), r"uqr: version '2.0'; accepted: '1.0'"),
    "no version": (lambda c: c.pop("uqr"), r"uqr: version None; accepted: '1.0'"),
    "rounding": (
        put(numerics={"rounding": "half_up"}),
        r"numerics.rounding: 'half_up'; accepted: 'half_even'",
    ),
    "unknown field": (put(layers=[]), r"layers: unknown field; accepted: uqr, numerics, ops"),
    "unknown field of an op": (
        lambda c: entry(c, FIRST).update(bits=4),
        r"op 'layer1': bits: unknown field; accepted: name, op, weight_quant",
    ),
    "unknown field of weights": (
        of(FIRST, W, bits=4),
        r"op 'layer1': weight_quant.bits: unknown field; accepted: tensor, dtype",
    ),
    "no ops": (lambda c: c.pop("ops"), r"ops: is missing"),
    "no name": (lambda c: entry(c, FIRST).pop("name"), r"ops\[1\]: name: is missing"),
    "dtype": (
        of(FIRST, W, dtype="int5"),
        r"op 'layer1': weight_quant.dtype: 'int5'; accepted: 'int8', 'uint8', 'int4'",
    ),
    "no dtype": (without(FIRST, W, "dtype"), r"op 'layer1': weight_quant.dtype: is missing"),
    "dtype of the graph": (
        of(FIRST, W, dtype="int8"),
        r"op 'layer1': weight_quant.dtype: 'int8', but the graph's tensor is u4; accepted: int4",
    ),
    "fp8": (of(FIRST, W, dtype="fp8_e4m3"), r"weight_quant.dtype: 'fp8_e4m3', but"),
    "granularity": (
        of(FIRST, W, granularity="per_row"),
        r"weight_quant.granularity: 'per_row'; accepted: 'per_channel', 'per_tensor'",
    ),
    "granularity of the graph": (
        of(FIRST, W, granularity="tensor"),
        r"granularity: 'per_tensor', but the graph has 'per_channel'",
    ),
    "axis": (of(FIRST, W, axis=1), r"weight_quant.axis: 1, but the graph has 0"),
    "negative axis": (of(FIRST, W, axis=-1), r"weight_quant.axis: -1: input should be greater"),
    "block size": (of(FIRST, W, block_size=2), r"block_size: 2, but the graph has None"),
    "zero scale": (
        of(FIRST, W, scale=[0.1, 0.0, 0.1]),
        r"op 'layer1': weight_quant.scale.1: is 0; accepted: finite float32 values above 0",
    ),
    "negative scale": (of(INPUT, A, scale=-0.5), r"activation_quant.scale.0: is -0.5; accepted"),
    "tiny scale": (of(INPUT, A, scale=1e-60), r"activation_quant.scale.0: is 1e-60; accepted"),
    "large scale": (of(INPUT, A, scale=1e60), r"activation_quant.scale.0: is beyond float32"),
    "text scale": (of(INPUT, A, scale="0.5"), r"activation_quant.scale: '0.5': input should be"),
    "true scale": (of(INPUT, A, scale=[True]), r"activation_quant.scale.0: True: input should"),
    "no scale": (without(FIRST, W, "scale"), r"op 'layer1': weight_quant.scale: is missing"),
    "other scale": (
        of(INPUT, A, scale=0.5),
        r"activation_quant.scale: 0.5 at 0, but the graph has 0\.\d+",
    ),
    "number of scales": (
        of(FIRST, W, scale=[0.5, 0.5]),
        r"weight_quant.scale: 2 values, but the graph has 3",
    ),
    "number of zero points": (
        of(FIRST, W, zero_point=[8]),
        r"weight_quant.zero_point: 1 values, but there are 3 scales",
    ),
    "no zero point": (without(FIRST, W, "zero_point"), r"weight_quant.zero_point: is missing"),
    "zero point out of range": (
        of(FIRST, W, zero_point=[8, 16, 8]),
        r"op 'layer1': weight_quant.zero_point: 16 at 1; accepted: integers from 0 to 15",
    ),
    "real zero point": (of(FIRST, W, zero_point=[8.5, 8, 8]), r"weight_quant.zero_point.0: 8.5"),
    "other zero point": (of(INPUT, A, zero_point=3), r"zero_point: 3 at 0, but the graph has \d+"),
    "symmetric": (of(FIRST, W, symmetric=True), r"weight_quant.symmetric: True, but the zero"),
    "range": (
        of(FIRST, W, range=[-1, 15]),
        r"weight_quant.range: \[-1, 15\]; accepted: two ascending integers within \[0, 15\]",
    ),
    "descending range": (of(FIRST, W, range=[15, 0]), r"weight_quant.range: \[15, 0\]; accepted"),
    "range of three": (of(FIRST, W, range=[0, 1, 2]), r"weight_quant.range: \[0, 1, 2\]: list"),
    "range without the weights": (
        of(FIRST, W, range=[7, 8], zero_point=[7, 7, 7]),
        r"op 'layer1': weight_quant",
    ),
    "real range": (
        of(INPUT, A, range=[-100.0, 100.0]),
        r"activation_quant.range: \[-100.0, 100.0\], but the integers stand for \[",
    ),
    "ternary weights of four bits": (
        of(FIRST, W, dtype="ternary"),
        r"dtype: 'ternary', but the graph's tensor is u4; accepted: int4, uint4",
    ),
    "op that is not there": (
        rename(FIRST, "layer9"),
        r"op 'layer9': name: the graph has no node of this name",
    ),
    "op twice": (repeat(FIRST), r"op 'layer1': name: is described twice"),
    "op of another type": (
        lambda c: entry(c, FIRST).update(op="linear"),
        r"op 'layer1': op: 'Gemm', but the node is a Conv",
    ),
    "op that is missing": (
        drop(SECOND),
        r"op 'layer2': weight_quant: is missing; the graph quantizes its tensor 'layer2.weight'",
    ),
    "weights that are missing": (without(FIRST, W), r"op 'layer1': weight_quant: is missing"),
    "activation that is missing": (drop(INPUT), r"op 'input0/.*': activation_quant: is missing"),
    "tensor": (
        of(FIRST, W, tensor="kernel"),
        r"op 'layer1': weight_quant.tensor: the graph has no quantized tensor 'kernel'",
    ),
    "tensor of another op": (
        of(FIRST, W, tensor="layer2.weight"),
        r"weight_quant.tensor: 'layer2.weight' belongs to the op 'layer2'",
    ),
    "quantization of what is not": (
        lambda c: c["ops"].append(
            {"name": HARD_SWISH, "op": "HardSwish", W: entry(c, FIRST)[W] | {"tensor": None}}
        ),
        r"op 'layer1/HardSwish': weight_quant: the graph quantizes nothing",
    ),
    "reason": (
        of(FIRST, "decision", reason="mood"),
        r"op 'layer1': decision.reason: 'mood'; accepted: 'requested', 'sensitive'",
    ),
    "chosen": (of(FIRST, "decision", chosen="int3"), r"decision.chosen: 'int3'; accepted: 'int8'"),
    "sensitivity": (
        lambda c: entry(c, FIRST).update(sensitivity={"int4": -1.0}),
        r"op 'layer1': sensitivity.int4: -1.0: input should be greater",
    ),
    "hash": (
        put(calibration={"data_sha256": "abc"}),
        r"calibration.data_sha256: 'abc': string should match",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_is_refused(kind: str) -> None:
    change, message = BAD[kind]
    with pytest.raises(UqrError, match=message) as caught:
        read_onnx(changed(change), source="net.cann")
    assert str(caught.value).startswith("net.cann: metadata property 'uqr': ")


@pytest.mark.parametrize(
    "value", ["", "{", "[]", "null", '{"uqr": "1.0", "uqr": "1.0"}', "[" * 9999]
)
def test_text_that_is_no_document(value: str) -> None:
    with pytest.raises(UqrError, match="metadata property 'uqr': "):
        read_onnx(with_text(model(), value))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e400", "9" * 5000])
def test_numbers_that_are_none(number: str) -> None:
    content = text(model()).replace('"scale":[', f'"scale":[{number},', 1)
    with pytest.raises(UqrError):
        read_onnx(with_text(model(), content))


def test_binary_weights_are_not_zero() -> None:
    proto = onnx.load_from_string(model("binary"))
    (weight,) = [t for t in proto.graph.initializer if t.name == "layer1.weight"]
    assert set(numpy_helper.to_array(weight).astype(int).flat) == {-1, 1}
    weight.raw_data = b"\0" + weight.raw_data[1:]
    with pytest.raises(
        UqrError, match=r"op 'layer1': weight_quant.dtype: 'binary', but .* -1 or 1"
    ):
        read_onnx(proto.SerializeToString())


def test_ternary_weights_are_at_most_one() -> None:
    proto = onnx.load_from_string(model("ternary"))
    (weight,) = [t for t in proto.graph.initializer if t.name == "layer1.weight"]
    weight.raw_data = b"\x02" + weight.raw_data[1:]
    with pytest.raises(UqrError, match=r"op 'layer1': weight_quant.range: .* from -1 to 2"):
        read_onnx(proto.SerializeToString())


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_truncated_files(tmp_path: Path, share: float) -> None:
    path = tmp_path / "net.cann"
    path.write_bytes(model()[: int(len(model()) * share)])
    with pytest.raises(ModelError, match=r"net.cann: "):
        read_onnx(path)


def test_other_spellings_are_read() -> None:
    content = document()
    conv, gemm = entry(content, FIRST), entry(content, SECOND)
    conv["op"], gemm["op"] = "Conv_2d", "linear"
    conv[W]["granularity"] = "channel"
    conv[W]["dtype"] = "int4"
    conv[A]["granularity"], conv[A]["scale"] = "tensor", conv[A]["scale"][0]
    for held in (conv[W], conv[A], gemm[W]):
        for field in ("tensor", "axis", "range", "integer_range"):
            held.pop(field, None)
    read = read_onnx(with_text(model(), json.dumps(content)))
    expected = read_onnx(model())
    assert str(read.convert()) == str(expected.convert())


def test_errors_are_the_users() -> None:
    assert issubclass(UqrError, ModelError)
    assert issubclass(ModelError, UqfcError)
