"""Samples with train, validation and test held apart, on a declared fixed-point grid."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.core.data.metrics import Array as Array
from kerasnac.core.data.metrics import Sense as Sense
from kerasnac.core.data.task import Task as Task
from kerasnac.core.display import html_facts
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.training import Training
from kerasnac.core.store.keys import content_key, decisive
from kerasnac.errors import ConfigError, DataError


@dataclass(frozen=True)
class Split:
    """Samples and labels of one split.

    Attributes:
        x: float32, shape (samples, *input_shape), every value on the input grid.
        y: int64 (samples,) or float32 (samples, outputs).
        weight: Factors of the losses of the samples, float32 (samples,); None for ones. Metrics know no weights.
    """

    x: Array
    y: Array
    weight: Array | None = None

    def __repr__(self) -> str:
        return f"Split({len(self)} samples of shape {self.x.shape[1:]}{', weighted' if self.weight is not None else ''})"

    def __len__(self) -> int:
        return len(self.x)

    def take(self, chosen: Array | slice) -> Split:
        """Return some of the samples.

        Args:
            chosen: Indices, or a slice.
        """
        return Split(self.x[chosen], self.y[chosen], None if self.weight is None else self.weight[chosen])

    def hash_into(self, digest: Any) -> None:
        """Add all arrays to a hash of :mod:`hashlib`."""
        for array in (self.x, self.y):
            digest.update(np.ascontiguousarray(array).data)
        if self.weight is not None:
            digest.update(b"weight")
            digest.update(np.ascontiguousarray(self.weight).data)

    def joined(self, other: Split) -> Split:
        """Return the samples of both."""
        weight = None
        if self.weight is not None or other.weight is not None:
            parts = (np.ones(len(s), np.float32) if s.weight is None else s.weight for s in (self, other))
            weight = np.concatenate([*parts])
        return Split(np.concatenate([self.x, other.x]), np.concatenate([self.y, other.y]), weight)


@dataclass(frozen=True)
class Development:
    """Samples that search, tuning and compression may see: no test data.

    Attributes:
        name: Name of the dataset, for messages and tables.
        task: Kind of prediction.
        input_grid: Number format of the firmware's input; all samples are on it.
        train: Training split.
        validation: Validation split.
        saturated: Fraction of input values that were clipped to the grid's range.
    """

    name: str
    task: Task
    input_grid: Precision
    train: Split
    validation: Split
    saturated: float = 0.0

    def __repr__(self) -> str:
        task = f"{self.task.kind} with {self.task.outputs} outputs"
        return f"Development({self.name}: {task}, input {self.input_grid}, train {self.train}, validation {self.validation})"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.train.x.shape[1:])

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all arrays, so that a run is never resumed on other data."""
        task = decisive(self.task, ("kind", "outputs", "scale", "unit", "names")) | self.task.identity
        digest = hashlib.sha256(content_key("data", task=task, input_grid=str(self.input_grid)).encode())
        for split in (self.train, self.validation):
            split.hash_into(digest)
        return digest.hexdigest()[:16]

    def check(self, training: Training) -> None:
        """Check that a network can be trained so on these samples.

        Raises:
            ConfigError: If labels that are no classes are to be smoothed, or less than a sample is used.
            MetricError: If a metric's function does not work on the validation split.
        """
        self.task.check(training)
        self.task.try_metrics(self.validation.y)
        if training.data_fraction * len(self.train) < 1:
            raise ConfigError(
                f"training: data_fraction {training.data_fraction:g} of {len(self.train)} samples is less than one: use more"
            )

    def check_folds(self, count: int) -> None:
        """Check that there are enough samples for a cross-validation.

        Raises:
            DataError: If a class has fewer samples than there are folds, or some of the samples must not be trained on.
        """
        if self.task.made_of.trained is not None:
            raise DataError(f"{self.name}: folds would train on the signals of the validation split: leave them out")
        y = np.concatenate([self.train.y, self.validation.y])
        fewest = int(np.bincount(y)[np.unique(y)].min()) if self.task.classes else len(y)
        if fewest < count:
            raise DataError(
                f"{self.name}: {count} folds need as many samples of every class, one has {fewest}: use fewer folds"
            )

    def folds(self, count: int) -> Iterator[Development]:
        """Return the folds of a cross-validation over the training and validation samples, the same for every caller.

        Stratified by class. The input grid and a standardisation stay those of the training split.

        Args:
            count: Number of folds, at least 2.

        Yields:
            The data with each fold in turn for validation, and the others for training.

        Raises:
            DataError: If a class has fewer samples than there are folds.
        """
        from sklearn.model_selection import KFold, StratifiedKFold

        self.check_folds(count)
        every = self.train.joined(self.validation)
        splitter = (StratifiedKFold if self.task.classes else KFold)(count, shuffle=True, random_state=0)
        for train, validation in splitter.split(every.x, every.y):
            yield replace(self, train=every.take(train), validation=every.take(validation))


