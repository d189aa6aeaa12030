"""The journal: nothing that was written is lost, and nothing of another search is taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uqfc.errors import UqfcError
from uqfc.search.journal import Journal

PROBLEM = {"model": "abc", "layers": ["a", "b"]}
RECORDS = {f"row {i}": {"accuracy": i / 7, "error": None} for i in range(5)}


def written(path: Path) -> bytes:
    journal = Journal(path, PROBLEM)
    for key, record in RECORDS.items():
        journal.add(key, record)
    return path.read_bytes()


@given(st.data())
@settings(max_examples=60)
def test_any_prefix_gives_its_whole_lines_and_can_be_continued(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("journal") / "search.jsonl"
    content = written(path)
    cut = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:cut])
    whole = max(0, content[:cut].count(b"\n") - 1)
    journal = Journal(path, PROBLEM)
    assert journal.records == dict(list(RECORDS.items())[:whole])
    for key, record in list(RECORDS.items())[whole:]:
        journal.add(key, record)
    assert path.read_bytes() == content


def test_without_a_file_nothing_is_written() -> None:
    journal = Journal(None, PROBLEM)
    journal.add("a", {"x": 1})
    assert journal.find("a") == {"x": 1}
    assert journal.find("b") is None


def test_the_last_record_of_a_key_counts(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", PROBLEM)
    journal.add("a", {"x": 1})
    journal.add("a", {"x": 2})
    assert Journal(tmp_path / "j", PROBLEM).find("a") == {"x": 2}


def test_the_journal_of_another_problem_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "j"
    content = written(path)
    with pytest.raises(UqfcError, match="journal of another search: it differs in layers, target"):
        Journal(path, {"model": "abc", "layers": ["a"], "target": "host"})
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "content",
    [
        b"hello\n",
        b"hello",
        b"[]\n",
        b"{}\n",
        b'{"format": "other 1", "problem": {}}\n',
        b"[" * 100_000 + b"\n",
        b"\xff\xfe\n",
        json.dumps({"format": "uqfc-search-journal 1", "problem": 5}).encode() + b"\n",
    ],
)
def test_other_files_are_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "j"
    path.write_bytes(content)
    with pytest.raises(UqfcError, match="no journal of a search"):
        Journal(path, PROBLEM)
    assert path.read_bytes() == content


def test_damage_in_the_middle_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "j"
    lines = written(path).split(b"\n")
    for damage in (b"{", b"5", b'{"no": "key"}'):
        path.write_bytes(b"\n".join([*lines[:2], damage, *lines[3:]]))
        with pytest.raises(UqfcError, match="line 3: no "):
            Journal(path, PROBLEM)


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(UqfcError, match="missing/j: cannot be written"):
        Journal(tmp_path / "missing" / "j", PROBLEM)
    with pytest.raises(UqfcError, match="cannot be read"):
        Journal(tmp_path, PROBLEM)
