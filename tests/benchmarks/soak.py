"""A long search of tiny networks, watched from outside: memory, file descriptors, processes, temporary files.

python tests/benchmarks/soak.py --out DIR [--evaluations 2000] [--workers 2] [--hours 1] [--every 10]

``kerasnac search`` trains every candidate for one epoch. The samples are in ``soak.csv`` and ``soak.png`` of the folder. A
number that only grows is a leak: its slope, in units per thousand candidates, is printed for the second half of the search.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[2]

RUN = """
name: soak
space:
  input: 8
  outputs: 3
  blocks:
    - block: mlp
      depth: [1, 2, 3]
      widths: [[4, 6, 8, 10, 12, 14, 16, 20], [4, 6, 8, 10, 12, 14, 16, 20], [4, 6, 8, 10, 12, 14, 16, 20]]
      activation: [relu, tanh, sigmoid]
      norm: [none, batch]
dataset: {{source: npz, path: data.npz}}
search: {{population: 40, evaluations: {evaluations}, training: {{epochs: 1, batch_size: 128}}}}
"""

#: What the columns of the table are in; the plot has one panel for each.
COLUMNS = {
    "main_mb": "memory of the main process (MB)",
    "workers_mb": "memory of the workers, together (MB)",
    "main_files": "open files of the main process",
    "workers_files": "open files of the workers, together",
    "processes": "processes",
    "threads": "threads of the main process",
    "temporary_files": "temporary files",
    "temporary_mb": "temporary files (MB)",
    "journal_mb": "journals (MB)",
    "seconds_each": "seconds per candidate",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--evaluations", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--hours", type=float, default=1.0, help="end the search after this time")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two samples")
    options = parser.parse_args()
    out: Path = options.out.resolve()
    (out / "temporary").mkdir(parents=True)
    write_run(out, options.evaluations)
    command = ["search", "soak.yaml", "--out", "run", "--workers", str(options.workers)]
    with (out / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "kerasnac", *command],
            cwd=out,
            env=os.environ | {"TMPDIR": str(out / "temporary"), "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=output,
            # A shell starts what is in its background without Ctrl-C, with which the search is to be ended.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            samples = watch(process, out, options.every, time.monotonic() + 3600 * options.hours)
        finally:
            end(process)
    frame = with_rates(pd.DataFrame(samples))
    frame.to_csv(out / "soak.csv", index=False)
    plot(frame).savefig(out / "soak.png", dpi=120)
    print(f"{frame.candidates.iloc[-1]} candidates in {frame.seconds.iloc[-1]:.0f} s, exit code {process.returncode}")
    print(slopes(frame).to_string())
    left = [str(path.relative_to(out)) for path in temporary(out)]
    print(f"temporary files at the end: {left or 'none'}")


def write_run(out: Path, evaluations: int) -> None:
    """Write the run file, and 600 samples of three classes."""
    (out / "soak.yaml").write_text(RUN.format(evaluations=evaluations))
    rng = np.random.default_rng(0)
    y = np.arange(600) % 3
    np.savez(out / "data.npz", x=rng.normal(size=(3, 8))[y] + rng.normal(size=(600, 8)), y=y)


def watch(process: subprocess.Popen[bytes], out: Path, every: float, deadline: float) -> list[dict[str, float]]:
    """Sample a search until it ends, or until a time; a sample that is cut off by its end is left out."""
    start, samples = time.monotonic(), []
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(psutil.NoSuchProcess):
            samples.append({"seconds": round(time.monotonic() - start, 1), **sample(psutil.Process(process.pid), out)})
        with suppress(subprocess.TimeoutExpired):
            process.wait(every)
    return samples


def sample(main_process: psutil.Process, out: Path) -> dict[str, float]:
    """Look at a running search once."""
    others = main_process.children(recursive=True)
    files = temporary(out)
    journal = out / "run" / "search.jsonl"
    return {
        "candidates": journal.read_bytes().count(b'"status":"ok"') if journal.exists() else 0,
        "main_mb": main_process.memory_info().rss / 1e6,
        "workers_mb": total(others, lambda process: process.memory_info().rss) / 1e6,
        "main_files": main_process.num_fds(),
        "workers_files": total(others, lambda process: process.num_fds()),
        "processes": 1 + len(others),
        "threads": main_process.num_threads(),
        "temporary_files": len(files),
        "temporary_mb": sum(map(size, files)) / 1e6,
        "journal_mb": sum(map(size, (out / "run").glob("*.jsonl"))) / 1e6,
    }


def total(processes: Iterable[psutil.Process], value: Callable[[psutil.Process], float]) -> float:
    """Add up a number of processes, of which some may just have ended."""
    found = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            found += value(process)
    return found


def temporary(out: Path) -> list[Path]:
    """Return all temporary files, and what is half written in the run folder."""
    places = [*(out / "temporary").rglob("*"), *(out / "run").rglob(".*.tmp"), *(out / "run").rglob(".*.old.*")]
    return [path for path in places if path.is_file()]


def size(path: Path) -> int:
    """Return the size of a file, 0 if it is gone."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def end(process: subprocess.Popen[bytes]) -> None:
    """End a search as Ctrl-C does, and make sure that it is gone."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def with_rates(frame: pd.DataFrame) -> pd.DataFrame:
    """Add the seconds per candidate, over the last six samples."""
    return frame.assign(seconds_each=frame.seconds.diff(6) / frame.candidates.diff(6).replace(0, np.nan))


def slopes(frame: pd.DataFrame) -> pd.DataFrame:
    """Return every number at the beginning and the end, and its growth per 1,000 candidates in the second half."""
    frame = frame.iloc[:-1]  # At the time of the last sample the workers may be gone.
    half = frame[frame.candidates >= frame.candidates.max() / 2]
    rows = {}
    for name in COLUMNS:
        known = half[["candidates", name]].dropna()
        slope = np.polyfit(known.candidates, known[name], 1)[0] * 1000 if len(known) > 2 else np.nan
        values = frame.loc[frame.candidates > 0, name].dropna()
        rows[name] = {"first": values.iloc[0], "largest": values.max(), "last": values.iloc[-1], "per 1000": slope}
    return pd.DataFrame(rows).T.round(3)


def plot(frame: pd.DataFrame) -> Figure:
    """Plot every number against the number of candidates."""
    figure = Figure(figsize=(12, 14), layout="constrained")
    for axes, (name, label) in zip(figure.subplots(5, 2).flat, COLUMNS.items(), strict=True):
        axes.plot(frame.candidates, frame[name], lw=1.2)
        axes.set(xlabel="candidates trained", ylabel=label, ylim=(0, None))
        axes.grid(alpha=0.3)
    return figure


if __name__ == "__main__":
    main()