@dataclass(frozen=True)
class Dataset:
    """Development splits, and a test split behind one explicit call.

    Build one with the functions of :mod:`kerasnac.datasets`.

    Attributes:
        development: Training and validation.
        taken_for: Layout that the files were taken for, with their name, in one line; empty where there was nothing to tell.
    """

    development: Development
    _test: Split = field(repr=False)
    taken_for: str = ""

    def __repr__(self) -> str:
        return f"Dataset({self.describe()})"

    def _repr_html_(self) -> str:
        dev, task = self.development, self.task
        facts: dict[str, object] = {
            "task": f"{task.kind} with {task.outputs} outputs, {', '.join(task.names)}".removesuffix(", "),
            "metrics": ", ".join(task.senses),
            "shape of a sample": dev.input_shape,
            "train, validation, test": f"{len(dev.train):,}, {len(dev.validation):,}, {len(self._test):,} samples",
            "input grid": f"{dev.input_grid}, {dev.saturated:.2%} of the values saturate",
        }
        return html_facts(dev.name, {**facts, **({"files": self.taken_for} if self.taken_for else {})})

    @property
    def name(self) -> str:
        """Name of the dataset."""
        return self.development.name

    @property
    def task(self) -> Task:
        """Kind of prediction."""
        return self.development.task

    @property
    def input_grid(self) -> Precision:
        """Number format of the firmware's input."""
        return self.development.input_grid

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.development.input_shape

    def open_test(self) -> Split:
        """Return the held-out test split. Call it once, when every choice has been made."""
        return self._test

    def with_(self, *, class_weights: Any = None, **changes: Any) -> Dataset:
        """Return the same samples with other metrics, another loss or weights: ``data.with_(metric="auc")``.

        Args:
            class_weights: Factors of the losses of the samples of each class: a number for every class, by name or index (one
                that is left out has 1) or as a list; or ``balanced``, which weighs all classes alike in the training split.
                Weights of samples are multiplied by them.
            **changes: ``metric``, ``metrics`` or ``loss`` of the :class:`kerasnac.core.data.task.Task`.

        Raises:
            ConfigError: If there is no such metric or loss, or the weights are not for the classes.
        """
        task = replace(self.task, **changes)
        parts = self.development.train, self.development.validation, self._test
        if class_weights is not None:
            factors = _class_factors(class_weights, task, self.development.train.y)
            parts = tuple(  # type: ignore[assignment]
                replace(p, weight=factors[p.y] if p.weight is None else p.weight * factors[p.y]) for p in parts
            )
        train, validation, test = parts
        return replace(self, development=replace(self.development, task=task, train=train, validation=validation), _test=test)

    @property
    def sizes(self) -> dict[str, Any]:
        """Name, shape and grid of the samples, how many there are, and which part saturates, JSON-ready."""
        dev = self.development
        counts = {"train": len(dev.train), "validation": len(dev.validation), "test": len(self._test)}
        grid = {"shape": list(dev.input_shape), "input_grid": str(dev.input_grid), "saturated": dev.saturated}
        return {"name": dev.name, **counts, **grid}

    def describe(self) -> str:
        """Describe sizes, shapes, grid and, of files, their layout in one line."""
        dev = self.development
        sizes = (
            f"{dev.name}: {len(dev.train)} train, {len(dev.validation)} validation, {len(self._test)} test samples of "
            f"shape {dev.input_shape}, {dev.task.kind} with {dev.task.outputs} outputs, input {dev.input_grid} "
            f"({dev.saturated:.2%} of the values saturate)"
        )
        return f"{sizes}; {self.taken_for}" if self.taken_for else sizes


