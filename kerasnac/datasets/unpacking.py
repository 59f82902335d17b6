"""Samples, labels and weights in whatever they come: arrays, tuples, pandas, ``tf.data``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kerasnac.core.data.dataset import Array
from kerasnac.datasets.files import column
from kerasnac.errors import DataError

#: Names of the splits, in labels of samples.
SPLITS = ("train", "validation", "test")

#: Cardinality of a ``tf.data.Dataset`` that never ends.
_INFINITE = -1


@dataclass(frozen=True)
class Samples:
    """Arrays of samples, not checked yet.

    Attributes:
        x: Shape (samples, ...).
        y: Shape (samples,) or (samples, values).
        weight: Shape (samples,); None for none.
        split: Name of the split of every sample, shape (samples,); None if there are none.
    """

    x: Any
    y: Any
    weight: Any = None
    split: Any = None

    def joined(self, others: Mapping[str, Samples], name: str) -> Samples:
        """Return training samples with those of other splits after them, by the names of the splits.

        Raises:
            DataError: If their shapes differ, only some have weights, or there are split labels already.
        """
        if not others:
            return self
        every = {"train": self, **others}
        if any(one.split is not None for one in every.values()):
            raise DataError(f"{name}: the splits are in files or arrays of their own: leave out the labels of splits")
        x = {split: np.asarray(one.x) for split, one in every.items()}
        y = {split: np.asarray(one.y) for split, one in every.items()}
        for split in others:
            for what, parts in (("samples", x), ("labels", y)):
                if parts[split].shape[1:] != parts["train"].shape[1:]:
                    shapes = f"{parts[split].shape} in {split}, {parts['train'].shape} in train"
                    raise DataError(f"{name}: the {what} have other shapes: {shapes}")
        weights = [one.weight for one in every.values()]
        if any(w is None for w in weights) and any(w is not None for w in weights):
            raise DataError(f"{name}: some of the splits have weights, and others have none")
        return Samples(
            np.concatenate(list(x.values())),
            np.concatenate(list(y.values())),
            None if weights[0] is None else np.concatenate([np.asarray(w) for w in weights]),
            np.repeat(list(every), [len(part) for part in x.values()]),
        )


def unpacked(x: Any, y: Any = None, weight: Any = None, *, name: str) -> Samples:
    """Return the arrays of samples in any form.

    Args:
        x: Samples; or, without ``y``, a ``tf.data.Dataset`` or a tuple of samples, labels and perhaps weights. A pandas data
            frame of numbers counts as an array.
        y: Labels, an array or a pandas series or frame.
        weight: Weights of the samples.
        name: Of the dataset, for messages.

    Raises:
        DataError: If it is none of these, never ends, or has gaps.
    """
    if y is None and hasattr(x, "element_spec"):
        if weight is not None:
            raise DataError(f"{name}: weights are the third of what a tf.data.Dataset yields: give them there")
        return _of_tf(x, name)
    if y is None and isinstance(x, tuple) and len(x) in (2, 3):
        return unpacked(*x, name=name)
    if y is None:
        raise DataError(f"{name}: there are no labels: give y, a tuple (x, y) or (x, y, weight), or a tf.data.Dataset of such")
    return Samples(_plain(x, name), _plain(y, name), None if weight is None else _plain(weight, name))


def _plain(values: Any, name: str) -> Any:
    """Return the arrays of a pandas frame or series; anything else as it is."""
    if hasattr(values, "columns") and hasattr(values, "iloc"):
        text = len(values.columns) == 1
        return np.column_stack([_column(values[key], name, text=text) for key in values.columns])
    return _column(values, name, text=True) if hasattr(values, "iloc") else values


def _column(series: Any, name: str, *, text: bool) -> Array:
    series = series.astype(str) if str(series.dtype) == "category" and not series.isna().any() else series
    return column(series, name, text=text)


def _of_tf(dataset: Any, name: str) -> Samples:
    """Return the arrays of a ``tf.data.Dataset`` that yields samples with labels and perhaps weights, in batches or singly."""
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) not in (2, 3) or not all(hasattr(part, "shape") for part in spec):
        raise DataError(
            f"{name}: the tf.data.Dataset must yield (samples, labels) or (samples, labels, weights) of one array each"
        )
    if int(dataset.cardinality()) == _INFINITE:
        raise DataError(f"{name}: the tf.data.Dataset never ends: leave out repeat(), or put take() after it")
    together = np.concatenate if _batched(spec, name) else np.stack
    elements = list(dataset.as_numpy_iterator())
    if not elements:
        raise DataError(f"{name}: the tf.data.Dataset is empty")
    try:
        return Samples(*(together(parts) for parts in zip(*elements, strict=True)))
    except ValueError as error:
        raise DataError(f"{name}: the elements of the tf.data.Dataset have different shapes ({error})") from None


def _batched(spec: tuple[Any, ...], name: str) -> bool:
    """Return True if the elements are batches: their first axes then have one length, which may be unknown."""
    shapes = [part.shape for part in spec]
    if any(shape.rank is None for shape in shapes):
        raise DataError(f"{name}: the shapes that the tf.data.Dataset yields are unknown: set them with ensure_shape")
    if any(shape.rank == 0 for shape in shapes):
        return False
    first = [shape[0] for shape in shapes]
    if None in first:
        return True
    if len(set(first)) == 1 and shapes[0].rank == 1:
        raise DataError(f"{name}: batches, or single samples of {first[0]} values? Call batch() on the tf.data.Dataset")
    return len(set(first)) == 1


def split_of(
    labels: Any, fractions: tuple[float, float, float], seed: int, name: str
) -> Callable[[int], tuple[Array, Array, Array]]:
    """Return the split that labels of the samples say; one without any sample is drawn from the training samples.

    Args:
        labels: ``train``, ``validation`` or ``test`` for every sample, shape (samples,).
        fractions: Train, validation and test fractions, for what is drawn.
        seed: Of what is drawn.
        name: Of the dataset, for messages.

    Raises:
        DataError: If a label is another one, or there is not one per sample.
    """
    values: Array = np.asarray(labels)
    values = np.char.decode(values, "utf-8", "replace") if values.dtype.kind == "S" else values
    known = np.isin(values.astype(str), SPLITS)
    if not known.all():
        place = int(np.argmax(~known))
        raise DataError(
            f"{name}: sample {place} belongs to the split {str(values.flat[place])!r}: there are {', '.join(SPLITS)}"
        )
    parts = {name: np.flatnonzero(values.astype(str) == name) for name in SPLITS}
    order = np.random.default_rng(seed).permutation(parts["train"])
    drawn = {one: f for one, f in zip(SPLITS[1:], fractions[1:], strict=True) if not len(parts[one])}
    for one, fraction in drawn.items():
        count = round(len(parts["train"]) * fraction / (fractions[0] + sum(drawn.values())))
        parts[one], order = order[:count], order[count:]
    parts["train"] = np.sort(order)

    def split(count: int) -> tuple[Array, Array, Array]:
        if values.shape != (count,):
            raise DataError(f"{name}: there are labels of splits of shape {values.shape} for {count} samples")
        return parts["train"], parts["validation"], parts["test"]

    return split
