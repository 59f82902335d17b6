"""Runs that are killed again and again, compared with one that never was: every byte but the recorded times.

python tests/benchmarks/kills.py --out DIR [--kills 200] [--seed 0] [--workers 1 2 dask]

One run without disturbance, on one worker, is the reference. Then every kind of workers has runs that are killed at random
times, by ``kill -9`` of the whole process group, of the main process alone, or of one worker, and resumed until they are
finished; when a run is finished and kills are left, the next one begins. A run goes through all stages: a search of widths
and sparsities with the architecture, tuning, compression, mixed precision, firmware.

The table says how many kills fell into every stage, and how many of the finished runs are identical to the reference. The
kills of a run that differs can be repeated, as far as the clock allows, with the seed that is printed.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

ROOT = Path(__file__).parents[2]

RUN = """
name: kills
space:
  input: 4
  outputs: 3
  firmware: exact
  blocks:
    - block: mlp
      depth: [1, 2]
      widths: [[3, 4, 5], [3, 4]]
      weight_bits: [4, 6]
      activation_bits: [4, 6]
      sparsity: [0.25, 0.5]
  output_layer: {weight_bits: [4, 6], sparsity: [0, 0.25]}
dataset: {source: npz, path: data.npz}
search:
  objectives: [metric, adder_luts]
  adder_graph: {weights: trained}
  population: 3
  evaluations: 6
  training: {epochs: 1, batch_size: 64}
tune: {select: [best], trials: 2, epochs: 1, repeats: 2, batch_size: [32, 64]}
compress:
  bits: [6]
  iterations: 2
  epochs: 2
  rewind: early
  rewind_epochs: 1
  estimators: [adder_graph]
  mixed: {evaluations: 3, population: 3, epochs: 1, weight_bits: [4, 5, 6], activation_bits: [5, 6], start: best, max_drop: 1}
firmware: {select: [best], samples: 60}
"""

#: A stage, and the file in the run folder that shows that it has begun; the last one that is there counts.
STAGES = {
    "before": ".",
    "search": "search.jsonl",
    "tune": "tune.jsonl",
    "compress": "compress.jsonl",
    "mixed": "mixed.jsonl",
    "firmware": "compress.csv",
}

#: Keys and columns of recorded times, of places, and of addresses in memory that Keras writes down.
TIMES = frozenset({"seconds", "folder", "date_saved", "shared_object_id"})

#: A run that does not end in so many seconds hangs.
PATIENCE = 600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--kills", type=int, default=200, help="of all kinds of workers together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", nargs="+", default=["1", "2", "dask"], help="numbers of processes, or dask")
    parser.add_argument("--longest", type=float, default=15.0, help="seconds until a kill, at most")
    options = parser.parse_args()
    out: Path = options.out.resolve()
    out.mkdir(parents=True)
    write_run(out)
    print(f"seed {options.seed}, kerasnac of {ROOT}", flush=True)
    start = time.monotonic()
    finish(start_run(out, "reference", ["--workers", "1"]))
    print(f"the reference took {time.monotonic() - start:.0f} s", flush=True)
    tallies = []
    for number, workers in enumerate(options.workers):
        with workers_of(out, workers) as (arguments, cluster):
            tally = Tally(workers)
            tallies.append(tally)
            share = options.kills // len(options.workers) + (number < options.kills % len(options.workers))
            while sum(tally.kills.values()) < share:
                name = f"{workers}-{len(tally.runs)}"
                rng = random.Random(f"{options.seed} {name}")
                left = share - sum(tally.kills.values())
                kill_until_finished(out, name, arguments, cluster, rng, options.longest, left, tally)
                tally.runs[name] = differences(out / "reference", out / name)
                print(f"{name}: {'; '.join(tally.runs[name]) or 'identical'}", flush=True)
    print(table(tallies))
    print(f"{time.monotonic() - start:.0f} s")
    sys.exit(any(differing for tally in tallies for differing in tally.runs.values()) or any(t.orphans for t in tallies))


@dataclass
class Tally:
    """Counts of one kind of workers.

    Attributes:
        workers: The kind.
        kills: By stage.
        kinds: Kills by what was killed.
        runs: By the name of a finished run, what differs from the reference.
        orphans: Processes that were alive ten seconds after the death of their main process.
    """

    workers: str
    kills: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    runs: dict[str, list[str]] = field(default_factory=dict)
    orphans: int = 0


def write_run(out: Path) -> None:
    """Write the run file, 400 samples of three classes, and a compiler that does not optimise."""
    (out / "kills.yaml").write_text(RUN)
    (out / "compiler").write_text('#!/bin/bash\nexec g++ "${@/-O3/-O0}"\n')
    (out / "compiler").chmod(0o755)
    rng = np.random.default_rng(0)
    y = np.arange(400) % 3
    np.savez(out / "data.npz", x=rng.normal(size=(3, 4))[y] + 0.5 * rng.normal(size=(400, 4)), y=y)


# Killing.


@contextmanager
def workers_of(out: Path, kind: str) -> Iterator[tuple[list[str], int | None]]:
    """Yield the arguments for a kind of workers, and the process id of the cluster if there is one."""
    if kind != "dask":
        yield ["--workers", kind], None
        return
    process = subprocess.Popen(
        [sys.executable, __file__, "--cluster"],
        env=environment(out, "dask"),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        yield ["--scheduler", process.stdout.readline().strip()], process.pid
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def keep_cluster() -> None:
    """Keep a cluster of two processes until this one is ended."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        print(cluster.scheduler_address, flush=True)
        signal.pause()


