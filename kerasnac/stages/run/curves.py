"""Curves of models on the test split as tables: ROC curves or histograms, and what is quoted of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from kerasnac.core.data.curves import Curves, Distances

if TYPE_CHECKING:
    import pandas as pd

#: Names of the files in the run folder.
CURVES, SUMMARY = "curves.csv", "curves_summary.csv"


def curves_frame(curves: Mapping[str, Curves]) -> pd.DataFrame:
    """Return one row per point of a ROC curve (model, class, efficiency, background_efficiency), or per bin of distances.

    The last bin (model, low, high, samples) of a model holds all that is beyond.
    """
    import pandas as pd

    rows: list[dict[str, object]] = []
    for model, found in curves.items():
        if isinstance(found, Distances):
            bins = zip(found.edges[:-1], [*found.edges[1:-1], np.inf], found.counts, strict=True)
            rows += [{"model": model, "low": low, "high": high, "samples": count} for low, high, count in bins]
            continue
        for roc in found:
            points = zip(roc.efficiency.tolist(), roc.mistaken.tolist(), strict=True)
            rows += [{"model": model, "class": roc.signal, "efficiency": e, "background_efficiency": b} for e, b in points]
    return pd.DataFrame(rows)


def summary_frame(curves: Mapping[str, Curves]) -> pd.DataFrame:
    """Return one row per model and class (auc, rejections), or per model (mean and quantiles of distances)."""
    import pandas as pd

    return pd.DataFrame(list(_quoted(curves)))


def _quoted(curves: Mapping[str, Curves]) -> Iterator[dict[str, object]]:
    for model, found in curves.items():
        if isinstance(found, Distances):
            yield {"model": model, "mean": found.mean, **{f"q{100 * q:g}": value for q, value in found.quantiles.items()}}
            continue
        for roc in found:
            rejections = {f"rejection_{100 * e:g}": value for e, value in roc.rejection.items()}
            yield {"model": model, "class": roc.signal, "auc": roc.auc, **rejections}
