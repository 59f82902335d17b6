"""Random damage to run folders and run files, done again by its number, and what must hold after it.

    python -m tests.damage 1234              # one case: what is damaged, the command, its output, the verdict
    python -m tests.damage 0 3000            # many: the failures by cause, with numbers to do again

A finished run is copied, one file or folder of it is damaged, and a command of the real command line uses it. Trainings are
formulas, so that a run takes a fraction of a second; everything that is read and written is real.
"""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from kerasnac.ui.cli import main
from tests.stand_ins import without_trainings

ROOT = Path(__file__).parents[1]

RUN = """
name: damage
description: A run of all stages
space:
  input: 4
  outputs: 2
  firmware: exact
  blocks:
    - {{block: mlp, depth: [1, 2], widths: [[3, 4, 5], [2, 3]], activation: [relu, tanh], norm: [none, batch]}}
dataset: {{source: npz, path: {data}}}
search: {{population: 4, evaluations: 8, training: {{epochs: 1, batch_size: 32}}, objectives: [metric, bops]}}
tune: {{select: [best, knee], trials: 3, epochs: 2, repeats: 2, batch_size: [16, 32]}}
compress:
  bits: [6, [5, 4]]
  iterations: 1
  epochs: 2
  rewind: early
  rewind_epochs: 1
  mixed: {{evaluations: 2, population: 2, epochs: 1, weight_bits: [4, 5], activation_bits: [5], max_drop: 1.0}}
firmware: {{select: [best], samples: 20}}
profiles:
  other: {{search: {{evaluations: 9}}}}
"""

#: Name of the run file, and of the run folder.
FILE, FOLDER = "damage.yaml", "run"

#: Seconds and bytes that a command may take in addition to what the process has.
SECONDS, MEMORY = 20, 2 << 30

#: Trainings after which a command is stopped by Ctrl-C: damaged settings may well ask for many.
TRAININGS = 60

#: Files that a run writes anew whenever it is resumed.
WRITTEN_ANEW = frozenset(
    {
        "search.csv",
        "compress.csv",
        "summary.txt",
        "report.html",
        "search.png",
        "convergence.png",
        "tune.png",
        "compress.png",
        "run.yaml",
        "complete.json",
        ".lock",
    }
)

#: Tables that tell the results.
TABLES = ("search.csv", "compress.csv", "summary.txt")


#: Environment variable with the folder that nothing may touch.
OUTSIDE = "KERASNAC_TEST_OUTSIDE"


class Hang(BaseException):
    """A command took too long."""


@dataclass(frozen=True)
class Whole:
    """A finished run.

    Attributes:
        place: Folder with the run file and the run folder.
        code: Exit code of a command on it.
        files: Content of every file of the run folder, by its name in it.
    """

    place: Path
    code: int
    files: dict[str, bytes]


