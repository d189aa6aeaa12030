from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uqfc import targets
from uqfc.errors import TargetError
from uqfc.targets import Target, available_targets, load_target, missing_cpu_features
from uqfc.targets.schema import WeightDtype

VALID = """
name = "mine"
description = "A device of mine"
triple = "aarch64-unknown-linux-gnu"
cpu = "neoverse-n1"
features = ["+dotprod"]
isa = "portable"
cpu_features = ["asimddp"]
weight_dtypes = ["int8"]
activation_dtypes = ["uint8"]
granularity = ["per_channel"]
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
    assert modelled == {"edge_device_v2", "kirkwood_npu"}
    narrow: set[WeightDtype] = {"int4", "ternary", "binary"}
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
        ('["int8"]', '["int3"]', ["weight_dtypes.0", "'ternary', 'binary' or 'float32'", "int3"]),
        ('["int8"]', "[]", ["weight_dtypes", "at least 1"]),
        ('cpu = "neoverse-n1"', "", ["cpu: required"]),
        ("features", "featurs", ["featurs", "unknown field", "did you mean 'features'"]),
        ('"+dotprod"', '"dotprod"', ["features.0", "pattern", "dotprod"]),
        ("aarch64", "z80", ["triple", "x86_64|aarch64|riscv64"]),
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
