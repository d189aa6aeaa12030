"""A run on several threads gives the bits of the interpreter, and ends."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from xdsl.dialects.builtin import ModuleOp

import uqfc
from tests.codegen.toy import needs_cc, needs_linker
from tests.networks import integer, networks, quantized_networks
from tests.passes.graphs import random_inputs
from tests.test_stages import TARGETS, differing, skip_unless_runnable
from uqfc.codegen import parts
from uqfc.dialects.qkernel import LaunchOp
from uqfc.dialects.tensors import Array
from uqfc.errors import UqfcError
from uqfc.model import CompiledModel, build
from uqfc.targets import load_target
from uqfc_runtime import InputError, load

THREADS = st.sampled_from([1, 2, 3, 5])
RUNTIME = Path(__file__).parents[1] / "runtime"
on_every_target = pytest.mark.parametrize("target", TARGETS)


@pytest.fixture(autouse=True, scope="module")
def split_everything() -> Generator[None]:
    """The networks here are small: whatever can be split is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "LEAST_CYCLES", 0)
        yield


def compiled(network: ModuleOp, target: str, threads: int) -> CompiledModel:
    table = load_target(target)
    return build(network, table, target, "network", "int8", threads=threads)


def check(model: CompiledModel, inputs: dict[str, Array], runs: int = 3) -> None:
    expected = model.reference(inputs)
    for _ in range(runs):
        assert not differing(expected, model.run(inputs))


@on_every_target
@settings(max_examples=15)
@given(module=quantized_networks(), threads=THREADS)
def test_any_number_of_threads_gives_the_same_bits(
    target: str, module: ModuleOp, threads: int
) -> None:
    skip_unless_runnable(target)
    network = integer(module)
    check(compiled(network, target, threads), random_inputs(network))


@on_every_target
@settings(max_examples=5)
@given(module=networks(), threads=THREADS)
def test_float_networks_too(target: str, module: ModuleOp, threads: int) -> None:
    skip_unless_runnable(target)
    check(compiled(integer(module), target, threads), random_inputs(module))


# --- one network in many circumstances ------------------------------------------------------------

SHAPE = (1, 3, 24, 24)


