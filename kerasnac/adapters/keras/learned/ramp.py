"""The training that walks from wide to narrow networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.keras.engine.layout import Layout
from kerasnac.adapters.keras.learned.forward import Result, compute, range_shapes, shapes_of
from kerasnac.adapters.keras.losses import task_losses
from kerasnac.adapters.keras.optimizers import make_optimizer
from kerasnac.adapters.keras.predict import PREDICT_BATCH, Scores
from kerasnac.adapters.keras.runtime import tensorflow, unknown_branch_arguments
from kerasnac.core.data.batches import batches
from kerasnac.core.data.dataset import Development
from kerasnac.core.network.architecture import Architecture, Node
from kerasnac.core.network.kinds import Shape
from kerasnac.core.network.learned import read_by_tables, with_formats
from kerasnac.core.network.weights import Weights
from kerasnac.core.settings import LearnedSettings
from kerasnac.errors import RunError

Tensor = Any  # TensorFlow has no type stubs

#: Arrays of a state, a checkpoint or a result.
Arrays = dict[str, NDArray[Any]]

#: Steps from which it pays to compile them with XLA.
WORTH = 1000

#: Part of a known range that stays at every step: a channel that has become narrow is seen to be so after an epoch or so.
MEMORY = 0.999


#: Ends of the keys of widths, and how many times as fast as weights they learn: steps of Adam have one size for all, and a
#: width is a number some ten times as large as a weight.
WIDTHS, WIDTHS_RATE = ("bits", "integer"), 4


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A network on the way.

    Attributes:
        cycle: Cycles trained.
        pressure: Factor of the effective bit operations at its end, relative to the one at the start.
        metric: Task metric on validation, without the saturation of numbers beyond those of the training samples.
        operations: Effective bit operations.
        values: What is learned, in one vector.
    """

    cycle: int
    pressure: float
    metric: float
    operations: float
    values: NDArray[np.float32]


