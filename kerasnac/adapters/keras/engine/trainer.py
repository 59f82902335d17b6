"""The compiled training of a mold."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.keras.engine.forward import Step, outputs
from kerasnac.adapters.keras.engine.padding import Fitted, Padded, places
from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.adapters.keras.train import PREDICT_BATCH, Fit, make_optimizer, score_outputs
from kerasnac.core.data.batches import batches
from kerasnac.core.data.dataset import Development
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.mold import Mold, NoMold, molds
from kerasnac.core.network.training import Training
from kerasnac.core.network.weights import Weights, initial_weights

Tensor = Any  # TensorFlow has no type stubs


@dataclass(frozen=True)
class Pruning:
    """Zeros that a training keeps or makes, by layer name.

    Attributes:
        masks: Arrays of ones and zeros in the shapes of the kernels; ones by default.
        schedules: TFMOT's schedules of new masks; a mask without one stays.
    """

    masks: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    schedules: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Member:
    """Network to train.

    Attributes:
        architecture: Float or quantized.
        training: Hyperparameters.
        seed: Seed of initial weights, shuffling and dropout.
        start: Weights to start from, arrays keyed ``layer/part``; random ones by default.
        pruning: Zeros of its kernels; None for a training without pruning.
    """

    architecture: Architecture
    training: Training
    seed: int
    start: Weights | None = None
    pruning: Pruning | None = None


@dataclass(frozen=True)
class Kind:
    """What one compiled training serves.

    Attributes:
        mold: Form of the networks.
        batch_size: Samples per step.
        optimizer: Name of the optimiser.
        weight_decay: True for trainings with weight decay.
        dropout: True for trainings with dropout.
        pruning: True for trainings with pruning.
    """

    mold: Mold
    batch_size: int
    optimizer: str
    weight_decay: bool
    dropout: bool
    pruning: bool

    @classmethod
    def of(cls, member: Member, mold: Mold) -> Kind:
        """Return the kind of a member's training."""
        own = member.training
        return cls(mold, own.batch_size, own.optimizer, own.weight_decay > 0, own.dropout > 0, member.pruning is not None)


