"""A result from the cache is the result of compiling, and never that of other arguments."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import numpy_helper
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

import uqfc
import uqfc.compiler
from tests.codegen.toy import needs_linker
from tests.onnx_models import perceptron, residual_network, samples
from uqfc import results
from uqfc.cache import Cache, decode_result, encode_result
from uqfc.codegen.lowering.registry import LOWERINGS
from uqfc.errors import CalibrationError, UqfcError
from uqfc.frontend import CONVERTERS, read_onnx
from uqfc.frontend.onnx_ops.registry import Converter
from uqfc.interpreter.registry import CONTEXTUAL_MEANINGS, MEANINGS
from uqfc.latency import LatencyTable
from uqfc.model import CompiledModel
from uqfc.passes.uint8_inputs import UInt8
from uqfc.results import RecordedData
from uqfc.targets import load_target

SHAPE = (2, 6)
INPUT = {"x": samples(SHAPE)[0]}


class Runs:
    """Counts how often something was compiled rather than restored."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        original = uqfc.compiler.compile_read

        def counted(*arguments: Any) -> CompiledModel:
            self.count += 1
            return original(*arguments)

        monkeypatch.setattr(uqfc.compiler, "compile_read", counted)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    monkeypatch.setenv("UQFC_CACHE_DIR", str(tmp_path / "cache"))
    forget_code_of_others(monkeypatch)
    return Runs(monkeypatch)


def forget_code_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests of this process may have registered ops of their own, which keep nothing."""
    functions: list[tuple[dict[Any, Any], Any, Any]] = [
        (CONVERTERS, key, converter.convert) for key, converter in CONVERTERS.items()
    ]
    for registry in (MEANINGS, CONTEXTUAL_MEANINGS, LOWERINGS):
        functions += [(registry, key, function) for key, function in registry.items()]
    for registry, key, function in functions:
        if not function.__module__.startswith("uqfc."):
            monkeypatch.delitem(registry, key)


def compiled(**options: Any) -> CompiledModel:
    arguments: dict[str, Any] = {"calibration_data": samples(SHAPE), **options}
    return uqfc.compile(arguments.pop("model", None) or perceptron(), **arguments)


def used(**options: Any) -> CompiledModel:
    """A model that was run, which is when its result is kept."""
    model = compiled(**options)
    (x,) = model.info["inputs"]
    model.run({"x": INPUT["x"].astype(x["dtype"])})
    return model


@pytest.mark.parametrize("strategy", ["float32", "int8", "int4", "mixed_int4_int8", "ternary"])
@needs_linker
def test_a_restored_model_is_the_compiled_one(strategy: str, runs: Runs, tmp_path: Path) -> None:
    plain = compiled(quant_strategy=strategy, cache=False)
    first = used(quant_strategy=strategy)
    again = used(quant_strategy=strategy)
    assert runs.count == 2
    for model in (first, again):
        assert model.info == plain.info
        assert model.layers == plain.layers
        assert model.weights == plain.weights
        assert model.objects == plain.objects
        assert all(np.array_equal(model.run(INPUT)[k], v) for k, v in plain.run(INPUT).items())
    for suffix in ("so", "o"):
        files = [tmp_path / f"{name}.{suffix}" for name in ("plain", "first", "again")]
        for model, file in zip((plain, first, again), files, strict=True):
            model.save(file, prefix="net")
        assert len({file.read_bytes() for file in files}) == 1


def test_levels_of_ir_are_made_when_they_are_wanted(runs: Runs) -> None:
    first = used()
    again = used()
    assert runs.count == 1
    assert str(again.network) == str(first.network)
    assert str(again.kernels) == str(first.kernels)
    assert runs.count == 2
    expected = again.run(INPUT)
    assert all(np.array_equal(expected[k], v) for k, v in again.reference(INPUT).items())


@needs_linker
def test_hashes_of_the_verification_are_kept(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used().save(tmp_path / "first.so")
    monkeypatch.setattr(CompiledModel, "reference", None)
    used().save(tmp_path / "again.so")
    assert (tmp_path / "first.so").read_bytes() == (tmp_path / "again.so").read_bytes()
    assert runs.count == 1


# --- what makes a difference ----------------------------------------------------------------------


def renamed() -> onnx.ModelProto:
    model = perceptron()
    model.graph.name = "another"
    return model


def measured(microseconds: float) -> LatencyTable:
    """A table for this machine's target with one measurement."""
    entry = {"op": "linear", "geometry": "none", "dtype": "int8", "macs": 1, "bytes": 1}
    return LatencyTable.from_document(
        {
            "target": load_target("host").name,
            "cpu": "a CPU",
            "fixed": 1.0,
            "layers": [entry | {"microseconds": microseconds}],
        }
    )


