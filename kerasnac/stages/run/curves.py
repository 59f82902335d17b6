"""Curves of models on the test split as tables: ROC curves or histograms, what is quoted of them, confusion of classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kerasnac.core.data.curves import Curves, Distances

if TYPE_CHECKING:
    import pandas as pd

#: Names of the files in the run folder.
CURVES, SUMMARY, CONFUSION = "curves.csv", "curves_summary.csv", "confusion.csv"


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


def confusion_frame(confusion: Mapping[str, NDArray[np.int64]], names: Sequence[str]) -> pd.DataFrame:
    """Return one row per model, true class and predicted class: model, class, predicted, samples, fraction (of the class).

    Args:
        confusion: Samples by true (rows) and predicted class, by model.
        names: Of the classes; none for their numbers.
    """
    import pandas as pd

    rows: list[dict[str, object]] = []
    for model, counts in confusion.items():
        words = names or tuple(map(str, range(len(counts))))
        for true, own in zip(words, counts.tolist(), strict=True):
            whole = max(1, sum(own))
            rows += [
                {"model": model, "class": true, "predicted": word, "samples": count, "fraction": count / whole}
                for word, count in zip(words, own, strict=True)
            ]
    return pd.DataFrame(rows)


def _quoted(curves: Mapping[str, Curves]) -> Iterator[dict[str, object]]:
    for model, found in curves.items():
        if isinstance(found, Distances):
            yield {"model": model, "mean": found.mean, **{f"q{100 * q:g}": value for q, value in found.quantiles.items()}}
            continue
        for roc in found:
            rejections = {f"rejection_{100 * e:g}": value for e, value in roc.rejection.items()}
            yield {"model": model, "class": roc.signal, "auc": roc.auc, **rejections}
