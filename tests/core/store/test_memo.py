"""The memo: all that is in the journal, whoever wrote it, and read once."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from kerasnac.core.store.journal import Journal
from kerasnac.core.store.memo import Memo, Shape
from kerasnac.errors import RunError

KEYS = ("a", "b", "c")


def memo(path: Path) -> Memo:
    return Memo(Journal(path), Shape({"key": str}), lambda record: record["key"])


def test_a_memo_of_no_file_is_empty_and_makes_none(tmp_path: Path) -> None:
    known = memo(tmp_path / "run" / "journal.jsonl")
    assert "a" not in known
    assert known.get("a") is None
    assert known.all("a", "b") == []
    assert not known.journal.path.parent.exists()


def test_the_last_of_several_records_counts(tmp_path: Path) -> None:
    known = memo(tmp_path / "journal.jsonl")
    for value in (1, 2):
        known.add({"key": "a", "value": value})
    known.add({"key": "b", "value": 3})
    assert known.get("a") == {"key": "a", "value": 2}
    assert [record["value"] for record in known.all("a")] == [1, 2]


def test_records_of_several_keys_are_in_the_order_of_the_file(tmp_path: Path) -> None:
    known = memo(tmp_path / "journal.jsonl")
    for value, key in enumerate("abcab"):
        known.add({"key": key, "value": value})
    assert [record["value"] for record in known.all("b", "a", "b", "unknown")] == [0, 1, 3, 4]


def test_a_record_is_as_json_has_it(tmp_path: Path) -> None:
    known = memo(tmp_path / "journal.jsonl")
    known.add({"key": "a", "genome": (1, 2), "loss": math.nan})
    record = known.get("a")
    assert record is not None
    assert record["genome"] == [1, 2]
    assert math.isnan(record["loss"])


def test_changing_a_record_changes_no_memo(tmp_path: Path) -> None:
    known = memo(tmp_path / "journal.jsonl")
    known.add({"key": "a", "values": [1]})
    record = known.get("a")
    assert record is not None
    record["values"].append(2)
    assert known.get("a") == {"key": "a", "values": [1]}


def test_only_what_is_new_is_read(tmp_path: Path) -> None:
    known = memo(tmp_path / "journal.jsonl")
    known.add({"key": "a", "value": 1})
    # What was read before is not read again: it may even be damaged.
    content = known.journal.path.read_bytes()
    known.journal.path.write_bytes(b"x" * (len(content) - 1) + b"\n")
    known.add({"key": "a", "value": 2})
    assert [record["value"] for record in known.all("a")] == [1, 2]


def test_a_record_without_its_key_names_the_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append({"key": "a"})
    journal.append({"name": "a"})
    with pytest.raises(RunError, match=r"journal.jsonl:2 .*'key'"):
        memo(journal.path)


def test_a_damaged_line_that_was_appended_is_named_and_nothing_is_read_twice(tmp_path: Path) -> None:
    known = memo(tmp_path / "journal.jsonl")
    known.add({"key": "a", "value": 1})
    whole = known.journal.path.read_bytes()
    known.journal.path.write_bytes(whole + whole + b"{oops\n")
    with pytest.raises(RunError, match=r"journal.jsonl:3: damaged"):
        known.refresh()
    known.journal.path.write_bytes(whole + whole)
    known.refresh()
    assert len(known.all("a")) == 2


class TwoMemosOnOneFile(RuleBasedStateMachine):
    """Two memos add, refresh and are opened again in any order, and writers are killed in between."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "journal.jsonl"
        self.written: list[dict[str, Any]] = []
        self.memos = [memo(self.path), memo(self.path)]

    @rule(which=st.sampled_from([0, 1]), key=st.sampled_from(KEYS), text=st.text(max_size=5))
    def add(self, which: int, key: str, text: str) -> None:
        self.written.append({"key": key, "text": text, "number": len(self.written)})
        self.memos[which].add(self.written[-1])
        self.check(which)

    @rule(which=st.sampled_from([0, 1]))
    def refresh(self, which: int) -> None:
        self.memos[which].refresh()
        self.check(which)

    @rule(which=st.sampled_from([0, 1]))
    def open_again(self, which: int) -> None:
        self.memos[which] = memo(self.path)
        self.check(which)

    @rule(size=st.integers(min_value=1, max_value=20))
    def die_while_writing(self, size: int) -> None:
        with self.path.open("ab") as file:
            file.write(b'{"key": "a", "text": "half a record"}'[:size])

    def check(self, which: int) -> None:
        for keys in (*((key,) for key in KEYS), KEYS):
            expected = [record for record in self.written if record["key"] in keys]
            assert self.memos[which].all(*keys) == expected
        for key in KEYS:
            own = [record for record in self.written if record["key"] == key]
            assert self.memos[which].get(key) == (own[-1] if own else None)
            assert (key in self.memos[which]) == bool(own)

    def teardown(self) -> None:
        self.folder.cleanup()


TwoMemosOnOneFile.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
TestTwoMemosOnOneFile = TwoMemosOnOneFile.TestCase