def make_whole(place: Path) -> Whole:
    """Make the finished run that all cases copy."""
    place.mkdir(parents=True, exist_ok=True)
    x = np.random.default_rng(0).normal(size=(100, 4))
    np.savez(place / "data.npz", x=x, y=(x[:, 0] > 0).astype(int))
    inner = place / "whole"
    inner.mkdir()
    (inner / FILE).write_text(RUN.format(data=place / "data.npz"))
    with pytest.MonkeyPatch.context() as patch:
        without_trainings(patch)
        result = CliRunner().invoke(main, ["run", str(inner / FILE), "--out", str(inner / FOLDER)], catch_exceptions=False)
    assert (inner / FOLDER / "summary.txt").exists(), result.output
    return Whole(inner, result.exit_code, contents(inner / FOLDER))


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder by its name in it; a link is where it leads, a folder nothing."""
    found: dict[str, bytes] = {}
    for place, folders, files in os.walk(folder):
        for name in [*files, *folders]:
            path = Path(place) / name
            if path.is_symlink():
                found[str(path.relative_to(folder))] = b"link to " + os.fsencode(os.readlink(path))
            elif path.is_file():
                found[str(path.relative_to(folder))] = path.read_bytes()
    return found


# Damage.


@dataclass
class Damage:
    """What was done to a copy of the run.

    Attributes:
        text: Description.
        plausible: True if nobody can tell the damage from what a run might have written: another number for a number.
    """

    text: str
    plausible: bool = False


#: JSON texts to be put in place of a value.
VALUES = (
    *("null", "true", "false", "0", "-1", "1", "3.5", "-0.0", "1e308", "-1e308", "1e999", "NaN", "-Infinity", '""', '"x"'),
    *("1000000000000000000", "-9223372036854775809", "9" * 5000, '"7"', '"NaN"', '"../../../evil"', '"/"', '".."', '"\\u0000"'),
    *('"' + "a" * 300 + '"', '"8; import os"', '"__class__"', '"\\ud800"', "[]", "{}", "[null]", '{"a": 1}', "[[], {}]"),
    *("[" * 100_000 + "]" * 100_000, '{"a":' * 5000 + "1" + "}" * 5000, "[1, 2", "'x'", "undefined"),
)

#: Lines to be put into a journal.
LINES = (
    *(b"null", b"17", b"{}", b"[]", b'"text"', b"", b" ", b"{", b"\x00\x00", b"\xff\xfe{}", b'{"key": 1}', b'{"id": null}'),
    *(b"[" * 100_000, b'{"a":' * 5000, b'{"key": [], "id": {}, "genome": 5, "status": []}', b"x" * 2_000_000),
)

#: Texts to be put in place of a value of YAML.
YAML = (
    *("null", "5", "-1", "0", "x", "yes", "'no'", "1e18", "1000000000000000000", ".nan", ".inf", "-.inf", "1.0e-9", "[]", "{}"),
    *(
        "&a [*a]",
        "*unknown",
        "!!python/object/apply:os.getcwd []",
        "[" * 3000,
        "'unclosed",
        "{a: {a: {a: 1}}}",
        "[[1, 2], [3]]",
    ),
    *("2026-11-21", "0x10", "1_000", "~", "|", "../../../evil", "''", "é", "\x07", "? x", "- 1", "%x", "@x", "a: b: c"),
)


def flip(rng: np.random.Generator, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(int(rng.choice([1, 1, 2, 8, 64]))):
        if changed:
            changed[int(rng.integers(len(changed)))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def truncate(rng: np.random.Generator, content: bytes) -> bytes:
    return content[: int(rng.integers(len(content)))] if content else b""


def insert(rng: np.random.Generator, content: bytes) -> bytes:
    at = int(rng.integers(len(content) + 1))
    return content[:at] + rng.bytes(int(rng.choice([1, 4, 1000]))) + content[at:]


def empty(rng: np.random.Generator, content: bytes) -> bytes:
    return b""


def noise(rng: np.random.Generator, content: bytes) -> bytes:
    return rng.bytes(int(rng.choice([1, 100, 5000])))


def zeros(rng: np.random.Generator, content: bytes) -> bytes:
    """What is left of a file that a crash of the machine has caught, or an oversized one."""
    return bytes(int(rng.choice([len(content), 5_000_000])))


def recode(rng: np.random.Generator, content: bytes) -> bytes:
    text = content.decode("utf-8", "replace")
    return [
        text.encode("utf-16"),
        ("é" + text).encode("latin-1", "replace"),
        b"\xef\xbb\xbf" + content,
        text.replace("\n", "\r\n").encode(),
    ][int(rng.integers(4))]


def json_value(rng: np.random.Generator, content: bytes) -> bytes:
    """Replace, delete or add a value somewhere in a JSON text."""
    data = json.loads(content)
    places = list(_places(data))
    parent, key = places[int(rng.integers(len(places)))]
    what = rng.random()
    if what < 0.1 and isinstance(parent, dict):
        del parent[key]
    elif what < 0.15 and isinstance(parent, dict):
        parent["unknown"] = 1
    else:
        parent[key] = "@@@"
    text = json.dumps(data, separators=(",", ":"))
    return text.replace('"@@@"', str(rng.choice(np.array(VALUES, dtype=object)))).encode()


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Yield all values of JSON data, each as its container and its key."""
    for key, value in list(data.items() if isinstance(data, dict) else enumerate(data)):
        yield data, key
        if isinstance(value, dict | list):
            yield from _places(value)


