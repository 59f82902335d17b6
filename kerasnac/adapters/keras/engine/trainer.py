"""The compiled training of a mold."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.keras.engine.forward import Step, dropout_factors, outputs
from kerasnac.adapters.keras.engine.layout import Layout
from kerasnac.adapters.keras.engine.padding import Fitted
from kerasnac.adapters.keras.losses import sample_losses, validation_loss
from kerasnac.adapters.keras.member import Fit, Member, Pruning, magnitude_mask
from kerasnac.adapters.keras.optimizers import learning_rates, make_optimizer
from kerasnac.adapters.keras.predict import PREDICT_BATCH, Scores
from kerasnac.adapters.keras.runtime import tensorflow, unknown_branch_arguments
from kerasnac.core.data.batches import batches
from kerasnac.core.data.dataset import Development
from kerasnac.core.data.losses import Loss
from kerasnac.core.network.cells import cells_of, table_bits
from kerasnac.core.network.mold import Mold, places
from kerasnac.core.network.training import Training

Tensor = Any  # TensorFlow has no type stubs

#: Samples and steps are padded to multiples, so that folds and fractions of the data need no other function.
ROWS, STEPS = 4096, 64

#: Width of the input of the tables that are padded to one size.
TABLE_BITS = 8


@dataclass(frozen=True)
class Kind:
    """Trainings that one compiled function serves.

    Attributes:
        mold: Form of the networks.
        batch_size: Samples per step.
        optimizer: Name of the optimiser.
        classes: Number of classes; 0 for a regression.
        loss: The loss, if it is not the usual one of the kind of task.
        table_bits: Width of the input of the widest table of an activation; 0 for none.
    """

    mold: Mold
    batch_size: int
    optimizer: str
    classes: int
    table_bits: int
    loss: Loss | None = None


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
        shapes = self._trained.shapes.items()
        self._is_kernel = self._trained.join({key: np.full(shape, arrays[key].prunable) for key, shape in shapes})
        self._weights = tf.Variable(np.zeros(self._trained.size, np.float32))
        self._statistics = tf.Variable(np.zeros(self._moving.size, np.float32))
        self._mask = tf.Variable(tf.ones_like(self._weights))
        self._decay = tf.Variable(0.0)
        self._own_losses = None if kind.loss is None else sample_losses(kind.loss, kind.classes)
        self._optimizer = make_optimizer(kind.optimizer, 0.0, self._decay)
        self._optimizer.build([self._weights])
        product = getattr(self._optimizer, "_u_product", None)  # Of Nadam, which does not list it.
        states = [*self._optimizer.variables, *([] if product is None else [product])]
        self._fresh = [(variable, variable.numpy()) for variable in states]
        self._steps = tf.function(self._train_steps, autograph=False, jit_compile=True)
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
        self._load(fitted, member)
        own = self._own(fitted, training)
        count, steps = training.samples(len(data.train)), training.steps(len(data.train))
        rates = learning_rates(training, steps * training.epochs)
        turns = _turns(member.pruning, steps * training.epochs)
        x, y, weights = _resident(_Identity(data))
        own |= {} if weights is None else {"weights": weights}
        snapshot: dict[str, NDArray[np.float32]] = {}
        stopping = EarlyStopping(training.patience)
        for epoch in range(training.epochs):
            first = epoch * steps
            plan = {
                "order": _padded(batches(count, training.batch_size, seed=member.seed, epoch=epoch), STEPS),
                "rates": _padded(rates[first : first + steps], STEPS),
                "seed": tf.constant([member.seed % 2**31, epoch], tf.int32),
            }
            now = {step - first: turn for step, turn in turns.items() if first <= step < first + steps}
            for begin, end in pairwise(sorted({0, *now, steps})):
                if begin in now:
                    self._prune(fitted, now[begin])
                self._steps(x, y, own, plan, tf.constant(begin), tf.constant(end))
            self._weights.assign(self._weights * self._mask)
            if epoch + 1 == member.snapshot_epoch:
                snapshot = fitted.unpad(self._values())
            if training.patience is not None and stopping.stops(self._loss(own["choices"], data), self._state):
                break
        if stopping.best is not None:
            for variable, value in zip((self._weights, self._statistics), stopping.best, strict=True):
                variable.assign(value)
        scores = Scores.of(self._predictions(own["choices"], data), data.task, data.validation)
        seconds, weights = time.perf_counter() - began, fitted.unpad(self._values())
        return Fit(weights, scores.metric, scores.loss, epoch + 1, seconds, scores.further, snapshot, compiled=True)

    def _loss(self, choices: Any, data: Development) -> float:
        return validation_loss(self._predictions(choices, data), data.task, data.validation)

    def _predictions(self, choices: Any, data: Development) -> NDArray[np.float32]:
        """Return the outputs for the validation split of the network that is loaded."""
        x = _padded(data.validation.x, PREDICT_BATCH)
        parts = [self._predict(x[i : i + PREDICT_BATCH], choices).numpy() for i in range(0, len(x), PREDICT_BATCH)]
        return np.concatenate(parts)[: len(data.validation)]

    def _own(self, fitted: Fitted, training: Training) -> dict[str, Any]:
        """Return all that the compiled function has to know of a network and its training."""
        tf = tensorflow()
        numbers = {"dropout": training.dropout, "l1": training.l1, "smoothing": training.label_smoothing}
        choices = fitted.choices(self._kind.table_bits)
        return {
            **{name: tf.constant(value, tf.float32) for name, value in numbers.items()},
            "choices": [{name: tf.constant(value) for name, value in place.items()} for place in choices],
            "limits": tf.constant(self._trained.join(fitted.limits())),
        }

    def _state(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self._weights.numpy(), self._statistics.numpy()

    def _values(self) -> dict[str, NDArray[np.float32]]:
        weights, statistics = self._state()
        return {**self._trained.split(weights), **self._moving.split(statistics)}

    def _load(self, fitted: Fitted, member: Member) -> None:
        """Lay the weights of a network into the variables, and forget all about the one before."""
        padded, masks = fitted.pad(member.first_weights), {} if member.pruning is None else member.pruning.masks
        mask = self._mask_of(fitted, masks)
        self._mask.assign(mask)
        self._weights.assign(self._trained.join(padded) * mask)
        self._statistics.assign(self._moving.join(padded))
        for variable, value in self._fresh:
            variable.assign(value)
        self._decay.assign(member.training.weight_decay)

    def _mask_of(self, fitted: Fitted, masks: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return ones for the weights that the network has and that are not pruned, zeros for all others."""
        return self._trained.join(fitted.pad({**fitted.ones(), **{f"{name}/kernel": mask for name, mask in masks.items()}}))

    def _prune(self, fitted: Fitted, turn: Mapping[str, float]) -> None:
        """Make new masks of the kernels that have their turn, for the fractions of zeros that they are to have."""
        now = fitted.unpad(self._trained.split(self._mask.numpy()))
        weights = fitted.unpad(self._trained.split(self._weights.numpy()))
        masks = {name: magnitude_mask(weights[f"{name}/kernel"], fraction) for name, fraction in turn.items()}
        kept = {key.removesuffix("/kernel"): mask for key, mask in now.items() if key.endswith("/kernel")}
        self._mask.assign(self._mask_of(fitted, {**kept, **masks}))

    def _outputs(self, x: Tensor, choices: Any) -> Tensor:
        weights = {**self._trained.split_tensor(self._weights), **self._moving.split_tensor(self._statistics)}
        return outputs(self._places, weights, choices, x, quantized=self._kind.mold.quantized)

    def _train_steps(self, x: Tensor, y: Tensor, own: dict[str, Any], plan: dict[str, Any], begin: Tensor, end: Tensor) -> None:
        """Train for some steps of an epoch.

        Args:
            x: Training samples.
            y: Their targets.
            own: See :meth:`_own`.
            plan: For every step of the epoch its batch in ``order`` and its learning rate in ``rates``; the ``seed`` of the
                epoch.
            begin: The first step.
            end: One more than the last step.
        """
        tf = tensorflow()

        def body(i: Tensor) -> tuple[Tensor]:
            self._weights.assign(self._weights * self._mask)
            self._step(x, y, own, plan["order"][i], plan["rates"][i], plan["seed"] + tf.stack([i * 131071, 0]))
            return (i + 1,)

        with unknown_branch_arguments():
            tf.while_loop(lambda i: i < end, body, (begin,))

    def _step(self, x: Tensor, y: Tensor, own: dict[str, Any], indices: Tensor, rate: Tensor, seed: Tensor) -> None:
        tf, quantized = tensorflow(), self._kind.mold.quantized
        present = tf.cast(indices >= 0, tf.float32)
        chosen = tf.maximum(indices, 0)
        inputs, targets = tf.gather(x, chosen), tf.gather(y, chosen)
        vector = self._weights.read_value()
        weights, moving = self._trained.split_tensor(vector), self._moving.split_tensor(self._statistics)
        step = Step(present, dropout_factors(self._places, indices.shape[0], own["dropout"], seed))
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            found = outputs(self._places, {**weights, **moving}, own["choices"], inputs, quantized=quantized, step=step)
            losses = self._losses(targets, found, own["smoothing"])
            if "weights" in own:
                losses *= tf.gather(own["weights"], chosen)
            loss = tf.reduce_sum(losses * present) / tf.reduce_sum(present)
        gradient = self._trained.join_tensors(tape.gradient(loss, weights, unconnected_gradients="zero"))
        gradient += own["l1"] * tf.sign(vector) * self._is_kernel
        self._optimizer.learning_rate.assign(rate)
        self._optimizer.apply_gradients([(gradient, self._weights)], skip_gradients_aggregation=True)
        if self._moving.size:
            self._statistics.assign(self._moving.join_tensors(step.statistics))
        if quantized:
            self._weights.assign(tf.clip_by_value(self._weights, -own["limits"], own["limits"]))

    def _losses(self, y: Tensor, found: Tensor, smoothing: Tensor) -> Tensor:
        tf, classes = tensorflow(), self._kind.classes
        if self._own_losses is not None:
            return self._own_losses(y, found, smoothing)
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
        self._patience, self._loss, self._waited, self._epochs = patience, np.inf, 0, 0
        self.best: Any = None

    def stops(self, loss: float, state: Any) -> bool:
        """Take the loss of an epoch; return True if it was the last one.

        Args:
            loss: On validation.
            state: Returns what is to be kept of the epoch if it is the best one.
        """
        self._epochs += 1
        self._waited += 1
        # A loss that is not finite is no improvement, not even of the first epoch; Keras never stops after that one.
        if self._epochs == 1 or loss < self._loss:
            self.best = state()
        if loss < self._loss:
            self._loss, self._waited = loss, 0
        return self._patience is not None and self._waited >= self._patience and self._epochs > 1