class Ramp:
    """Training of one network with learned widths, cycle by cycle.

    Args:
        network: Of :func:`kerasnac.core.network.learned.with_places`.
        weights: Where its weights start, arrays keyed ``layer/part``.
        data: The development splits.
        settings: Lengths, rates and pressure.
        seed: Of the order of the samples.
    """

    def __init__(
        self, network: Architecture, weights: Weights, data: Development, settings: LearnedSettings, seed: int
    ) -> None:
        tf = tensorflow()
        self._network, self._data, self._settings, self._seed = network, data, settings, seed
        self._learned, self._ranges = Layout(shapes_of(network)), Layout(range_shapes(network))
        self._batch = min(settings.batch_size, len(data.train))
        self._x, self._y = tf.constant(data.train.x), tf.constant(data.task.targets(data.train.y))
        self._weight = None if data.train.weight is None else tf.constant(data.train.weight)
        self._losses = task_losses(data.task)
        self._values = tf.Variable(np.zeros(self._learned.size, np.float32))
        self._known = tf.Variable(np.zeros(self._ranges.size, np.float32))
        self._optimizer = make_optimizer("adam", 0.0, None)
        self._optimizer.build([self._values])
        self._rates = tf.constant(self._learned.join(_relative_rates(self._learned.shapes)))
        self._variables = [self._values, self._known, *self._optimizer.variables]
        steps = settings.epochs * (len(data.train) // self._batch)
        self._steps = tf.function(self._train, autograph=False, jit_compile=steps >= WORTH)
        self._look = tf.function(self._compute, autograph=False)
        self._values.assign(self._learned.join(self._start(weights)))
        self._unit = self._first_unit()

    @property
    def state(self) -> Arrays:
        """All that changes during the training, after a whole number of cycles."""
        return {f"variable_{i}": variable.numpy() for i, variable in enumerate(self._variables)}

    @state.setter
    def state(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        for i, variable in enumerate(self._variables):
            variable.assign(arrays[f"variable_{i}"])

    def cycle(self, number: int) -> Checkpoint:
        """Train the next cycle.

        Args:
            number: Cycles trained so far.

        Raises:
            RunError: If the outputs are not finite any more.
        """
        tf, settings = tensorflow(), self._settings
        count = len(self._data.train)
        first = number * settings.cycle
        whole = count // self._batch
        orders = [batches(count, self._batch, seed=self._seed, epoch=first + i)[:whole] for i in range(settings.cycle)]
        order = np.concatenate(orders)
        epochs = first + np.arange(len(order)) / len(order) * settings.cycle
        rates, pressures = settings.rates_at(epochs), settings.pressure_at(epochs)
        self._steps(tf.constant(order), tf.constant(rates, tf.float32), tf.constant(pressures * self._unit, tf.float32))
        outputs = np.concatenate([self._look(x).outputs.numpy() for x in _parts(self._data.validation.x)])
        outputs = outputs[: len(self._data.validation)]
        if not np.isfinite(outputs).all():
            raise RunError(
                f"the training diverged in epoch {first + settings.cycle}: outputs are not finite; "
                "give learned a smaller learning_rate, or less pressure"
            )
        scores = Scores.of(outputs, self._data.task, self._data.validation)
        operations = float(self._look(self._x[: self._batch]).operations)
        return Checkpoint(number + 1, float(pressures[-1]), scores.metric, operations, self._values.numpy())

    def network_of(self, checkpoint: Checkpoint) -> tuple[Architecture, Weights]:
        """Return the quantized network of a checkpoint, and its weights."""
        before = self.state
        self._values.assign(checkpoint.values)
        self._known.assign(tensorflow().zeros_like(self._known))
        for x in _parts(self._data.train.x):
            self._known.assign(self._ranges.join(self._look(x).ranges))
        ends = self._ranges.split(self._known.numpy())
        places = [node.name for node in self._network.nodes if node.layer.kind == "activation"]
        ranges = {name: (ends[f"{name}/low"], ends[f"{name}/high"]) for name in places}
        values = self._learned.split(checkpoint.values)
        values |= {key: table.numpy() for key, table in self._look(self._x[: self._batch]).tables.items()}
        self.state = before
        return with_formats(self._network, values, ranges, input_grid=self._data.input_grid)

    def _start(self, weights: Weights) -> Arrays:
        """Return what is learned at the start: widths that hold the largest weights and numbers in so many bits."""
        settings, values = self._settings, Arrays()
        for node in self._network.nodes:
            if node.layer.kind == "tables":
                values |= self._start_of_tables(node, np.asarray(weights[f"{node.name}/kernel"], np.float32))
                continue
            for part in node.weights:
                array = np.asarray(weights[f"{node.name}/{part}"], np.float32)
                reach = float(np.abs(weights[f"{node.name}/kernel"]).max())
                fractional = settings.weight_bits - 1 - np.floor(np.log2(reach if reach > 0 else 1.0))
                values |= {f"{node.name}/{part}": array, f"{node.name}/{part}_bits": np.full(array.shape, fractional)}
        ends = self._widest(values)
        for node in self._network.nodes:
            if node.layer.kind == "activation":
                reach = np.maximum(np.abs(ends[f"{node.name}/low"]), np.abs(ends[f"{node.name}/high"])).max()
                integer = np.floor(np.log2(reach if reach > 0 else 1.0)) + 1
                holds = read_by_tables(self._network, node)
                bits = settings.activation_bits - integer if holds is None else holds.fractional
                values[f"{node.name}/bits"] = np.full(node.output[-1:], bits)
                most = integer if holds is None else min(integer, holds.integer - holds.signed)
                values[f"{node.name}/integer"] = np.full(node.output[-1:], most)
        return values

    def _start_of_tables(self, node: Node, kernel: NDArray[np.float32]) -> Arrays:
        """Return what is learned of tables at the start: their entries are as wide as weights.

        Args:
            node: The layer.
            kernel: Its entries, shape (numbers, inputs, units).
        """
        reach = float(np.ptp(kernel, axis=0).max())
        fractional = self._settings.weight_bits - 1 - np.floor(np.log2(reach if reach > 0 else 1.0))
        bias = {"bias": kernel.mean(axis=0).sum(axis=0), "bias_bits": np.full(node.output, fractional)}
        parts = {"kernel": kernel, "kernel_bits": np.full(kernel.shape[1:], fractional), **bias}
        return {f"{node.name}/{part}": array for part, array in parts.items()}

    def _widest(self, values: Arrays) -> Arrays:
        """Return the ranges of all channels on some training samples, hardly rounded."""
        free = {key: np.full(shape, 20.0) for key, shape in self._learned.shapes.items() if key not in values}
        self._values.assign(self._learned.join({**values, **free}))
        found = self._look(self._x[: self._batch]).ranges
        return {key: np.asarray(value) for key, value in found.items()}

    def _first_unit(self) -> float:
        """Return the factor with which the bit operations at the start count as much as the loss of the task."""
        tf = tensorflow()
        found, indices = self._look(self._x[: self._batch]), tf.range(self._batch)
        loss = float(self._loss(found, indices))
        operations = float(found.operations)
        return loss / operations if operations > 0 else 0.0

    def _compute(self, x: Tensor) -> Result:
        values, known = self._learned.split_tensor(self._values), self._ranges.split_tensor(self._known)
        return compute(self._network, values, known, x)

    def _loss(self, found: Result, indices: Tensor) -> Tensor:
        tf = tensorflow()
        losses = self._losses(tf.gather(self._y, indices), found.outputs, 0.0)
        if self._weight is None:
            return tf.reduce_mean(losses)
        return tf.reduce_mean(losses * tf.gather(self._weight, indices))

    def _train(self, order: Tensor, rates: Tensor, units: Tensor) -> None:
        """Train for some steps.

        Args:
            order: Indices of the samples of every step, int32 of shape (steps, batch).
            rates: Learning rate of every step.
            units: Factor of the bit operations of every step.
        """
        tf = tensorflow()

        def body(i: Tensor) -> tuple[Tensor]:
            indices, vector = order[i], self._values.read_value()
            remembered = self._ranges.split_tensor(self._known * MEMORY)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(vector)
                found = compute(self._network, self._learned.split_tensor(vector), remembered, tf.gather(self._x, indices))
                loss = self._loss(found, indices) + units[i] * found.operations + self._settings.smoothness * found.roughness
            self._optimizer.learning_rate.assign(rates[i])
            gradient = tape.gradient(loss, vector)
            self._optimizer.apply_gradients([(gradient, self._values)], skip_gradients_aggregation=True)
            self._values.assign(vector + self._rates * (self._values.read_value() - vector))
            self._known.assign(self._ranges.join_tensors(found.ranges))
            return (i + 1,)

        with unknown_branch_arguments():
            tf.while_loop(lambda i: i < tf.shape(order)[0], body, (tf.constant(0),))


def _relative_rates(shapes: Mapping[str, Shape]) -> Arrays:
    """Return the learning rates of all that is learned, relative to that of weights."""
    return {key: np.full(shape, WIDTHS_RATE if key.endswith(WIDTHS) else 1, np.float32) for key, shape in shapes.items()}


def _parts(x: NDArray[np.float32]) -> list[Tensor]:
    """Return batches of one size; the last one is filled with samples that are there already."""
    size = min(PREDICT_BATCH, len(x))
    starts = range(0, len(x), size)
    return [tensorflow().constant(np.resize(x[i : i + size], (size, *x.shape[1:]))) for i in starts]