def target_file(tmp_path: Path, description: str) -> Path:
    table = Path(uqfc.__file__).parent / "targets" / "x86-64.toml"
    path = tmp_path / "mine.toml"
    path.write_text(table.read_text().replace('description = "', f'description = "{description} '))
    return path


OTHER: dict[str, list[Any]] = {
    "model": [perceptron(names=("a", "b")), perceptron(bias=np.ones(3, np.float32)), renamed()],
    "target": ["x86-64"],
    "latencies": [measured(2.0), measured(3.0)],
    "bit_widths": [{"first": "int4"}, {"*": "int4"}],
    "quant_strategy": ["float32", "int4", "mixed_int4_int8"],
    "calibration_data": [samples(SHAPE, seed=1), samples(SHAPE)[:3], samples(SHAPE)[::-1]],
    "calibration_method": ["minmax", "percentile"],
    "calibration_samples": [1, 3],
    "weight_quant": [{"symmetric": False}, {"granularity": "tensor"}],
    "threads": [2],
    "strict": [True],
    "input_types": [{"x": "uint8"}, {"x": UInt8(0.5, 3)}, {"x": UInt8(0.5, 4)}],
    "pass_pipeline": ["fold-constants"],
}
NO_DIFFERENCE = {"shapes", "autotune", "progress", "trace", "cache"}
"""Resolved shapes are part of the model, what was measured is not kept; the others are no part of
the result."""


def test_every_argument_is_accounted_for() -> None:
    assert set(inspect.signature(uqfc.compile).parameters) == set(OTHER) | NO_DIFFERENCE | {"uqr"}


def document(low: float) -> dict[str, Any]:
    """A UQR document that quantizes the input."""
    scheme = {"dtype": "int8", "symmetric": False, "granularity": "tensor", "range": [low, 1.0]}
    return {"uqr": "1.0", "ops": [{"name": "x", "op": "Input", "activation_quant": scheme}]}


def test_another_document_is_another_result(runs: Runs) -> None:
    """Without calibration data, which a quantized model does not take from the cache."""
    for low in (-1.0, -2.0):
        used(uqr=document(low), calibration_data=None)
    assert runs.count == 2
    for low in (-1.0, -2.0):
        used(uqr=document(low), calibration_data=None)
    assert runs.count == 2


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in OTHER.items() for value in values]
)
def test_another_argument_is_another_result(name: str, value: Any, runs: Runs) -> None:
    used()
    used(**{name: value})
    assert runs.count == 2
    used(**{name: value})
    used()
    assert runs.count == 2


def test_the_order_of_patterns_counts(runs: Runs) -> None:
    """The first that matches is the one that is used."""
    for widths in ({"*": "int4", "first": "int8"}, {"first": "int8", "*": "int4"}):
        used(bit_widths=widths)
    assert runs.count == 2


def test_the_content_of_a_table_counts(runs: Runs, tmp_path: Path) -> None:
    for description in ("one", "two", "two", "one"):
        used(target=target_file(tmp_path, description))
    assert runs.count == 2


