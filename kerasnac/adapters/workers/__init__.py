"""Workers for the tasks of stages: processes on this machine, or a Dask cluster."""

from __future__ import annotations

from pathlib import Path

from kerasnac.adapters.workers.base import WorkerDied, Workers
from kerasnac.adapters.workers.local import LocalWorkers, check_processes
from kerasnac.core.data.dataset import Development
from kerasnac.errors import EnvironmentProblem

__all__ = ["LocalWorkers", "WorkerDied", "Workers", "check_processes", "connect"]


def connect(data: Development, scheduler: str, folder: Path | None = None) -> Workers:
    """Connect to the workers of a Dask cluster; see :class:`kerasnac.adapters.workers.cluster.ClusterWorkers`.

    Args:
        data: The development data of all tasks.
        scheduler: Address of the scheduler, ``tcp://host:8786``.
        folder: Run folder that the tasks write to; None if they write nothing.

    Raises:
        EnvironmentProblem: If Dask is not installed, no scheduler answers, or its workers cannot work for this process.
    """
    try:
        from kerasnac.adapters.workers.cluster import ClusterWorkers
    except ImportError as error:
        raise EnvironmentProblem(f"Dask is not installed ({error}): pip install 'kerasnac[dask]'") from error
    return ClusterWorkers(data, scheduler, folder)