def _turns(pruning: Pruning | None, steps: int) -> dict[int, dict[str, float]]:
    """Return at which steps of a training which kernels are pruned, and to which fractions of zeros."""
    found: dict[int, dict[str, float]] = {}
    for name, schedule in ({} if pruning is None else pruning.schedules).items():
        # TFMOT counts its steps from one.
        turns, sparsities = schedule(tensorflow().range(1, steps + 1))
        turns, sparsities = np.broadcast_to(turns, steps), np.broadcast_to(sparsities, steps)
        for step in np.flatnonzero(turns):
            found.setdefault(int(step), {})[name] = sparsities[step]
    return found


def _padded(array: NDArray[Any], multiple: int) -> Tensor:
    """Return a tensor with rows of zeros after those of an array, so that their number is a multiple."""
    missing = -len(array) % multiple
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
def _resident(identity: _Identity) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the training samples, targets and weights as tensors, padded; None for no weights."""
    train, targets = identity.data.train, identity.data.task.targets(identity.data.train.y)
    return _padded(train.x, ROWS), _padded(targets, ROWS), None if train.weight is None else _padded(train.weight, ROWS)


def train_compiled(member: Member, data: Development, mold: Mold) -> Fit:
    """Train a network by the compiled training of its mold.

    Args:
        member: The network.
        data: The development splits.
        mold: A mold that holds it.
    """
    training, classes = member.training, data.task.outputs if data.task.classes else 0
    # Tables of 8 bits are by far the most frequent ones: narrower ones are padded to them.
    bits = table_bits(cells_of(member.architecture))
    bits = max(bits, TABLE_BITS) if bits else 0
    loss = None if data.task.has_usual_loss else data.task.loss
    kind = Kind(mold, training.batch_size, training.optimizer, classes, bits, loss)
    return compiled(kind).train(member, data)


@lru_cache(maxsize=16)
def compiled(kind: Kind) -> CompiledTraining:
    """Return the training of a kind, which is compiled when it is first used."""
    return CompiledTraining(kind)