@pytest.mark.parametrize("variable", ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"])
def test_the_environment_of_float_arithmetic_counts(
    variable: str, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    used()
    monkeypatch.setenv(variable, "17")
    used()
    assert runs.count == 2


def test_shapes_count(runs: Runs) -> None:
    model = perceptron()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    for n in (2, 3, 2):
        data = samples((n, 6))
        uqfc.compile(model, shapes={"x": (n, 6)}, calibration_data=data).run({"x": data[0]})
    assert runs.count == 2


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_any_change_of_a_model_changes_its_digest(data: st.DataObject) -> None:
    model = residual_network()
    before = read_onnx(model).digest()
    assert read_onnx(residual_network()).digest() == before
    tensor = data.draw(st.sampled_from(list(model.graph.initializer)))
    array = numpy_helper.to_array(tensor).copy()
    place = data.draw(st.integers(0, array.size - 1))
    array.reshape(-1)[place] += 1
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    assert read_onnx(model).digest() != before


def test_weights_in_other_files_count(tmp_path: Path, runs: Runs) -> None:
    path = tmp_path / "net.onnx"
    for bias in (0.0, 1.0, 1.0):
        for old in tmp_path.glob("net.onnx*"):
            old.unlink()
        onnx.save(
            perceptron(bias=np.full(3, bias, np.float32)),
            path,
            save_as_external_data=True,
            location="net.onnx.data",
            size_threshold=0,
        )
        used(model=path)
    assert runs.count == 2


# --- calibration data -----------------------------------------------------------------------------


def reused(arrays: list[Any]) -> Iterator[Any]:
    """Gives one array again and again, with other content."""
    buffer = np.empty_like(arrays[0])
    for array in arrays:
        buffer[...] = array
        yield buffer


def test_data_counts_by_content(runs: Runs, tmp_path: Path) -> None:
    data = samples(SHAPE)
    np.savez(tmp_path / "data.npz", x=np.stack(data))
    sources: list[Any] = [
        data,
        iter(data),
        reused(data),
        {"x": np.stack(data)},
        np.concatenate(data),
        tmp_path / "data.npz",
    ]
    models = [used(calibration_data=source) for source in sources]
    assert runs.count == 1
    assert len({model.weights for model in models}) == 1


def test_only_what_was_consumed_counts(runs: Runs) -> None:
    data = itertools.chain(samples(SHAPE), itertools.repeat(None))
    used(calibration_data=data, calibration_samples=4)
    used(calibration_data=samples(SHAPE), calibration_samples=4)
    assert runs.count == 1


ARRAYS = hnp.arrays(np.float32, st.integers(0, 3), elements=st.floats(0, 4, width=32))


@given(st.lists(ARRAYS, max_size=4), st.integers(0, 60))
def test_recorded_data_is_the_data(arrays: list[Any], limit: int) -> None:
    recorded = RecordedData(({"x": array} for array in reused_or_not(arrays)), limit)
    given_ = [sample["x"].tolist() for sample in recorded]
    assert given_ == [array.tolist() for array in arrays]
    assert (recorded.digest is None) == (sum(a.nbytes for a in arrays) > limit)
    if recorded.digest is not None:
        assert [sample["x"].tolist() for sample in recorded] == given_


def reused_or_not(arrays: list[Any]) -> Iterator[Any]:
    yield from (array.copy() for array in arrays)


@given(st.lists(ARRAYS, max_size=3), st.lists(ARRAYS, max_size=3))
def test_digests_tell_data_apart(a: list[Any], b: list[Any]) -> None:
    first, second = (RecordedData([{"x": x} for x in arrays]).digest for arrays in (a, b))
    same = [x.tobytes() for x in a] == [x.tobytes() for x in b]
    assert (first == second) == same
    other = RecordedData([{"y": x} for x in a]).digest
    assert not a or first != other


def test_data_that_cannot_be_read_is_an_error_as_ever(runs: Runs) -> None:
    used()
    with pytest.raises(CalibrationError, match="not one batch"):
        compiled(calibration_data=[])


# --- what is not kept -----------------------------------------------------------------------------


@dataclass(frozen=True)
class NothingPass(ModulePass):
    name = "nothing"
    option: int = 0

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        return


def test_passes_that_are_objects_always_run(runs: Runs) -> None:
    used(pass_pipeline=[NothingPass()])
    used(pass_pipeline=[NothingPass()])
    assert runs.count == 2


def test_a_trace_sees_all_passes(runs: Runs) -> None:
    used()
    names: list[str] = []
    used(trace=lambda name, _: names.append(name))
    assert runs.count == 2
    assert "plan-memory" in names


def test_what_depends_on_measurements_is_not_kept(runs: Runs) -> None:
    for autotune in (True, True, False):
        used(autotune=autotune)
    assert runs.count == 3


def test_code_of_others_is_not_cached(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    used()

    def convert(*_: object) -> Any:
        raise NotImplementedError

    monkeypatch.setitem(CONVERTERS, ("mine", "Op"), Converter(convert, moves=False))
    used()
    assert runs.count == 2


def test_code_that_was_edited_after_its_import_is_not_cached(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    used()
    monkeypatch.setattr(results, "_IMPORTED", 0.0)
    results._code.cache_clear()
    used()
    results._code.cache_clear()
    assert runs.count == 2


def test_without_the_cache_nothing_is_read_or_written(runs: Runs) -> None:
    used(cache=False)
    assert Cache().usage().entries == 0
    used()
    used(cache=False)
    assert runs.count == 3


def test_a_damaged_result_is_compiled_again(runs: Runs, tmp_path: Path) -> None:
    expected = used().run(INPUT)
    for path in (tmp_path / "cache").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    again = used()
    assert runs.count == 2
    assert all(np.array_equal(again.run(INPUT)[k], v) for k, v in expected.items())
    used()
    assert runs.count == 2


def test_a_result_that_cannot_be_had_again_is_an_error(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    used()
    again = used()
    other = compiled(quant_strategy="int4", cache=False)
    monkeypatch.setattr(again, "weights", other.weights)
    with pytest.raises(UqfcError, match="cache --clear"):
        assert again.network
    assert runs.count == 3


@given(
    st.dictionaries(st.text(), st.one_of(st.integers(), st.text(), st.floats(allow_nan=False))),
    st.lists(st.binary(max_size=20), max_size=5),
)
def test_results_are_decoded_as_they_were(document: dict[str, Any], blobs: list[bytes]) -> None:
    assert decode_result(encode_result(document, blobs)) == (document, blobs)
