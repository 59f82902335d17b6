"""The journal: nothing that was written is lost, whatever kills the writer."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerasnac.core.store.journal import BLOCK, Journal, Position
from kerasnac.core.store.locks import lock
from kerasnac.errors import EnvironmentProblem, RunError

RECORDS = [
    {"index": 0, "text": 'ä, \n and "quotes"', "metrics.accuracy": 0.1},
    {"index": 1, "genome": [1, 2]},
    {"index": 2, "architecture": {"layers": [{"kind": "dense"}]}},
]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def written(path: Path) -> Journal:
    journal = Journal(path)
    for record in RECORDS:
        journal.append(record)
    return journal


@settings(max_examples=15)
@given(st.lists(st.dictionaries(st.text(), json_values), max_size=3))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, object]]) -> None:
    journal = Journal(tmp_path_factory.mktemp("run") / "journal.jsonl")
    for record in records:
        journal.append(record)
    assert journal.records() == records
    assert len(journal) == len(records)


def test_a_journal_that_was_never_written_is_empty(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "nowhere" / "journal.jsonl")
    assert journal.records() == []
    assert not journal.path.parent.exists()


def test_the_folder_is_made(tmp_path: Path) -> None:
    assert written(tmp_path / "a" / "b" / "journal.jsonl").records() == RECORDS


def test_a_record_cut_at_any_byte_loses_only_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = written(tmp_path / "journal.jsonl")
    whole = journal.path.read_bytes()
    before = whole[: whole[:-1].rindex(b"\n") + 1]
    for size in range(len(before), len(whole)):
        journal.path.write_bytes(whole[:size])
        caplog.clear()
        with caplog.at_level(logging.WARNING, "kerasnac"):
            assert journal.records() == RECORDS[:2]
        assert bool(caplog.records) == (size > len(before))
        caplog.clear()
        with caplog.at_level(logging.WARNING, "kerasnac"):
            journal.append({"index": 3})
        assert bool(caplog.records) == (size > len(before))
        assert all("journal.jsonl: dropped a half-written record" in message for message in caplog.messages)
        assert journal.path.read_bytes() == before + b'{"index":3}\n'


def test_a_file_cut_at_any_byte_holds_all_records_before_and_takes_new_ones(tmp_path: Path) -> None:
    journal = written(tmp_path / "journal.jsonl")
    whole = journal.path.read_bytes()
    for size in range(len(whole) + 1):
        journal.path.write_bytes(whole[:size])
        kept = RECORDS[: whole[:size].count(b"\n")]
        assert journal.records() == kept
        assert journal.path.read_bytes() == whole[:size]  # reading repairs nothing
        journal.append(RECORDS[2])
        assert journal.records() == [*kept, RECORDS[2]]


def test_a_first_record_cut_in_half_leaves_an_empty_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.path.write_bytes(b'{"ind')
    assert journal.records() == []
    journal.append(RECORDS[0])
    assert journal.records() == RECORDS[:1]


@pytest.mark.parametrize("length", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
@pytest.mark.parametrize("before", [RECORDS, RECORDS[:1], []])
def test_a_half_record_of_any_length_is_dropped(tmp_path: Path, length: int, before: list[dict[str, object]]) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    for record in before:
        journal.append(record)
    with journal.path.open("ab") as file:
        file.write(b"x" * length)
    journal.append(RECORDS[2])
    assert journal.records() == [*before, RECORDS[2]]


def test_appending_to_a_long_journal_takes_less_than_a_millisecond(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    journal = written(tmp_path / "journal.jsonl")
    journal.path.write_bytes(journal.path.read_bytes() * 30_000)
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        journal.append(RECORDS[0])
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1e-3


def test_a_journal_that_was_cut_while_it_was_read_is_refused(tmp_path: Path) -> None:
    journal = written(tmp_path / "journal.jsonl")
    _, end = journal.lines(Position())
    assert end == (journal.path.stat().st_size, 3)
    journal.path.write_bytes(journal.path.read_bytes()[:-1])
    with pytest.raises(RunError, match=r"journal.jsonl has become shorter"):
        journal.lines(end)
    journal.path.unlink()
    with pytest.raises(RunError, match=r"journal.jsonl has become shorter"):
        journal.lines(end)


@pytest.mark.parametrize("damage", [b"{oops", b"", b"\xff\xfe", b"null", b"17", b"[" * 100_000])
def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path, damage: bytes) -> None:
    journal = written(tmp_path / "journal.jsonl")
    lines = journal.path.read_bytes().split(b"\n")
    journal.path.write_bytes(b"\n".join([lines[0], damage, *lines[2:]]))
    with pytest.raises(RunError, match=r"journal.jsonl:2: damaged record"):
        journal.records()


def test_a_record_that_is_not_json_leaves_the_journal_alone(tmp_path: Path) -> None:
    journal = written(tmp_path / "journal.jsonl")
    with pytest.raises(TypeError):
        journal.append({"object": object()})
    assert journal.records() == RECORDS


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match=r"cannot write .*file/journal.jsonl"):
        Journal(tmp_path / "file" / "journal.jsonl").append({})


WRITER = """
import sys
from kerasnac.core.store.journal import Journal
journal = Journal(sys.argv[1])
for i in range(40):
    journal.append({"writer": sys.argv[2], "i": i, "padding": "x" * 5000})
"""


def test_several_processes_append_whole_records(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(name)]) for name in range(4)]
    seen = 0
    while any(writer.poll() is None for writer in writers):
        now = len(Journal(path))
        assert now >= seen
        seen = now
    assert [writer.returncode for writer in writers] == [0] * 4
    records = Journal(path).records()
    for name in range(4):
        assert [r["i"] for r in records if r["writer"] == str(name)] == list(range(40))


def test_a_writer_waits_for_readers(tmp_path: Path) -> None:
    journal = written(tmp_path / "journal.jsonl")
    writer = threading.Thread(target=journal.append, args=({"index": 3},))
    with journal.path.open("rb") as reader:
        assert lock(reader, journal.path, shared=True)
        writer.start()
        writer.join(timeout=0.2)
        assert writer.is_alive()
        assert reader.read().count(b"\n") == 3
    writer.join(timeout=10)
    assert len(journal) == 4


def test_pandas_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path).append({"id": "a", "metrics.loss": 0.25, "genome": [1, 2]})
    Journal(path).append({"id": "b", "metrics.loss": float("nan"), "genome": [0, 0]})
    frame = pd.read_json(path, lines=True)
    assert list(frame["id"]) == ["a", "b"]
    assert frame["metrics.loss"][0] == 0.25
    assert pd.isna(frame["metrics.loss"][1])


def test_every_line_is_json(tmp_path: Path) -> None:
    lines = written(tmp_path / "journal.jsonl").path.read_text().splitlines()
    assert [json.loads(line) for line in lines] == RECORDS