def journal(rng: np.random.Generator, content: bytes) -> bytes:
    """Duplicate, delete, move, insert or change lines of a journal."""
    lines = content.split(b"\n")[:-1]
    if not lines:
        return b"{}\n"
    at, to = (int(i) for i in rng.integers(len(lines), size=2))
    what = rng.choice(["duplicate", "delete", "move", "shuffle", "insert", "value", "value", "value"])
    if what == "duplicate":
        lines.insert(to, lines[at])
    elif what == "delete":
        del lines[at : at + int(rng.integers(1, 4))]
    elif what == "move":
        lines.insert(to, lines.pop(at))
    elif what == "shuffle":
        rng.shuffle(lines)
    elif what == "insert":
        lines.insert(at, LINES[int(rng.integers(len(LINES)))])
    else:
        lines[at] = json_value(rng, lines[at])
    return b"".join(line + b"\n" for line in lines)


def yaml_value(rng: np.random.Generator, content: bytes) -> bytes:
    """Replace a value, duplicate or delete a line, or change the indentation of YAML."""
    lines = content.decode().splitlines()
    at = int(rng.integers(len(lines)))
    value, what = str(rng.choice(np.array(YAML, dtype=object))), rng.random()
    if what < 0.1:
        del lines[at]
    elif what < 0.2:
        lines.insert(at, lines[int(rng.integers(len(lines)))])
    elif what < 0.25:
        lines[at] = "\t" + lines[at]
    elif what < 0.3:
        lines[at] = "  " + lines[at]
    else:
        ends = [i + 1 for i, character in enumerate(lines[at]) if character in ":,["] or [0]
        start = int(rng.choice(ends))
        rest = lines[at][start:]
        stop = next((i for i, character in enumerate(rest) if character in ",]}"), len(rest))
        lines[at] = f"{lines[at][:start]} {value}{rest[stop:]}"
    return ("\n".join(lines) + "\n").encode()


BYTES: tuple[Callable[[np.random.Generator, bytes], bytes], ...] = (flip, truncate, insert, empty, noise, zeros, recode)


