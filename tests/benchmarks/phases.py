"""Where the time of a run goes: import, compilation, training, costs, journals, firmware.

python tests/benchmarks/phases.py bragg_exact --profile quick --out DIR
python tests/benchmarks/phases.py jets_mlp_luts --profile quick --data jets.npz --out DIR

Everything runs in this one process, so that every second is seen. A phase does not count the phases within it.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich import print as show
from rich.table import Table

from kerasnac.core.settings import DatasetSettings
from kerasnac.core.settings.yaml_files import load_run
from kerasnac.stages.run import run_all, session
from tests.stand_ins import InProcess

#: Phase -> the functions that it consists of.
PHASES = {
    "trainings by fit": ["kerasnac.adapters.keras.reference:fit_by_keras"],
    "ranges of activations": ["kerasnac.adapters.keras.train:quantized_start"],
    "adder graphs": ["kerasnac.adapters.rtl.adder_graph:adder_graph_costs", "kerasnac.adapters.rtl.adder_graph:unroll"],
    "estimates": ["kerasnac.stages.search.costs:estimate"],
    "journals": ["kerasnac.core.store.journal:Journal.append", "kerasnac.core.store.memo:Memo.refresh"],
    "models on disk": ["kerasnac.core.network.trained:Trained.save"],
    "proposals of NSGA-II": ["kerasnac.adapters.search.nsga2:Nsga2.ask", "kerasnac.adapters.search.nsga2:Nsga2.tell"],
    "proposals of keras-tuner": ["kerasnac.adapters.search.tuner:Oracle.ask", "kerasnac.adapters.search.tuner:Oracle.tell"],
    "shared forms": ["kerasnac.core.space.shared_molds:shared_molds"],
    "firmware": ["kerasnac.stages.run.session:convert_one"],
    "test split": ["kerasnac.stages.run.session:score_one"],
}


class Clock:
    """Exclusive wall time by phase."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self._running = ["everything else"]
        self._since = time.perf_counter()

    def timed(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that counts its time for a phase."""

        @functools.wraps(function)
        def counted(*arguments: Any, **options: Any) -> Any:
            self._switch()
            self._running.append(phase)
            self.calls[phase] += 1
            try:
                return function(*arguments, **options)
            finally:
                self._switch()
                self._running.pop()

        return counted

    def _switch(self) -> None:
        now = time.perf_counter()
        self.seconds[self._running[-1]] += now - self._since
        self._since = now

    def watch(self, phase: str, place: str) -> None:
        """Count the time of a function, ``module:name`` or ``module:Class.name``, wherever it has been imported to."""
        module, _, name = place.partition(":")
        owner = functools.reduce(getattr, name.split(".")[:-1], importlib.import_module(module))
        plain = getattr(owner, name.split(".")[-1])
        counted = self.timed(phase, plain)
        users = [m for key, m in list(sys.modules.items()) if key.startswith("kerasnac")] if "." not in name else []
        for user in [owner, *users]:
            if getattr(user, name.split(".")[-1], None) is plain:
                setattr(user, name.split(".")[-1], counted)

    def watch_compilations(self) -> None:
        """Count the first call of every compiled training apart from all others."""
        from kerasnac.adapters.keras.engine.trainer import CompiledTraining

        make = CompiledTraining.__init__

        def made(training: Any, *arguments: Any) -> None:
            make(training, *arguments)
            plain, later = training._steps, self.timed("compiled trainings", training._steps)

            def first(*arguments: Any) -> Any:
                training._steps = later
                return self.timed("compilation", plain)(*arguments)

            training._steps = first

        CompiledTraining.__init__ = made  # type: ignore[method-assign, assignment]
        self.watch("compiled trainings", "kerasnac.adapters.keras.engine.trainer:CompiledTraining.train")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="run file, or the name of one that comes with kerasnac")
    parser.add_argument("--profile", default=None)
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    clock = Clock()
    clock.timed("imports", _import_all)()
    for phase, places in PHASES.items():
        for place in places:
            clock.watch(phase, place)
    clock.watch_compilations()
    session.LocalWorkers = InProcess  # type: ignore[assignment, misc]
    settings = load_run(options.run, profile=options.profile)
    if options.data is not None:
        dataset = DatasetSettings(source=settings.dataset.source, **{**settings.dataset.options, "path": str(options.data)})
        settings = settings.model_copy(update={"dataset": dataset})
    clock.timed("everything else", run_all)(settings, options.out)
    table = Table("phase", "calls", "seconds", "share", title=f"{options.run}, one process")
    for phase, seconds in clock.seconds.most_common():
        table.add_row(phase, str(clock.calls[phase]), f"{seconds:.1f}", f"{seconds / clock.seconds.total():.1%}")
    show(table)
    show(f"{clock.seconds.total():.0f} s, peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


def _import_all() -> None:
    from kerasnac.adapters.keras import pruning  # noqa: F401
    from kerasnac.adapters.keras.runtime import become_worker, qkeras

    become_worker()
    qkeras()


if __name__ == "__main__":
    main()
