"""Where stages run their tasks: processes on this machine, or a Dask cluster."""

from __future__ import annotations

from kerasnac.adapters.workers.base import Died, Workers
from kerasnac.adapters.workers.local import LocalWorkers
from kerasnac.core.data.dataset import Development
from kerasnac.errors import EnvironmentProblem

__all__ = ["Died", "LocalWorkers", "Workers", "connect"]


def connect(data: Development, scheduler: str) -> Workers:
    """The workers of a Dask cluster; see :class:`kerasnac.adapters.workers.cluster.ClusterWorkers`.

    Raises:
        EnvironmentProblem: If Dask is not installed, no scheduler answers, or its workers cannot load kerasnac.
    """
    try:
        from kerasnac.adapters.workers.cluster import ClusterWorkers
    except ImportError as error:
        raise EnvironmentProblem(f"Dask is not installed ({error}): pip install 'kerasnac[dask]'") from error
    return ClusterWorkers(data, scheduler)