def small_network() -> onnx.ModelProto:
    """Convolution, depthwise, pointwise and a linear layer; ``image`` to ``logits`` [1, 10]."""
    random = np.random.default_rng(3)
    shapes = {"stem": (16, 3, 3, 3), "dw": (16, 1, 3, 3), "pw": (40, 16, 1, 1), "head": (10, 40)}
    weights = {name: random.standard_normal(shape) / 3 for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["image", "stem"], ["a"], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "dw"], ["c"], pads=[1] * 4, group=16),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Conv", ["d", "pw"], ["e"]),
        helper.make_node("GlobalAveragePool", ["e"], ["m"]),
        helper.make_node("Flatten", ["m"], ["f"]),
        helper.make_node("Gemm", ["f", "head"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def small_model(threads: int) -> CompiledModel:
    """Compiled for any x86-64 CPU."""
    data = [{"image": x["image"][0]} for x in (image(seed) for seed in range(4))]
    return uqfc.compile(
        small_network(), target="x86-64", calibration_data=data, threads=threads, cache=False
    )


def image(seed: int = 0) -> dict[str, Array]:
    return {"image": np.random.default_rng(seed).standard_normal(SHAPE, dtype=np.float32)}


@pytest.fixture(scope="module")
def small(split_everything: None) -> CompiledModel:
    skip_unless_runnable("x86-64")
    return small_model(2)


@pytest.fixture(scope="module")
def artifact(small: CompiledModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("threads") / "small.so"
    small.save(path)
    return path


def workers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("uqfc-worker")]


def test_kernels_are_split_and_meet_at_barriers(small: CompiledModel) -> None:
    module = str(small.lowered.compiled.module)
    assert "uqf_internal_barrier" in module
    assert "uqf_internal_barrier" not in str(small_model(1).lowered.compiled.module)
    split = [op for op in small.kernels.walk() if isinstance(op, LaunchOp) and op.split]
    assert len(split) >= 3


@pytest.mark.parametrize("threads", [0, 257])
def test_numbers_of_threads_that_cannot_be(threads: int) -> None:
    with pytest.raises(UqfcError, match=rf"threads: {threads} .* accepted: 1 to 256"):
        small_model(threads)


def test_parallel_callers_of_one_team(small: CompiledModel) -> None:
    """While the team helps one caller, the others run alone."""
    inputs = [image(seed) for seed in range(4)]
    expected = [small.reference(x) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        order = [i % 4 for i in range(1000)]
        for i, outputs in zip(order, pool.map(lambda i: small.run(inputs[i]), order), strict=True):
            assert not differing(expected[i], outputs)


def test_more_threads_than_cores() -> None:
    model = small_model(4 * (os.cpu_count() or 1))
    check(model, image(), runs=10)


def test_sleeping_workers_wake(small: CompiledModel) -> None:
    for _ in range(3):
        check(small, image(), runs=2)
        threading.Event().wait(0.02)


@needs_linker
def test_a_loaded_binary_and_how_many_threads_it_uses(artifact: Path, small: CompiledModel) -> None:
    expected = small.reference(image())
    for threads in (None, 1, 2):
        model = load(artifact, threads=threads)
        assert model.info.threads == 2
        assert model.threads == (
            min(2, len(os.sched_getaffinity(0))) if threads is None else threads
        )
        assert not differing(expected, model.run(image()))
    for threads in (0, 3):
        with pytest.raises(InputError, match=rf"{threads} threads, but it was compiled for 1 to 2"):
            load(artifact, threads=threads)


@needs_linker
def test_workers_end_with_their_model(artifact: Path) -> None:
    """The library is unloaded after that."""
    gc.collect()
    before = len(workers())
    for _ in range(10):
        model = load(artifact, threads=2)
        model.run(image())
        assert len(workers()) == before + 1
        del model
        gc.collect()
        assert len(workers()) == before


def test_no_workers_before_the_first_run(small: CompiledModel) -> None:
    gc.collect()
    before = len(workers())
    model = small_model(2)
    assert len(workers()) == before
    model.run(image())
    assert len(workers()) == before + 1


def run_script(script: str, artifact: Path) -> str:
    prelude = f"""
import os, threading
import numpy as np
from uqfc_runtime import load
from uqfc_runtime.verification import verify
model = load({str(artifact)!r}, threads=2)
assert verify(model).ok
"""
    return subprocess.run(
        [sys.executable, "-c", prelude + script],
        env=os.environ | {"PYTHONPATH": str(RUNTIME)},
        check=True,
        timeout=60,
        capture_output=True,
        text=True,
    ).stdout


@needs_linker
@pytest.mark.parametrize(
    "script",
    [
        "",
        "del model",
        "cycle = [model]; cycle.append(cycle)",
        # a daemon thread is in a run when the interpreter ends
        """
def forever():
    while True:
        verify(model)
threading.Thread(target=forever, daemon=True).start()
threading.Event().wait(0.1)
""",
    ],
)
def test_the_interpreter_ends_while_workers_wait(artifact: Path, script: str) -> None:
    run_script(script, artifact)


@needs_linker
def test_a_forked_child_starts_its_own_workers(artifact: Path) -> None:
    script = """
child = os.fork()
ok = verify(model).ok
print("ok" if ok else "wrong", threading.active_count(), flush=True)
if not child:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    assert run_script(script, artifact).split() == ["ok", "2"] * 2


@needs_cc
def test_c_example(small: CompiledModel, tmp_path: Path) -> None:
    small.save(tmp_path / "small.o")
    strict = ["-std=c11", "-Wall", "-Wextra", "-pedantic", "-Werror", "-pthread", "-I."]
    macros = ['-DMODEL_HEADER="small.h"', "-DMODEL=small", "-DMODEL_MACRO=SMALL"]
    source = RUNTIME / "examples" / "run_threads.c"
    command = ["cc", *strict, *macros, source, "small.o", "-o", "run"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    command = [tmp_path / "run"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.split("\n") == ["parts: same bytes", "team: same bytes", ""]


@needs_linker
def test_what_the_c_functions_refuse(artifact: Path) -> None:
    """Before they touch anything: all pointers are invalid."""
    library = ctypes.CDLL(str(artifact))
    pointer = ctypes.c_void_p
    bad, odd = pointer(64), pointer(65)
    part, team = library.uqf_model_run_part, library.uqf_model_run_team
    for number, parts_ in ((0, 3), (2, 2), (-1, 2), (0, 0), (0, -1)):
        assert part(bad, bad, bad, bad, number, parts_) == -2
        assert library.uqf_model_work(bad, number, parts_) == -2
    assert part(bad, bad, odd, bad, 0, 2) == -1
    assert part(bad, bad, bad, odd, 0, 2) == -1
    assert team(bad, bad, bad, odd, 2) == -1
    assert team(bad, bad, bad, bad, 3) == -2
