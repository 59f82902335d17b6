"""The compiled training of a mold."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.keras.engine.forward import Step, dropout_factors, outputs
from kerasnac.adapters.keras.engine.layout import Layout
from kerasnac.adapters.keras.engine.padding import Fitted, places
from kerasnac.adapters.keras.member import Fit, Member
from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.adapters.keras.train import PREDICT_BATCH, learning_rates, make_optimizer, score_outputs
from kerasnac.core.data.batches import batches
from kerasnac.core.data.dataset import Development
from kerasnac.core.network.mold import Mold
from kerasnac.core.network.training import Training
from kerasnac.core.network.weights import initial_weights

Tensor = Any  # TensorFlow has no type stubs

#: Samples and steps are padded to multiples, so that folds and fractions of the data need no other function.
ROWS, STEPS = 4096, 64


@dataclass(frozen=True)
class Kind:
    """Trainings that one compiled function serves.

    Attributes:
        mold: Form of the networks.
        batch_size: Samples per step.
        optimizer: Name of the optimiser.
        pruned: True for trainings with pruning.
        classes: Number of classes; 0 for a regression.
        table_bits: Width of the input of the widest table of an activation; 0 for none.
    """

    mold: Mold
    batch_size: int
    optimizer: str
    pruned: bool
    classes: int
    table_bits: int


class CompiledTraining:
    """Training of networks of one kind.

    Args:
        kind: Of the networks.
    """

    def __init__(self, kind: Kind) -> None:
        tf = tensorflow()
        self._kind, self._places = kind, places(kind.mold)
        arrays = {f"{i}/{part}": w for i, place in enumerate(self._places) for part, w in place.weights.items()}
        self._trained = Layout({key: w.shape for key, w in arrays.items() if w.trainable})
        self._moving = Layout({key: w.shape for key, w in arrays.items() if not w.trainable})
        self._kernels = [key for key in self._trained.shapes if key.endswith("/kernel")]
        zeros = {key: np.zeros(shape) for key, shape in self._trained.shapes.items()}
        self._is_kernel = self._trained.join({key: array + (key in self._kernels) for key, array in zeros.items()})
        self._weights = tf.Variable(self._trained.join(zeros))
        self._statistics = tf.Variable(np.zeros(self._moving.size, np.float32))
        self._mask = tf.Variable(tf.ones_like(self._weights) if kind.pruned else tf.ones(0))
        self._decay = tf.Variable(0.0)
        self._optimizer = make_optimizer(kind.optimizer, 0.0, self._decay)
        self._optimizer.build([self._weights])
        product = getattr(self._optimizer, "_u_product", None)  # Of Nadam, which does not list it.
        states = [*self._optimizer.variables, *([] if product is None else [product])]
        self._fresh = [(variable, variable.numpy()) for variable in states]
        self._epoch = tf.function(self._train_epoch, autograph=False, jit_compile=True)
        # To compile this with XLA takes thirty times as long as to trace it, and saves nothing.
        self._predict = tf.function(self._outputs, autograph=False)

    def train(self, member: Member, data: Development) -> Fit:
        """Train a network and score it.

        Args:
            member: The network.
            data: The development splits.
        """
        tf = tensorflow()
        began, training = time.perf_counter(), member.training
        fitted = Fitted(self._kind.mold, member.architecture)
        limits = self._load(fitted, member)
        choices, owned = self._choices(fitted), tf.constant(self._trained.join(fitted.owned()))
        count = training.samples(len(data.train))
        steps = -(-count // training.batch_size)
        rates = learning_rates(training, steps * training.epochs)
        pruning = self._pruning(fitted, member, steps * training.epochs)
        x, y = _resident(_Identity(data))
        numbers = {
            "dropout": tf.constant(training.dropout, tf.float32),
            "l1": tf.constant(training.l1, tf.float32),
            "smoothing": tf.constant(training.label_smoothing, tf.float32),
        }
        stopping = EarlyStopping(training.patience)
        for epoch in range(training.epochs):
            now = slice(epoch * steps, (epoch + 1) * steps)
            order = batches(count, training.batch_size, seed=member.seed, epoch=epoch)
            seeds = tf.constant([member.seed % 2**31, epoch], tf.int32)
            turns = [(_padded(turn[now]), _padded(kept[now])) for turn, kept in pruning]
            self._epoch(x, y, tf.constant(steps), _padded(order), _padded(rates[now]), seeds, choices, numbers, limits, owned, turns)
            if epoch + 1 == member.snapshot_epoch:
                snapshot = fitted.unpad(self._values())
            if training.patience is not None and stopping.stops(self.score(choices, data)[1], self._state):
                break
        if stopping.best is not None:
            for variable, value in zip((self._weights, self._statistics), stopping.best, strict=True):
                variable.assign(value)
        metric, loss = self.score(choices, data)
        return Fit(
            fitted.unpad(self._values()),
            metric,
            loss,
            epoch + 1,
            time.perf_counter() - began,
            snapshot=snapshot if member.snapshot_epoch else {},
        )

    def score(self, choices: Any, data: Development) -> tuple[float, float]:
        """Return the task metric and the loss on validation of the network that is loaded."""
        tf, x = tensorflow(), data.validation.x
        padded = np.zeros((-(-len(x) // PREDICT_BATCH) * PREDICT_BATCH, *x.shape[1:]), np.float32)
        padded[: len(x)] = x
        parts = [self._predict(tf.constant(part), choices).numpy() for part in np.split(padded, len(padded) // PREDICT_BATCH)]
        return score_outputs(np.concatenate(parts)[: len(x)], data.task, data.validation)

    def _choices(self, fitted: Fitted) -> list[dict[str, Tensor]]:
        tf = tensorflow()
        return [{name: tf.constant(v) for name, v in place.items()} for place in fitted.choices(self._kind.table_bits)]

    def _state(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self._weights.numpy(), self._statistics.numpy()

    def _values(self) -> dict[str, NDArray[np.float32]]:
        weights, statistics = self._state()
        return {**self._trained.split(weights), **self._moving.split(statistics)}

    def _load(self, fitted: Fitted, member: Member) -> Tensor:
        """Lay the weights of a network into the variables, and forget all about the one before; return limits of weights."""
        start = initial_weights(member.architecture, member.seed) if member.start is None else member.start
        padded = fitted.pad(start)
        weights = self._trained.join(padded)
        if member.pruning is not None:
            masks = {f"{name}/kernel": mask for name, mask in member.pruning.masks.items()}
            mask = self._trained.join(fitted.pad(masks, around=1.0))
            self._mask.assign(mask)
            weights = weights * mask
        self._weights.assign(weights)
        self._statistics.assign(self._moving.join(padded))
        for variable, value in self._fresh:
            variable.assign(value)
        self._decay.assign(member.training.weight_decay)
        return tensorflow().constant(self._trained.join(fitted.limits()))

    def _pruning(self, fitted: Fitted, member: Member, steps: int) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """Return by kernel: at which steps its mask is made anew, and how many weights it keeps then."""
        tf = tensorflow()
        if member.pruning is None:
            return []
        sizes = fitted.sizes()
        found = []
        for key in self._kernels:
            name, size = sizes.get(key, ("", 0))
            turns, kept = np.zeros(steps, bool), np.ones(steps, np.int32)
            if name in member.pruning.schedules:
                # TFMOT counts its steps from one.
                turns, sparsity = member.pruning.schedules[name](tf.range(1, steps + 1))
                kept = tf.cast(tf.maximum(tf.round(tf.cast(size, tf.float32) * (1 - sparsity)), 1), tf.int32)
            found.append((np.broadcast_to(turns, steps), np.broadcast_to(kept, steps)))
        return found

    def _outputs(self, x: Tensor, choices: Any) -> Tensor:
        weights = {**self._trained.split_tensor(self._weights), **self._moving.split_tensor(self._statistics)}
        return outputs(self._places, weights, choices, x, quantized=self._kind.mold.quantized)

    def _train_epoch(
        self,
        x: Tensor,
        y: Tensor,
        steps: Tensor,
        order: Tensor,
        rates: Tensor,
        seed: Tensor,
        choices: Any,
        numbers: Any,
        limits: Tensor,
        owned: Tensor,
        pruning: Any,
    ) -> None:
        tf = tensorflow()

        def body(i: Tensor) -> tuple[Tensor]:
            if pruning:
                self._prune([(turns[i], kept[i]) for turns, kept in pruning])
            self._step(x, y, order[i], rates[i], seed + tf.stack([i * 131071, 0]), choices, numbers, limits, owned)
            return (i + 1,)

        tf.while_loop(lambda i: i < steps, body, (tf.constant(0),))
        if pruning:
            self._weights.assign(self._weights * self._mask)

    def _prune(self, pruning: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Keep the largest weights of the kernels whose turn it is, as TFMOT does."""
        tf = tensorflow()
        weights, masks = self._trained.split_tensor(self._weights), self._trained.split_tensor(self._mask)

        def new() -> Tensor:
            found = dict(masks)
            for key, (turn, kept) in zip(self._kernels, pruning, strict=True):
                magnitudes = tf.abs(weights[key])
                ranked = tf.sort(tf.reshape(magnitudes, [-1]), direction="DESCENDING")
                found[key] = tf.where(turn, tf.cast(magnitudes >= ranked[kept - 1], tf.float32), masks[key])
            return self._trained.join_tensors(found)

        any_turn = tf.reduce_any(tf.stack([turn for turn, _ in pruning]))
        self._mask.assign(tf.cond(any_turn, new, self._mask.read_value))
        self._weights.assign(self._weights * self._mask)

    def _step(
        self,
        x: Tensor,
        y: Tensor,
        indices: Tensor,
        rate: Tensor,
        seed: Tensor,
        choices: Any,
        numbers: Any,
        limits: Tensor,
        owned: Tensor,
    ) -> None:
        tf = tensorflow()
        present = tf.cast(indices >= 0, tf.float32)
        chosen = tf.maximum(indices, 0)
        vector = self._weights.read_value()
        weights, moving = self._trained.split_tensor(vector), self._moving.split_tensor(self._statistics)
        step = Step(present, dropout_factors(self._places, indices.shape[0], numbers["dropout"], seed))
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            found = outputs(
                self._places, {**weights, **moving}, choices, tf.gather(x, chosen), quantized=self._kind.mold.quantized, step=step
            )
            losses = self._losses(tf.gather(y, chosen), found, numbers["smoothing"])
            loss = tf.reduce_sum(losses * present) / tf.reduce_sum(present)
        gradient = self._trained.join_tensors(tape.gradient(loss, weights, unconnected_gradients="zero"))
        gradient = (gradient + numbers["l1"] * tf.sign(vector) * self._is_kernel) * owned
        self._optimizer.learning_rate.assign(rate)
        self._optimizer.apply_gradients([(gradient, self._weights)], skip_gradients_aggregation=True)
        if self._moving.size:
            self._statistics.assign(self._moving.join_tensors(step.statistics))
        if self._kind.mold.quantized:
            self._weights.assign(tf.clip_by_value(self._weights, -limits, limits))

    def _losses(self, y: Tensor, found: Tensor, smoothing: Tensor) -> Tensor:
        tf, classes = tensorflow(), self._kind.classes
        if not classes:
            return tf.reduce_mean(tf.square(found - y), -1)
        hot = tf.one_hot(tf.cast(y, tf.int32), classes) * (1 - smoothing) + smoothing / classes
        return -tf.reduce_sum(hot * tf.nn.log_softmax(found), -1)