def _class_factors(given: Any, task: Task, labels: Array) -> NDArray[np.float32]:
    """Return the factor of every class; arguments and errors are those of :meth:`Dataset.with_`."""
    if not task.classes:
        raise ConfigError(f"class_weights: {task.kind} has no classes; give every sample a weight of its own")
    count = task.outputs
    if given == "balanced":
        return (len(labels) / count / np.bincount(labels, minlength=count)).astype(np.float32)
    names = {**{str(i): i for i in range(count)}, **{name: i for i, name in enumerate(task.names)}}
    if isinstance(given, list | tuple) and len(given) == count:
        given = dict(enumerate(given))
    if not isinstance(given, Mapping):
        raise ConfigError(f"class_weights: write balanced, {count} numbers, or numbers by class; not {given!r:.60}")
    factors = np.ones(count, np.float32)
    for name, value in given.items():
        if str(name) not in names:
            raise ConfigError(f"class_weights: there is no class {name!r}: one of {', '.join(task.names or names)}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < np.inf:
            raise ConfigError(f"class_weights: the weight of {name} must be a number from 0 on, not {value!r}")
        factors[names[str(name)]] = value
    if not factors.any():
        raise ConfigError("class_weights: all are zero: nothing would be trained")
    return factors


def make_dataset(
    x: Array,
    y: Array,
    *,
    weight: Array | None = None,
    name: str,
    task: Task,
    seed: int,
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
    standardize: bool = False,
    input_bits: int = 12,
    input_grid: Precision | None = None,
    max_saturation: float = 1e-3,
    split: Callable[[int], tuple[Array, Array, Array]] | None = None,
) -> Dataset:
    """Check samples and labels, split them and put them on the input's fixed-point grid.

    Standardisation and the grid are fitted on the *training* split alone.

    Args:
        x: Samples, shape (samples, ...), any float or integer dtype.
        y: Labels: (samples,) integers for classification, (samples, outputs) floats for regression.
        weight: Factors of the losses of the samples, shape (samples,); ones by default.
        name: For messages and tables.
        task: Kind of prediction.
        seed: Seed of the split.
        fractions: Train, validation and test fractions; must add up to 1.
        standardize: Subtract the mean and divide by the standard deviation of every feature (last axis).
        input_bits: Width of the input grid when ``input_grid`` is not given; the integer bits are then the
            fewest that let at most ``max_saturation`` of the training values saturate.
        input_grid: The firmware's input format, if it is given by the detector.
        max_saturation: See ``input_bits``; with an explicit grid, more saturation than this is an error.
        split: Own split: maps the number of samples to three index arrays.

    Raises:
        DataError: Naming the problem and its place: shapes, NaN or infinity, labels out of range, a class missing
            from a split, an empty split, inputs that do not fit the grid.
    """
    x, y = _checked(np.asarray(x), np.asarray(y), name, task)
    weight = None if weight is None else _checked_weight(np.asarray(weight), len(x), name)
    parts = _random_split(len(x), fractions, seed, name) if split is None else split(len(x))
    trained = task.made_of.trained
    if trained is not None:
        parts = _without_signal(parts, trained(y), name)
    if min(len(p) for p in parts) == 0:
        raise DataError(f"{name}: {len(x)} samples leave an empty split ({[len(p) for p in parts]}): give more samples")
    train = x[parts[0]].astype(np.float64)
    if standardize:
        x = _standardized(x, train, name)
        train = x[parts[0]].astype(np.float64)
    grid = input_grid or _grid_for(train, input_bits, max_saturation)
    if grid.fixed != grid:
        raise DataError(f"{name}: samples cannot be {grid}, which is for weights and activations: give input_grid {grid.fixed}")
    saturated = float(1.0 - np.mean(grid.contains(train)))
    if saturated > max_saturation and input_grid is not None:
        raise DataError(
            f"{name}: {saturated:.2%} of the training inputs lie outside the input grid {grid} "
            f"(range {grid.minimum:g} to {grid.maximum:g}): scale the inputs, widen the grid, or raise max_saturation"
        )
    on_grid = grid.quantize(x).astype(np.float32)
    if trained is not None:  # What is not trained on has no part in the loss on validation either.
        weight = trained(y).astype(np.float32) * (1.0 if weight is None else weight)
    stored = task.made_of.stored(on_grid, y)
    splits = [Split(on_grid[p], stored[p], None if weight is None else weight[p]) for p in parts]
    if task.classes:
        for label, part in zip(("train", "validation", "test"), splits, strict=True):
            missing = sorted(set(range(task.outputs)) - set(np.unique(part.y).tolist()))
            if missing:
                raise DataError(f"{name}: the {label} split has no sample of class {missing[0]}: give more samples of it")
    return Dataset(Development(name, task, grid, splits[0], splits[1], saturated), splits[2])


def _checked(x: Array, y: Array, name: str, task: Task) -> tuple[Array, Array]:
    if x.ndim < 2 or x.size == 0:
        raise DataError(f"{name}: samples have shape {x.shape}; expected (samples, ...) with at least one sample and feature")
    if y.ndim == 0 or len(x) != len(y):
        raise DataError(f"{name}: {len(x)} samples but labels of shape {y.shape}")
    for what, array in (("sample", x), ("label", y)):
        if not np.issubdtype(array.dtype, np.number):
            raise DataError(f"{name}: {what}s have dtype {array.dtype}; expected numbers")
        with np.errstate(over="ignore"):  # beyond float32 is infinite too
            bad = ~np.isfinite(array.reshape(len(array), -1).astype(np.float32)).all(axis=1)
        if bad.any():
            raise DataError(
                f"{name}: {what} {int(np.argmax(bad))} is NaN or infinite ({int(bad.sum())} of {len(array)}): drop or mend them"
            )
    return x.astype(np.float32), task.made_of.labels(x, y, task.outputs, name)


def _standardized(x: Array, train: Array, name: str) -> Array:
    axes = tuple(range(train.ndim - 1))
    mean, deviation = train.mean(axes), train.std(axes)
    constant = np.flatnonzero(deviation == 0)
    if constant.size:
        raise DataError(f"{name}: feature {constant[0]} is constant in the training split: drop it (it cannot be standardised)")
    return np.asarray((x.astype(np.float64) - mean) / deviation, np.float32)


def _without_signal(parts: tuple[Array, Array, Array], background: Array, name: str) -> tuple[Array, Array, Array]:
    """Return the parts with background alone in the first; there must be signal and background in each."""
    for label, part in zip(("train", "validation", "test"), parts, strict=True):
        if len(part) and not background[part].any():
            raise DataError(f"{name}: the {label} split has no background: give more samples of it")
        if label != "train" and len(part) and background[part].all():
            raise DataError(f"{name}: the {label} split has no signal to tell from background: give samples of it")
    return parts[0][background[parts[0]]], parts[1], parts[2]


def _checked_weight(weight: Array, samples: int, name: str) -> Array:
    if weight.shape == (samples, 1):
        weight = weight[:, 0]
    if weight.shape != (samples,) or weight.dtype.kind not in "biuf":
        raise DataError(f"{name}: weights have shape {weight.shape} and dtype {weight.dtype}; expected ({samples},) numbers")
    bad = ~np.isfinite(weight) | (weight < 0)
    if bad.any() or not weight.any():
        what = f"weight {int(np.argmax(bad))} is {weight[np.argmax(bad)]}" if bad.any() else "all weights are zero"
        raise DataError(f"{name}: {what}: weights are finite and not negative, and some are more than zero")
    return weight.astype(np.float32)


def _random_split(samples: int, fractions: tuple[float, float, float], seed: int, name: str) -> tuple[Array, Array, Array]:
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-9:
        raise DataError(f"{name}: split fractions {fractions} must be three positive numbers that add up to 1")
    order = np.random.default_rng(seed).permutation(samples)
    first = round(samples * fractions[0])
    second = first + round(samples * fractions[1])
    return order[:first], order[first:second], order[second:]


def _grid_for(train: Array, bits: int, max_saturation: float) -> Precision:
    # Actual samples, not values between them: else more than max_saturation of a small split could saturate.
    low = np.quantile(train, max_saturation / 2, method="lower")
    high = np.quantile(train, 1 - max_saturation / 2, method="higher")
    return Precision.covering(float(low), float(high), bits)