def environment(out: Path, name: str) -> dict[str, str]:
    """Return the environment of a process; compiled emulations are shared with no other run."""
    own = {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return os.environ | own | {"CXX": str(out / "compiler"), "KERASNAC_CACHE": str(out / f"cache-{name}")}


def start_run(out: Path, name: str, arguments: list[str]) -> subprocess.Popen[bytes]:
    """Start a run, or resume it, in a process group of its own."""
    begun = (out / name / "run.yaml").exists()
    command = ["resume", name] if begun else ["run", "kills.yaml", "--out", name]
    with (out / f"{name}.txt").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "kerasnac", *command, *arguments],
            cwd=out,
            env=environment(out, name),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def finish(process: subprocess.Popen[bytes]) -> None:
    """Wait until a run ends well."""
    try:
        code = process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    if code:
        raise SystemExit(f"{process.args} ended with {code}: see the output beside the run folder")


def kill_until_finished(
    out: Path,
    name: str,
    arguments: list[str],
    cluster: int | None,
    rng: random.Random,
    longest: float,
    most: int,
    tally: Tally,
) -> None:
    """Kill and resume one run until it is finished; after ``most`` kills it is left alone."""
    kills = 0
    while True:
        process = start_run(out, name, arguments)
        if kills == most:
            return finish(process)
        victim = rng.choice(["group", "main", "worker"])
        try:
            process.wait(rng.uniform(0.2, longest))
        except subprocess.TimeoutExpired:
            tally.kills[stage(out / name)] += 1
            tally.kinds[victim] += 1
            kills += 1
            tally.orphans += kill(process, victim, cluster, rng)
            if process.poll() is None:  # A worker is dead, and the run goes on.
                with suppress(subprocess.TimeoutExpired):
                    process.wait(rng.uniform(0.2, longest))
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        if process.returncode == 0:
            return None
        if process.returncode > 0:
            raise SystemExit(f"{name} ended with {process.returncode} after {kills} kills: see {out / name}.txt")


def stage(folder: Path) -> str:
    """Return the stage that a run had reached."""
    return [name for name, file in STAGES.items() if name == "before" or (folder / file).exists()][-1]