class Bomb:
    """Makes a folder outside when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f'mkdir "${OUTSIDE}/unpickled"',)


def arrays(rng: np.random.Generator, content: bytes) -> bytes:
    """Replace, add or delete an array, or change its shape or dtype; the worst is one that must be unpickled."""
    with np.load(io.BytesIO(content)) as file:
        read: dict[str, Any] = {name: file[name] for name in file.files}
    name = str(rng.choice(list(read)))
    values = read.pop(name)
    others = [
        np.array([Bomb()], dtype=object),
        np.array(["text"] * 3),
        np.array(1.0),
        np.zeros((0,)),
        values[..., None],
        values.astype(complex),
        values.astype("datetime64[s]"),
    ]
    choice = int(rng.integers(len(others) + 2))
    if choice < len(others):
        read[name] = others[choice]
    elif choice == len(others):
        read |= {name: values, "../../../evil": values}
    buffer = io.BytesIO()
    np.savez(buffer, **read)
    return buffer.getvalue()


#: Kinds of damage that know what is in a file, by its suffix; they are tried as often as all others together.
BY_SUFFIX = {".json": json_value, ".jsonl": journal, ".yaml": yaml_value, ".npz": arrays}


def damage(rng: np.random.Generator, place: Path, outside: Path) -> Damage:
    """Damage a file or a folder of a copied run, or its run file."""
    folder = place / FOLDER
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    kinds = defaultdict(list)
    for path in files:
        kinds[path.name if path.parent == folder else f"{path.relative_to(folder).parts[0]}/{path.name}"].append(path)
    kinds["run file"] = [place / FILE]
    kinds["folder"] = sorted(path for path in folder.rglob("*") if path.is_dir())
    # Every kind of file as often as any other, however many there are of it; journals and descriptions more often.
    names = sorted(kinds)
    weights = np.array(
        [3 if name.endswith((".json", ".jsonl", ".yaml", ".npz")) or name == "run file" else 1 for name in names]
    )
    name = names[int(rng.choice(len(names), p=weights / weights.sum()))]
    path = kinds[name][int(rng.integers(len(kinds[name])))]
    label = str(path.relative_to(place))
    return damaged(rng, path, label, outside)


def damaged(rng: np.random.Generator, path: Path, label: str, outside: Path) -> Damage:
    """Damage one file or folder.

    Args:
        rng: Picks the damage.
        path: What to damage.
        label: Its name in the description.
        outside: A folder to which links may lead.
    """
    if path.is_dir() or rng.random() < 0.15:
        return Damage(f"{label}: {_replaced(rng, path, outside)}")
    before = path.read_bytes()
    known = BY_SUFFIX.get(path.suffix)
    change = known if known and rng.random() < 0.6 else BYTES[int(rng.integers(len(BYTES)))]
    after = change(rng, before)
    path.write_bytes(after)
    at = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after)))
    return Damage(
        f"{label}: {change.__name__} at {at}, now {after[max(0, at - 30) : at + 50]!r}", _plausible(path, before, after)
    )


def _replaced(rng: np.random.Generator, path: Path, outside: Path) -> str:
    """Put something of another kind in place of a file or a folder."""
    was_folder = path.is_dir()
    what = str(rng.choice(["nothing", "the other kind", "a loop of links", "a link to nothing", "a link outside"]))
    shutil.rmtree(path) if was_folder else path.unlink()
    if what == "the other kind":
        path.write_bytes(b"text") if was_folder else path.mkdir()
    elif what == "a loop of links":
        path.symlink_to(path.name)
    elif what == "a link to nothing":
        path.symlink_to(outside / "nothing")
    elif what == "a link outside":
        path.symlink_to(outside / ("folder" if was_folder else "file.txt"))
    return f"replaced by {what}"


def _plausible(path: Path, before: bytes, after: bytes) -> bool:
    """Return whether a change of a file is one that its form does not give away, or one of settings, which may be changed."""
    if path.suffix == ".yaml":
        return True
    try:
        if path.suffix == ".json":
            return _alike(json.loads(before), json.loads(after))
        if path.suffix == ".jsonl":
            old, new = ([line for line in text.split(b"\n") if line] for text in (before, after))
            return all(line in old or any(_alike(json.loads(known), json.loads(line)) for known in old) for line in new) and (
                not set(new) <= set(old)
            )
    except (ValueError, RecursionError):
        pass
    return False


def _alike(first: Any, second: Any) -> bool:
    """Return whether two JSON values have the same keys and types."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_alike(first[key], second[key]) for key in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_alike, first, second))
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (first, second))
    return numbers or type(first) is type(second)


# Cases.