class EarlyStopping:
    """Decides when a training has stopped to improve, as the callback of Keras does.

    Args:
        patience: Epochs without a better loss after which to stop; None never stops.

    Attributes:
        best: State of the best epoch so far.
    """

    def __init__(self, patience: int | None) -> None:
        self._patience, self._loss, self._waited = patience, np.inf, 0
        self.best: Any = None

    def stops(self, loss: float, state: Any) -> bool:
        """Take the loss of an epoch; return True if it was the last one.

        Args:
            loss: On validation.
            state: Returns what is to be kept of the epoch if it is the best one.
        """
        if loss < self._loss:
            self.best, self._loss, self._waited = state(), loss, 0
        else:
            self._waited += 1
        return self._patience is not None and self._waited >= self._patience


def _padded(array: NDArray[Any]) -> Tensor:
    missing = -len(array) % STEPS
    return tensorflow().constant(np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1)))


class _Identity:
    """Data with the identity of their fingerprint."""

    def __init__(self, data: Development) -> None:
        self.data = data

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self.data.fingerprint == other.data.fingerprint

    def __hash__(self) -> int:
        return hash(self.data.fingerprint)


@lru_cache(maxsize=2)
def _resident(identity: _Identity) -> tuple[Tensor, Tensor]:
    """Return the training samples and targets as tensors, padded."""
    tf, train = tensorflow(), identity.data.train
    missing = -len(train) % ROWS
    return tuple(tf.constant(np.pad(a, [(0, missing)] + [(0, 0)] * (a.ndim - 1))) for a in (train.x, train.y))


@lru_cache(maxsize=8)
def compiled(kind: Kind) -> CompiledTraining:
    """Return the training of a kind, which is compiled when it is first used."""
    return CompiledTraining(kind)
