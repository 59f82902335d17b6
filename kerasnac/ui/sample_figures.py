"""Some samples of a dataset as a figure: images, traces, or the distribution of every feature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kerasnac.core.data.dataset import Dataset

#: Samples or features that are drawn, and samples that distributions are made of.
MOST, ENOUGH = 12, 5000

#: Positions from which on a sequence is a trace in time, and not a set of particles.
TRACE = 40


def samples(data: Dataset) -> Figure:
    """Draw samples of the training split, on the grid of the input.

    Images are shown with their label, traces as the mean of every class, other samples as the distribution of every feature,
    by class if there are few.
    """
    train = data.development.train
    x, y = train.x[:ENOUGH], train.y[:ENOUGH]
    if x.ndim == 4:
        return _images(data, x[:MOST], y[:MOST])
    groups = _groups(data, y)
    if x.ndim == 3 and x.shape[1] >= TRACE:
        return _traces(x, groups)
    names = [f"feature {number}" for number in range(x.shape[-1])]
    return _distributions(x.reshape(-1, x.shape[-1]), np.repeat(groups[1], x[0].size // x.shape[-1]), groups[0], names)


def _groups(data: Dataset, y: NDArray[Any]) -> tuple[list[str], NDArray[np.int_]]:
    """Return the names of the classes, and the class of every sample; one for all where there are none, or too many."""
    task = data.task
    if not task.classes or task.outputs > 6 or y.ndim != 1:
        return ["all"], np.zeros(len(y), int)
    return list(task.names or map(str, range(task.outputs))), y.astype(int)


def _plane(count: int, width: float, height: float) -> tuple[Figure, Sequence[Axes]]:
    columns = min(6, count)
    lines = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * lines + 0.3), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for rest in axes[count:]:
        rest.set_axis_off()
    return figure, list(axes[:count])


def _images(data: Dataset, x: NDArray[Any], y: NDArray[Any]) -> Figure:
    figure, axes = _plane(len(x), 1.5, 1.7)
    names = data.task.names
    for place, image, label in zip(axes, x, y, strict=True):
        place.imshow(image if image.shape[-1] == 3 else image.mean(axis=-1), cmap="viridis")
        if label.ndim == 0:
            text = names[int(label)] if data.task.classes and names else f"{label:.4g}"
        else:
            text = ", ".join(f"{value * data.task.scale:.3g}" for value in label[:3])
        place.set_title(text, fontsize=8)
        place.set(xticks=[], yticks=[])
    return figure


def _traces(x: NDArray[Any], groups: tuple[list[str], NDArray[np.int_]]) -> Figure:
    figure, axes = _plane(x.shape[-1], 4.2, 2.6)
    for channel, place in enumerate(axes):
        for number, name in enumerate(groups[0]):
            if (own := x[groups[1] == number, :, channel]).size:
                place.plot(own.mean(axis=0), lw=1, label=name)
        place.set(title=f"channel {channel}, mean", xlabel="position")
    if len(groups[0]) > 1:
        axes[0].legend(fontsize=7, frameon=False)
    return figure


def _distributions(x: NDArray[Any], groups: NDArray[np.int_], classes: list[str], names: list[str]) -> Figure:
    figure, axes = _plane(min(MOST, x.shape[-1]), 2.0, 1.5)
    for place, values, name in zip(axes, x.T, names, strict=False):
        edges = np.linspace(values.min(), max(values.max(), values.min() + 1e-6), 41)
        for number, word in enumerate(classes):
            if (own := values[groups == number]).size:
                place.hist(own, edges.tolist(), histtype="step", density=True, lw=1, label=word)
        place.set_title(name, fontsize=8)
        place.tick_params(labelsize=6)
        place.set_yticks([])
    if len(classes) > 1:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(classes), fontsize=7)
    return figure
