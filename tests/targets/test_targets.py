from __future__ import annotations

import contextlib
import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uqfc import targets
from uqfc.errors import TargetError
from uqfc.targets import (
    ActivationDtype,
    State,
    Target,
    WeightDtype,
    available_targets,
    check_code,
    load_target,
    missing_cpu_features,
    state_of,
)

VALID = """
name = "mine"
description = "A device of mine"
triple = "aarch64-unknown-linux-gnu"
cpu = "neoverse-n1"
features = ["+dotprod"]
isa = "portable"
cpu_features = ["asimddp"]

[[kernels]]
ops = ["conv2d", "linear"]
weights = ["int8"]
activations = ["uint8"]
granularity = ["per_channel", "per_block"]
groups = [32, 64]
cost = 2.0

[[kernels]]
ops = ["depthwise"]
weights = ["int8", "int4"]
activations = ["uint8"]

[memory]
l1 = 65536

[simd]
name = "NEON"
bits = 128
"""


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "mine.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("name", available_targets())
def test_shipped_tables_are_sound_and_named_as_their_files(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    assert not any(feature.startswith("+") for feature in target.cpu_features)


def test_modelled_devices_say_so() -> None:
    modelled = {name for name in available_targets() if load_target(name).modelled}
    assert {"edge_device_v2", "kirkwood_npu"} <= modelled
    narrow = {"int4", "ternary", "binary"}
    assert not narrow & set(load_target("edge_device_v2").weight_dtypes)
    assert narrow < set(load_target("kirkwood_npu").weight_dtypes)


def test_users_table(tmp_path: Path) -> None:
    path = write(tmp_path, VALID)
    target = load_target(path)
    assert target == load_target(str(path))
    assert (target.name, target.architecture, target.feature_string, target.modelled) == (
        "mine",
        "aarch64",
        "+dotprod",
        False,
    )


@pytest.mark.parametrize(
    ("replace", "by", "expected"),
    [
        ('isa = "portable"', 'isa = "neon"', ["isa", "'avxvnni', 'avx2' or 'portable'", "neon"]),
        ('isa = "portable"', 'isa = "avx2"', ["avx2", "x86_64 triple", "portable"]),
        ('["int8"]', '["int3"]', ["kernels.0.weights.0", "'fp8_e5m2' or 'float32'", "int3"]),
        ('["int8"]', "[]", ["kernels.0.weights", "at least 1"]),
        ('["depthwise"]', '["conv3d"]', ["kernels.1.ops.0", "'depthwise' or 'linear'", "conv3d"]),
        ("cost = 2.0", "cost = 0", ["kernels.0.cost", "greater than 0"]),
        ("cost = 2.0", "cost = nan", ["kernels.0.cost", "finite"]),
        ("cost = 2.0", "costs = 2.0", ["kernels.0.costs: unknown field", "did you mean 'cost'"]),
        ('["depthwise"]', '["linear"]\ngranularity=["per_channel"]', ["two entries", "linear"]),
        ("groups = [32, 64]", "", ["kernels.0", "groups", "'per_block'"]),
        ("groups = [32, 64]", "groups = [1]", ["kernels.0.groups.0", "or equal to 2"]),
        ("l1 = 65536", "l1 = -1", ["memory.l1", "or equal to 0"]),
        ("l1 = 65536", "l1 = 64.5", ["memory.l1", "integer"]),
        ("l1 = 65536", "l3 = 1", ["memory.l3: unknown field", "accepted: l1, l2, scratch, flash"]),
        ("bits = 128", "", ["simd.bits: required"]),
        ("aarch64", "wasm32", ["no_code", "no code for wasm32"]),
        ('cpu = "neoverse-n1"', "", ["cpu: required"]),
        ("features", "featurs", ["featurs", "unknown field", "did you mean 'features'"]),
        ('"+dotprod"', '"dotprod"', ["features.0", "pattern", "dotprod"]),
        ("aarch64", "z80", ["triple", "x86_64|aarch64|riscv64|wasm32|nvptx64"]),
        ('name = "mine"', "name = 3", ["name", "string", "3"]),
        ('cpu = "neoverse-n1"', 'cpu = "a"\nmodelled = 1', ["modelled", "boolean"]),
        ('name = "mine"', "name = ", ["not a TOML file", "line 2"]),
    ],
)
def test_error_names_file_field_and_what_is_accepted(
    tmp_path: Path, replace: str, by: str, expected: list[str]
) -> None:
    path = write(tmp_path, VALID.replace(replace, by, 1))
    with pytest.raises(TargetError) as error:
        load_target(path)
    for part in [str(path), *expected]:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("x86-64-v2", "x86-64-v3"), ("hots", "host"), ("avx512", "avx512-vnni"), ("z", "known:")],
)
def test_unknown_name_suggests_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(TargetError, match=hint):
        load_target(name)


@pytest.mark.parametrize("path", ["/no/such.toml", "a\0b.toml", "/"])
def test_unreadable_table(path: str) -> None:
    with pytest.raises(TargetError, match="cannot read"):
        load_target(path)


@pytest.mark.parametrize("text", ["a=" + "[" * 30_000, "#" * 70_000, b"\xff\xfe", "a = 1" * 3])
def test_hostile_table(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(TargetError, match=r"mine\.toml"):
        load_target(write(tmp_path, text))


lines = st.sampled_from([line for line in VALID.splitlines() if line])
values = st.sampled_from(['"x"', "1", "[]", "{}", '["int4"]', "true", "nan", "1979-05-27", "[[1]]"])
mutated = st.tuples(lines, values).map(lambda lv: f"{lv[0].partition('=')[0]}= {lv[1]}")


@given(st.lists(lines | mutated | st.text(max_size=20)).map("\n".join))
@settings(max_examples=200)
def test_any_text_is_a_target_or_a_target_error(text: str) -> None:
    with contextlib.suppress(TargetError):
        target = targets._parse("t.toml", text.encode("utf-8", "surrogatepass"))
        assert isinstance(target, Target)


SHIPPED = {
    name: resources.files("uqfc.targets").joinpath(f"{name}.toml").read_bytes()
    for name in available_targets()
}
shipped = st.sampled_from(list(SHIPPED.values()))
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)


