"""Look-up tables of networks as Yosys counts them, to compare with those of boosted trees."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

from kerasnac.adapters.rtl.adder_graph import unroll
from kerasnac.adapters.rtl.verilog import write_design
from kerasnac.adapters.rtl.yosys import synthesise
from kerasnac.core.data.dataset import Development
from kerasnac.core.network.trained import Trained
from kerasnac.core.settings import AdderGraphSettings
from kerasnac.core.store.journal import Journal
from kerasnac.core.store.keys import content_key
from kerasnac.core.store.memo import Memo, Shape
from kerasnac.core.store.progress import Step, told, working
from kerasnac.errors import ConversionError, EnvironmentProblem, TimeLimitExceeded
from kerasnac.stages.context import Context

log = logging.getLogger("kerasnac")

#: Name of the journal in the run folder.
JOURNAL = "network_luts.jsonl"

#: Name of what counts, where progress is shown.
STAGE = "yosys"

#: Seconds that Yosys gets for a network.
TIMEOUT = 1800.0

_SHAPE = Shape({"key": str, "model": str, "yosys_luts?": float, "reason?": str, "seconds": float})


@dataclass(frozen=True)
class CountJob:
    """One quantized network to count."""

    model: Trained
    settings: AdderGraphSettings
    folder: Path

    @property
    def key(self) -> str:
        """Hash of all that decides the count."""
        return content_key("network luts", network=self.model.identity, adder_graph=self.settings.identity)


def _memo(folder: Path) -> Memo:
    return Memo(Journal(folder / JOURNAL), _SHAPE, lambda record: record["key"])


def _known(job: CountJob, memo: Memo) -> float | str | None:
    """Return the count of a network that is recorded, or the reason why there is none; None if nothing is recorded."""
    record = memo.get(job.key)
    if record is None:
        return None
    return str(record["reason"]) if "reason" in record else float(record["yosys_luts"])


def count_networks(models: Sequence[Trained], settings: AdderGraphSettings, context: Context) -> dict[str, float]:
    """Count the look-up tables of the adder graphs of some networks with Yosys; counts are in ``network_luts.jsonl``.

    Args:
        models: Quantized networks.
        settings: How their adder graphs are made.
        context: Workers and folder.

    Returns:
        ``yosys_luts`` by name. A network without an exact adder graph, or one that Yosys does not get done with, is left out
        with a warning; so are all where da4ml is missing.
    """
    jobs = [CountJob(model, settings, context.folder) for model in models]
    counts: dict[str, float] = {}
    memo = _memo(context.folder)
    known: list[float | str | None] = [_known(job, memo) for job in jobs]
    names = [model.name for model in models]
    with told(context.progress, STAGE, {"models": names}):
        results: list[float | str] = context.results(count_network, jobs, known, watch=working(context.progress, STAGE, names))
        for number, (name, found) in enumerate(zip(names, results, strict=True), start=1):
            if isinstance(found, str):
                log.warning("%s: its LUTs are not counted: %s", name, found)
            else:
                counts[name] = found
            text = f"{name}: {found if isinstance(found, str) else f'{found:,.0f} LUT'}"
            context.progress(Step(STAGE, number, len(names), text))
    return counts


def count_network(data: Development, job: CountJob) -> float | str:
    """Count the look-up tables of one network, or read what is recorded; runs in a worker.

    Returns:
        The count, or why there is none.
    """
    memo = _memo(job.folder)
    if (known := _known(job, memo)) is not None:
        return known
    started, own = monotonic(), {"key": job.key, "model": job.model.name}
    try:
        with TemporaryDirectory() as folder:
            graph = unroll(job.model.architecture, job.model.weights, job.settings)
            luts = float(synthesise(write_design(graph, job.model.name, Path(folder)), timeout=TIMEOUT).luts)
    except TimeLimitExceeded as reason:
        memo.add({**own, "reason": str(reason), "seconds": monotonic() - started})
        return str(reason)
    except (ConversionError, EnvironmentProblem) as reason:
        return str(reason)
    memo.add({**own, "yosys_luts": luts, "seconds": monotonic() - started})
    return luts