class CompiledTraining:
    """Training of networks of one kind on some data.

    Args:
        kind: Of the networks.
        data: The development splits.
    """

    def __init__(self, kind: Kind, data: Development) -> None:
        tf = tensorflow()
        self._kind, self._data, self._places = kind, data, places(kind.mold)
        self._x, self._y = tf.constant(data.train.x), tf.constant(data.train.y)
        self._variables = {
            f"{i}/{part}": tf.Variable(np.zeros(w.shape, np.float32), trainable=w.trainable)
            for i, place in enumerate(self._places)
            for part, w in place.weights.items()
        }
        self._trained = {key: v for key, v in self._variables.items() if v.trainable}
        self._kernels = [key for key in self._trained if key.endswith("/kernel")]
        self._masks = {key: tf.Variable(tf.ones_like(self._variables[key]), trainable=False) for key in self._kernels}
        self._decay = tf.Variable(0.0)
        self._optimizer = make_optimizer(kind.optimizer, 0.0, self._decay if kind.weight_decay else None)
        self._optimizer.build(list(self._trained.values()))
        self._fresh = [(variable, variable.numpy()) for variable in self._optimizer_state()]
        self._epoch = tf.function(self._train_epoch, autograph=False, jit_compile=True)
        self._predict = tf.function(self._outputs, autograph=False)

    def train(self, member: Member) -> Fit:
        """Train a network and score it, as :func:`kerasnac.adapters.keras.train.fit` does."""
        tf = tensorflow()
        began, training, data = time.perf_counter(), member.training, self._data
        fitted = Fitted(self._kind.mold, member.architecture)
        self._load(fitted, member)
        choices = [{name: tf.constant(value) for name, value in place.items()} for place in fitted.choices()]
        count = max(1, round(training.data_fraction * len(data.train)))
        steps = -(-count // training.batch_size)
        rates = _rates(training, steps * training.epochs)
        pruning = self._pruning(fitted, member, steps * training.epochs)
        numbers = {
            "dropout": tf.constant(training.dropout, tf.float32),
            "l1": tf.constant(training.l1, tf.float32),
            "smoothing": tf.constant(training.label_smoothing, tf.float32),
        }
        best, best_loss, waited, epochs = None, np.inf, 0, 0
        for epoch in range(training.epochs):
            now = slice(epoch * steps, (epoch + 1) * steps)
            order = batches(count, training.batch_size, seed=member.seed, epoch=epoch)
            seeds = tf.constant([member.seed % 2**31, epoch], tf.int32)
            zeros = [(tf.constant(a[now]), tf.constant(b[now]), size) for a, b, size in pruning]
            self._epoch(tf.constant(order), tf.constant(rates[now]), seeds, choices, numbers, zeros)
            epochs += 1
            if training.patience is not None:
                loss = self.score(choices)[1]
                if loss < best_loss:
                    best, best_loss, waited = self._values(), loss, 0
                else:
                    waited += 1
                    if waited >= training.patience:
                        break
        if best is not None:
            self._assign(best)
        metric, loss = self.score(choices)
        weights = fitted.unpad(self._values())
        return Fit(weights, metric, loss, epochs, time.perf_counter() - began)

    def score(self, choices: Any) -> tuple[float, float]:
        """Return the task metric and the loss on validation of the network that is loaded."""
        tf, x = tensorflow(), self._data.validation.x
        padded = np.zeros((-(-len(x) // PREDICT_BATCH) * PREDICT_BATCH, *x.shape[1:]), np.float32)
        padded[: len(x)] = x
        parts = [self._predict(tf.constant(part), choices).numpy() for part in np.split(padded, len(padded) // PREDICT_BATCH)]
        return score_outputs(np.concatenate(parts)[: len(x)], self._data.task, self._data.validation)

    def _optimizer_state(self) -> list[Any]:
        product = getattr(self._optimizer, "_u_product", None)  # Of Nadam, which does not list it.
        return [*self._optimizer.variables, *([] if product is None else [product])]

    def _values(self) -> dict[str, NDArray[np.float32]]:
        return {key: variable.numpy() for key, variable in self._variables.items()}

    def _assign(self, values: Padded) -> None:
        for key, variable in self._variables.items():
            variable.assign(values[key])

    def _load(self, fitted: Fitted, member: Member) -> None:
        """Lay the weights of a network into the variables, and forget all about the one before."""
        start = initial_weights(member.architecture, member.seed) if member.start is None else member.start
        masks = {} if member.pruning is None else {f"{name}/kernel": m for name, m in member.pruning.masks.items()}
        padded, kept = fitted.pad(start), fitted.pad(masks, around=1.0)
        self._assign(padded)
        for key, mask in self._masks.items():
            mask.assign(kept[key])
            self._variables[key].assign(padded[key] * kept[key])
        for variable, value in self._fresh:
            variable.assign(value)
        self._decay.assign(member.training.weight_decay)

    def _pruning(self, fitted: Fitted, member: Member, steps: int) -> list[tuple[Any, Any, Any]]:
        """Return by kernel: at which steps its mask is made anew, how many weights it keeps then, and its true size."""
        tf = tensorflow()
        if member.pruning is None:
            return []
        sizes = fitted.sizes()
        found = []
        for key in self._kernels:
            name, size = sizes.get(key, ("", 0))
            turns, kept = np.zeros(steps, bool), np.zeros(steps, np.int32)
            if name in member.pruning.schedules:
                # TFMOT counts its steps from one.
                now, sparsity = member.pruning.schedules[name](tf.range(1, steps + 1))
                turns = np.asarray(now)
                kept = np.asarray(tf.cast(tf.maximum(tf.round(tf.cast(size, tf.float32) * (1 - sparsity)), 1), tf.int32))
                kept = np.broadcast_to(kept, steps)
            found.append((turns, kept, tf.constant(size)))
        return found

    def _outputs(self, x: Tensor, choices: Any) -> Tensor:
        weights = {key: tensorflow().identity(v) for key, v in self._variables.items()}
        return outputs(self._places, weights, choices, x, quantized=self._kind.mold.quantized)

    def _train_epoch(self, order: Tensor, rates: Tensor, seed: Tensor, choices: Any, numbers: Any, pruning: Any) -> None:
        tf = tensorflow()

        def body(i: Tensor) -> tuple[Tensor]:
            for key, (turns, kept, _) in zip(self._kernels, pruning, strict=False):
                self._mask(key, turns[i], kept[i])
            self._step(order[i], rates[i], seed + tf.stack([i * 131071, 0]), choices, numbers)
            return (i + 1,)

        tf.while_loop(lambda i: i < order.shape[0], body, (tf.constant(0),))
        if pruning:
            for key in self._kernels:
                self._variables[key].assign(self._variables[key] * self._masks[key])

    def _mask(self, key: str, turn: Tensor, kept: Tensor) -> None:
        """Keep the largest weights of a kernel, as TFMOT does, where it is the turn of the step."""
        tf, variable, mask = tensorflow(), self._variables[key], self._masks[key]

        def new() -> Tensor:
            magnitudes = tf.abs(variable.read_value())
            ranked = tf.sort(tf.reshape(magnitudes, [-1]), direction="DESCENDING")
            return tf.cast(magnitudes >= ranked[kept - 1], tf.float32)

        mask.assign(tf.cond(turn, new, lambda: mask.read_value()))
        variable.assign(variable * mask)

    def _step(self, indices: Tensor, rate: Tensor, seed: Tensor, choices: Any, numbers: Any) -> None:
        tf, kind = tensorflow(), self._kind
        present = tf.cast(indices >= 0, tf.float32)
        chosen = tf.maximum(indices, 0)
        x, y = tf.gather(self._x, chosen), tf.gather(self._y, chosen)
        step = Step(present, numbers["dropout"] if kind.dropout else None, seed)
        trained = list(self._trained.values())
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(trained)
            weights = {key: tf.identity(v) for key, v in self._variables.items()}
            logits = outputs(self._places, weights, choices, x, quantized=kind.mold.quantized, step=step)
            losses = self._losses(y, logits, numbers["smoothing"])
            loss = tf.reduce_sum(losses * present) / tf.reduce_sum(present)
        gradients = tape.gradient(loss, trained, unconnected_gradients="zero")
        named = dict(zip(self._trained, gradients, strict=True))
        for key in self._kernels:
            named[key] += numbers["l1"] * tf.sign(weights[key])
        self._optimizer.learning_rate.assign(rate)
        self._optimizer.apply_gradients(
            [(named[key], v) for key, v in self._trained.items()], skip_gradients_aggregation=True
        )
        for key, value in step.statistics.items():
            self._variables[key].assign(value)
        if kind.mold.quantized:
            for i, own in enumerate(choices):
                for part in ("kernel", "bias"):
                    if (variable := self._trained.get(f"{i}/{part}")) is not None:
                        limit = own[f"{part}_format"][3]
                        variable.assign(tf.clip_by_value(variable, -limit, limit))

    def _losses(self, y: Tensor, found: Tensor, smoothing: Tensor) -> Tensor:
        tf, task = tensorflow(), self._data.task
        if task.kind != "classification":
            return tf.reduce_mean(tf.square(found - y), -1)
        hot = tf.one_hot(tf.cast(y, tf.int32), task.outputs) * (1 - smoothing) + smoothing / task.outputs
        return -tf.reduce_sum(hot * tf.nn.log_softmax(found), -1)


def _rates(training: Training, steps: int) -> NDArray[np.float32]:
    """Return the learning rate of every step."""
    keras = tensorflow().keras
    if training.schedule == "cosine":
        schedule = keras.optimizers.schedules.CosineDecay(training.learning_rate, steps)
        return np.asarray(schedule(tensorflow().range(steps)), np.float32)
    return np.full(steps, training.learning_rate, np.float32)


@lru_cache(maxsize=16)
def _compiled(kind: Kind, fingerprint: str) -> list[CompiledTraining]:
    return []


def train(member: Member, data: Development, mold: Mold | None = None) -> Fit:
    """Train a network by the compiled training of its mold, and score it on validation.

    Args:
        member: The network.
        data: The development splits.
        mold: A mold that holds it; its own by default.

    Raises:
        NoMold: If it fits none.
    """
    if mold is None or mold.place(member.architecture) is None:
        own = molds([member.architecture])
        if not own:
            raise NoMold(str(member.architecture))
        (mold,) = own
    known = _compiled(Kind.of(member, mold), data.fingerprint)
    if not known:
        known.append(CompiledTraining(Kind.of(member, mold), data))
    return known[0].train(member)