def kill(process: subprocess.Popen[bytes], victim: str, cluster: int | None, rng: random.Random) -> int:
    """Kill a run, or a worker of it; return how many processes outlive a main process by more than ten seconds."""
    others = psutil.Process(process.pid).children(recursive=True)
    if victim == "worker":
        found = [child for child in (psutil.Process(cluster).children(recursive=True) if cluster else others) if works(child)]
        for child in rng.sample(found, min(1, len(found))):
            with suppress(psutil.NoSuchProcess):
                child.kill()
        return 0
    os.kill(process.pid, signal.SIGKILL) if victim == "main" else os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(others, timeout=10)
    for child in alive:
        print(f"outlived its main process: {' '.join(child.cmdline())[:120]}", flush=True)
        child.kill()
    return len(alive)


def works(process: psutil.Process) -> bool:
    """Return whether a process is a worker, and no tracker of resources or child of a worker."""
    with suppress(psutil.NoSuchProcess):
        return any(word in " ".join(process.cmdline()) for word in ("popen_loky", "spawn_main", "forkserver"))
    return False


# Comparing.


def differences(first: Path, second: Path) -> list[str]:
    """Return what differs between two run folders, recorded times apart: file by file."""
    names = sorted(files(first) | files(second))
    return [f"{name}: {problem}" for name in names if (problem := difference(first / name, second / name))]


def files(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name not in (".lock", ".workers")
    }


def difference(first: Path, second: Path) -> str:
    """Return in which way two files differ; empty if they are equal."""
    if not second.exists():
        return "missing"
    if not first.exists():
        return "not in the reference"
    equal = first.read_bytes() == second.read_bytes() or content(first) == content(second)
    return "" if equal else "other content"


def content(path: Path) -> Any:
    """Return what a file says, without recorded times and addresses, and without the hashes of files that hold some.

    Journals are in the order of their text, since workers end in any order.
    """
    if path.name == "manifest.json":
        return sorted(json.loads(path.read_text())["sha256"])
    if path.suffix == ".json":
        return timeless(json.loads(path.read_text()))
    if path.suffix == ".jsonl":
        return sorted(json.dumps(timeless(json.loads(line)), sort_keys=True) for line in path.read_text().splitlines())
    if path.suffix == ".csv":
        return [timeless(row) for row in csv.DictReader(path.open())]
    if path.suffix in (".npz", ".keras"):
        with zipfile.ZipFile(path) as archive:
            read = {name: archive.read(name) for name in archive.namelist()}
        return {name: timeless(json.loads(data)) if name.endswith(".json") else data for name, data in read.items()}
    if path.suffix in (".txt", ".md"):
        text = re.sub(r"^project: .*/|^times: .*", "", path.read_text(), flags=re.MULTILINE)
        return re.sub(r"\b[0-9a-f]{64}\b", "", text)
    return path.read_bytes()


def timeless(data: Any) -> Any:
    """Leave such keys out, however deep."""
    if isinstance(data, dict):
        return {key: timeless(value) for key, value in data.items() if key not in TIMES}
    return [timeless(value) for value in data] if isinstance(data, list) else data


def table(tallies: list[Tally]) -> str:
    """Return one row per stage and kind of workers, and what became of the runs."""
    text = io.StringIO()
    print(f"{'stage':<12}" + "".join(f"{tally.workers:>8}" for tally in tallies), file=text)
    for name in STAGES:
        print(f"{name:<12}" + "".join(f"{tally.kills[name]:>8}" for tally in tallies), file=text)
    rows = {
        "kills": [sum(tally.kills.values()) for tally in tallies],
        "  of a group": [tally.kinds["group"] for tally in tallies],
        "  of main": [tally.kinds["main"] for tally in tallies],
        "  of a worker": [tally.kinds["worker"] for tally in tallies],
        "runs": [len(tally.runs) for tally in tallies],
        "identical": [sum(not found for found in tally.runs.values()) for tally in tallies],
        "different": [sum(bool(found) for found in tally.runs.values()) for tally in tallies],
        "orphans": [tally.orphans for tally in tallies],
    }
    for label, values in rows.items():
        print(f"{label:<14}"[:14].ljust(12) + "".join(f"{value:>8}" for value in values), file=text)
    return text.getvalue()


if __name__ == "__main__":
    keep_cluster() if sys.argv[1:] == ["--cluster"] else main()
