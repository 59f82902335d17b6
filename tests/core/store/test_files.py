"""Files and folders that are whole or absent."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kerasnac.core.store.files import new_folder, write_json, write_text
from kerasnac.errors import EnvironmentProblem


def write_half(path: Path, error: BaseException) -> None:
    with new_folder(path) as folder:
        (folder / "file").write_text("half")
        raise error


def test_a_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "model"
    with new_folder(target) as folder:
        (folder / "file").write_text("new")
        assert not target.exists()
    assert (target / "file").read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["model"]


def test_an_exception_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        write_half(tmp_path / "model", ZeroDivisionError())
    assert list(tmp_path.iterdir()) == []


def test_an_exception_leaves_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "file").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_half(target, KeyboardInterrupt())
    assert (target / "file").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_new_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "stale").write_text("old")
    with new_folder(target) as folder:
        (folder / "file").write_text("new")
    assert [path.name for path in target.iterdir()] == ["file"]


def test_what_a_killed_process_left_is_no_hindrance(tmp_path: Path) -> None:
    for name in ("model", ".model.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("old")
    with new_folder(tmp_path / "model") as folder:
        (folder / "file").write_text("new")
    assert (tmp_path / "model" / "file").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".model.old", "model"]


def test_a_file_is_not_replaced_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("mine")
    with pytest.raises(EnvironmentProblem, match="model: it is a file"), new_folder(tmp_path / "model"):
        pass
    assert (tmp_path / "model").read_text() == "mine"


def test_others_may_read_the_folder(tmp_path: Path) -> None:
    with new_folder(tmp_path / "model"):
        pass
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o755


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_text(path, "old")
    write_text(path, "größer")
    assert path.read_text(encoding="utf-8") == "größer"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.csv"
    write_text(path, "old")

    def full(descriptor: int, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(EnvironmentProblem, match=r"table.csv: No space left on device; 0.0 kB are needed, .* are free"):
        write_text(path, "new text")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens to files and folders, in order: they are synchronised, or take a name."""
    events: list[str] = []
    fsync, rename, replace = os.fsync, Path.rename, Path.replace

    def synchronised(descriptor: int) -> None:
        events.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        fsync(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        events.append(f"name {target.name}")
        return rename(self, target)

    def replaced(self: Path, target: Path) -> Path:
        events.append(f"name {target.name}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synchronised)
    monkeypatch.setattr(Path, "rename", renamed)
    monkeypatch.setattr(Path, "replace", replaced)
    return events


def test_a_file_is_on_disk_before_it_takes_its_name_and_its_name_after_that(tmp_path: Path, on_disk: list[str]) -> None:
    write_text(tmp_path / "table.csv", "text")
    (content, name, folder) = on_disk
    assert content.startswith("sync .table.csv.")
    assert name == "name table.csv"
    assert folder == f"sync {tmp_path.name}"


@pytest.mark.parametrize("replaced", [False, True])
def test_a_folder_is_on_disk_before_it_takes_its_name(tmp_path: Path, on_disk: list[str], replaced: bool) -> None:
    target = tmp_path / "models" / "model"
    if replaced:
        target.mkdir(parents=True)
    with new_folder(target) as folder:
        (folder / "inner").mkdir()
        for path in ("weights", "inner/file"):
            (folder / path).write_text("content")
        (folder / "link").symlink_to("nowhere")
    taken = on_disk.index("name model")
    assert {"sync weights", "sync inner", "sync file", f"sync {folder.name}"} <= set(on_disk[:taken])
    assert on_disk[taken + 1 :] == ["sync models"]
    # So are the names of the folders that were made for it.
    assert (f"sync {tmp_path.name}" in on_disk[:taken]) == (not replaced)


def test_json_is_readable_and_sorted(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [1.5, None]})
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == {"a": [1.5, None], "b": 1}
    assert text.index('"a"') < text.index('"b"')
    assert text.endswith("\n")


def test_data_that_is_not_json_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", object())
    assert (tmp_path / "a.json").read_text() == "1\n"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    message = "cannot write to .*file.*choose another folder"
    with pytest.raises(EnvironmentProblem, match=message), new_folder(tmp_path / "file" / "x"):
        pass