@given(shipped, st.data())
@settings(max_examples=300)
def test_a_mutated_table_is_a_target_or_an_error_that_names_file_and_field(
    source: bytes, data: st.DataObject
) -> None:
    table: Any = tomllib.loads(source.decode())
    holder = table
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(holder[key], dict | list) or not holder[key] or data.draw(st.booleans()):
            break
        holder = holder[key]
    match data.draw(st.sampled_from(["replace", "remove", "add"])):
        case "remove":
            del holder[key]
        case "add" if isinstance(holder, dict):
            holder[data.draw(st.text())] = data.draw(anything)
        case _:
            holder[key] = data.draw(anything)
    try:
        checked = targets._checked("t.toml", table)
    except TargetError as error:
        first, *fields = str(error).splitlines()
    else:
        assert isinstance(checked, Target)
        return
    assert first == "t.toml: malformed target"
    assert fields
    assert all(re.match(r"  \S.*: ", field) for field in fields)


@given(shipped, st.integers(0, 2000), st.binary(max_size=3), st.integers(0, 4))
@settings(max_examples=300)
def test_damaged_bytes_are_a_target_or_a_target_error(
    source: bytes, at: int, inserted: bytes, removed: int
) -> None:
    damaged = source[:at] + inserted + source[at + removed :]
    try:
        table = targets._parse("t.toml", damaged)
    except TargetError as error:
        said = str(error)
    else:
        assert isinstance(table, Target)
        return
    assert said.startswith("t.toml: ")


def test_many_combinations_are_bounded() -> None:
    """The largest table that the schema allows expands in no time."""
    everything = {
        "ops": ["conv2d", "depthwise", "linear"] * 2,
        "weights": list(get_args(WeightDtype)) * 2,
        "activations": list(get_args(ActivationDtype)) * 3,
        "granularity": ["per_tensor", "per_channel", "per_block"],
        "groups": list(range(2, 10)),
    }
    table = tomllib.loads(VALID) | {"kernels": [everything] * 32}
    with pytest.raises(TargetError, match="two entries have"):
        targets._checked("t.toml", table)


def test_what_an_op_has() -> None:
    target = targets._parse("t.toml", VALID.encode())
    assert target.weights_for("depthwise") == ("int8", "int4")
    assert target.weights_for("linear") == ("int8",)
    assert (target.cost("linear", "int8"), target.cost("linear", "int4")) == (2.0, None)
    assert target.weight_dtypes == ("int8", "int4")
    assert target.activation_dtypes == ("uint8",)
    blocks = {c.group for c in target.capabilities if c.granularity == "per_block"}
    assert blocks == {32, 64}
    assert len(target.capabilities) == 2 * (1 + 2) + 2 * 2


def test_what_can_be_done_for_a_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "architecture", lambda: "x86_64")
    states = {name: state_of(load_target(name)) for name in available_targets()}
    assert states["x86-64"] == State.RUNS
    assert states["cortex-a76"] == State.COMPILES
    assert states["nvptx-sm90"] == State.TABLE
    check_code(load_target("rv64gcv"))
    with pytest.raises(TargetError, match=r"wasm32-simd128: a table only.*no entry points"):
        check_code(load_target("wasm32-simd128"))


AVX2 = set(load_target("x86-64-v3").cpu_features)
VNNI = set(load_target("avx512-vnni").cpu_features)
AMX = set(load_target("avx512-amx").cpu_features)
AVX_VNNI = set(load_target("avx-vnni").cpu_features)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (AMX | {"sse2"}, "avx512-amx"),
        (VNNI | {"sse2", "amx_int8"}, "avx512-vnni"),
        (VNNI - {"avx512_vnni"}, "x86-64-v3"),
        (AVX_VNNI, "avx-vnni"),
        (AVX2, "x86-64-v3"),
        (AVX2 - {"fma"}, "x86-64"),
        (set[str](), "x86-64"),
    ],
)
def test_host_is_chosen_by_feature_flags(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], expected: str
) -> None:
    monkeypatch.setattr(targets, "architecture", lambda: "x86_64")
    monkeypatch.setattr(targets, "cpu_features", lambda: frozenset(flags))
    monkeypatch.setattr(targets, "amx_permitted", lambda: True)
    host = load_target("host")
    assert host.name == expected
    assert missing_cpu_features(host) == ()


def test_other_architecture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(targets, "architecture", lambda: "s390x")
    assert missing_cpu_features(load_target(write(tmp_path, VALID))) == ("aarch64",)
    with pytest.raises(TargetError, match="s390x"):
        load_target("host")


def test_missing_features_are_listed_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "architecture", lambda: "x86_64")
    monkeypatch.setattr(targets, "cpu_features", lambda: frozenset(VNNI - {"fma", "avx512bw"}))
    assert missing_cpu_features(load_target("avx512-vnni")) == ("fma", "avx512bw")


def test_amx_needs_leave_of_the_operating_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "architecture", lambda: "x86_64")
    monkeypatch.setattr(targets, "cpu_features", lambda: frozenset(AMX))
    monkeypatch.setattr(targets, "amx_permitted", lambda: False)
    assert load_target("host").name == "avx512-vnni"
    missing = missing_cpu_features(load_target("avx512-amx"))
    assert missing == ("amx_tile (refused by the operating system)",)