@dataclass
class Verdict:
    """What a case showed.

    Attributes:
        number: Number of the case.
        damage: What was done.
        command: Command.
        code: Exit code.
        output: Everything printed.
        failures: What does not hold, each with its cause first; empty if all is well.
    """

    number: int
    damage: Damage
    command: list[str]
    code: int | None = None
    output: str = ""
    failures: list[tuple[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"case {self.number}: {self.damage.text}", f"  kerasnac {' '.join(self.command)} -> {self.code}"]
        return "\n".join(lines + [f"  {cause}: {text}" for cause, text in self.failures])


def check(number: int, whole: Whole, place: Path, *, outside_process: bool = False) -> Verdict:
    """Do one case.

    Args:
        number: All that is random depends on it alone; a negative one is without damage.
        whole: The finished run.
        place: An empty folder for the case, which is deleted if all is well.
        outside_process: Run the command in a process of its own.
    """
    rng = np.random.default_rng([13, number + 1])
    inner, outside = place / "a" / "b", place / "outside"
    shutil.copytree(whole.place, inner)
    fence(outside)
    (place / "a" / "evil").write_text("not to be touched\n")
    done = damage(rng, inner, outside) if number >= 0 else Damage("nothing")
    folder = inner / FOLDER
    run_file = ["run", "search", "spaces"][int(rng.integers(3))] if done.text.startswith(FILE) else "run"
    name = (
        run_file
        if done.text.startswith(FILE)
        else str(rng.choice(["resume"] * 7 + ["run", "run", "search", "costs"] if number >= 0 else ["resume"]))
    )
    command = {
        "resume": ["resume", str(folder)],
        "run": ["run", str(inner / FILE), "--out", str(folder)],
        "search": ["search", str(inner / FILE), "--out", str(folder)],
        "spaces": ["spaces", str(inner / FILE)],
        "costs": ["costs", str(_model(rng, whole, folder))],
    }[name]
    before, around = contents(folder), around_of(place, folder)
    verdict = Verdict(number, done, command)
    if outside_process:
        _in_own_process(verdict, outside)
    else:
        with pytest.MonkeyPatch.context() as patch:
            without_trainings(patch, drawings=number % 10 == 0).left = TRAININGS
            in_process(verdict, outside)
    after = contents(folder)
    fails = verdict.failures
    fails += touched(around, around_of(place, folder))
    settings = done.text.startswith(FILE) or f"{FOLDER}/run.yaml" in done.text
    good = whole.code if name in ("resume", "run") else 0
    if verdict.code not in (good, 0 if settings else good, 2, *([130] if settings else [])):
        if verdict.code is not None and not any(cause.startswith("traceback") for cause, _ in fails):
            fails.append((f"exit code {verdict.code}", verdict.output[-300:]))
    elif verdict.code == 2:
        fails += message(verdict)
    fails += _lost(whole, before, after, plausible=done.plausible)
    if verdict.code == good and not done.plausible and name in ("resume", "run", "search"):
        wrong = [table for table in TABLES[: 1 if name == "search" else 3] if after.get(table) != whole.files[table]]
        fails += [("other results", f"{table} differs from that of the undamaged run") for table in wrong]
    if not fails:
        shutil.rmtree(place)
    return verdict


def fence(outside: Path) -> None:
    """Make the folder that nothing may touch."""
    (outside / "folder").mkdir(parents=True)
    for file in (outside / "file.txt", outside / "folder" / "model.json"):
        file.write_text("not to be touched\n")


def _model(rng: np.random.Generator, whole: Whole, folder: Path) -> Path:
    models = sorted({str(Path(name).parent) for name in whole.files if name.endswith("model.json") and "compressed" in name})
    return folder / models[int(rng.integers(len(models)))]


def around_of(place: Path, folder: Path) -> dict[str, Any]:
    """Return content and kind of all that is beside a folder."""
    found: dict[str, Any] = {}
    for path in sorted(place.rglob("*")):
        if path != folder and folder not in path.parents:
            found[str(path.relative_to(place))] = path.read_bytes() if path.is_file() else path.is_dir()
    return found


def touched(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what was changed that must not be."""
    differing = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    return [("outside", f"changed outside the folder: {differing}")] if differing else []


def message(verdict: Verdict) -> list[tuple[str, str]]:
    """Return what is wrong with the message of a command that ends with 2."""
    lines = [line for line in verdict.output.splitlines() if line.startswith(("error: ", "Error: "))]
    if len(lines) != 1:
        return [("message", f"{len(lines)} lines begin with 'error:': {verdict.output[-300:]}")]
    text = verdict.output[verdict.output.index(lines[0]) :]
    if "pydantic.dev" in text:
        return [("message with a link", text[-300:])]
    return [("message too long", f"{len(text)} characters: {text[:300]}")] if len(text) > 2000 else []


def _lost(whole: Whole, before: dict[str, bytes], after: dict[str, bytes], *, plausible: bool) -> list[tuple[str, str]]:
    """Return what was computed and undamaged before a command, and is gone or changed after it."""
    lost = []
    for name, content in whole.files.items():
        if name.endswith(".jsonl") and name in before:
            kept = [line for line in before[name].split(b"\n")[:-1] if line and line in content.split(b"\n")]
            now = iter(after.get(name, b"").split(b"\n"))
            if not all(line in now for line in kept):
                lost.append(
                    ("lost records", f"{name} had {len(kept)} good records, which are not all there, or in another order")
                )
        elif name not in WRITTEN_ANEW and before.get(name) == content and after.get(name) != content and not plausible:
            lost.append(("lost file", f"{name} was whole, and is {'other' if name in after else 'gone'} now"))
    return lost


def in_process(verdict: Verdict, outside: Path) -> None:
    """Run the command in this process, as ``python -m kerasnac`` does, but for the interpreter's own exit."""
    with pytest.MonkeyPatch.context() as patch, _limits():
        patch.setenv("COLUMNS", "150")
        patch.setenv(OUTSIDE, str(outside))
        try:
            result = CliRunner().invoke(main, verdict.command)
        except Hang:
            verdict.failures.append(("hang", f"more than {SECONDS} s"))
            return
    verdict.code, verdict.output = result.exit_code, result.output
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        assert result.exc_info is not None
        if isinstance(result.exception, Hang):
            verdict.code = None
            verdict.failures.append((f"hang in {_cause(result.exception)}", f"more than {SECONDS} s"))
        else:
            text = "".join(traceback.format_exception_only(result.exception)).strip()
            verdict.failures.append((f"traceback: {type(result.exception).__name__} in {_cause(result.exception)}", text[:300]))
    if "Traceback" in result.output:
        verdict.failures.append(("traceback printed", result.output[-300:]))


def _in_own_process(verdict: Verdict, outside: Path) -> None:
    """Run the command as a process, whose exit code is the real one."""
    command = [sys.executable, "-m", "tests.damage", "--command", *verdict.command]
    try:
        own = os.environ | {OUTSIDE: str(outside), "COLUMNS": "150"}
        done = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, timeout=5 * SECONDS)
    except subprocess.TimeoutExpired:
        verdict.failures.append(("hang", f"more than {5 * SECONDS} s"))
        return
    verdict.code, verdict.output = done.returncode, done.stdout + done.stderr
    if "Traceback" in verdict.output:
        verdict.failures.append(("traceback of a process", verdict.output[-500:]))


def _cause(error: BaseException) -> str:
    """Return the innermost line of kerasnac that an exception came through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/kerasnac/" in frame.filename]
    own = [frame for frame in frames if "ui/" not in frame.filename] or frames
    return f"{own[-1].filename.rpartition('/kerasnac/')[2]}:{own[-1].lineno} {own[-1].name}" if own else "no line of kerasnac"


@contextmanager
def _limits() -> Iterator[None]:
    """Limit time and memory of a block."""

    def hang(number: int, frame: FrameType | None) -> None:
        raise Hang

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, hang)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + MEMORY, hard))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))


# By hand.


def survey(first: int, last: int, place: Path, *, every: int = 100) -> list[Verdict]:
    """Do many cases; return those that fail."""
    whole, start, failed = make_whole(place / "made"), time.monotonic(), []
    codes: dict[int | None, int] = defaultdict(int)
    for number in range(first, last):
        verdict = check(number, whole, place / str(number))
        codes[verdict.code] += 1
        if verdict.failures:
            failed.append(verdict)
        if (number + 1 - first) % every == 0:
            print(f"{number + 1 - first} cases, {len(failed)} fail, {time.monotonic() - start:.0f} s", file=sys.stderr)
    print(f"cases {first} to {last - 1}: {last - first - len(failed)} well, {len(failed)} fail; exit codes {dict(codes)}")
    return failed


def by_cause(failed: list[Verdict]) -> str:
    """Return failures grouped by their cause, the most frequent first."""
    groups: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in failed:
        for cause in dict.fromkeys(cause for cause, _ in verdict.failures):
            groups[cause].append(verdict)
    lines = []
    for cause, verdicts in sorted(groups.items(), key=lambda item: -len(item[1])):
        lines.append(f"{len(verdicts):4}  {cause}: cases {', '.join(str(v.number) for v in verdicts[:12])}")
        example = verdicts[0]
        lines.append(f"      {example.damage.text[:220]}")
        lines.append(f"      {next(text for known, text in example.failures if known == cause)[:300]}")
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--command"]:
        with pytest.MonkeyPatch.context() as own:
            without_trainings(own).left = TRAININGS
            main(sys.argv[2:], prog_name="kerasnac")
    base = Path(tempfile.mkdtemp(prefix="kerasnac-damage-"))
    numbers = [int(argument) for argument in sys.argv[1:]]
    if len(numbers) == 1:
        found = check(numbers[0], make_whole(base / "made"), base / "case")
        print(found, found.output, sep="\n")
        print("all is well" if not found.failures else f"the folder is {base / 'case'}")
    else:
        print(by_cause(survey(*numbers, base)))
