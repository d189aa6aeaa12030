from __future__ import annotations

from pathlib import Path

import pytest

from tests.codegen import toy
from uqfc.codegen import linker
from uqfc.codegen.artifact import write_shared_object
from uqfc_runtime import Model, record


@pytest.fixture(scope="session")
def jit() -> Model:
    """The toy model, just in time."""
    return toy.toy_model()


@pytest.fixture(scope="session")
def artifact(jit: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy model as a shared object, with recorded vectors."""
    if not any(linker.linkers("x86_64")):
        pytest.skip("no linker on this machine")
    path = tmp_path_factory.mktemp("artifact") / "toy.so"
    recorded = record(jit, seed=123)
    verification = {"seed": recorded.seed, "outputs": dict(recorded.outputs)}
    info = toy.make_info(verification=verification)
    write_shared_object(path, [toy.toy_object()], toy.WEIGHTS, info, toy.TARGET)
    return path
