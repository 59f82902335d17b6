"""Training and predicting with plain arrays in and out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.keras.build import Model, build, get_weights, set_weights
from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.core.data.dataset import Development, Split, Task
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.quantization import Observed, quantize
from kerasnac.core.network.training import Training
from kerasnac.core.network.weights import Weights, fold_batch_norm

PREDICT_BATCH = 4096

#: Training samples on which activation ranges are observed.
CALIBRATION_SAMPLES = 8192


@dataclass(frozen=True)
class Fit:
    """What one training gave.

    Attributes:
        weights: Trained weights.
        metric: Task metric on validation.
        loss: Loss on validation.
        epochs: Epochs trained.
        seconds: Wall time of the training.
    """

    weights: dict[str, NDArray[np.float32]]
    metric: float
    loss: float
    epochs: int
    seconds: float


def fit(
    architecture: Architecture,
    data: Development,
    training: Training,
    *,
    seed: int,
    weights: Weights | None = None,
) -> Fit:
    """Trains a network on the training split and scores it on the validation split.

    Args:
        architecture: Float or quantized.
        data: The development splits.
        training: Hyperparameters.
        seed: Fixes initial weights, shuffling and dropout.
        weights: Start from these instead of random ones.
    """
    return fit_model(fresh_model(architecture, training, seed=seed, weights=weights), architecture, data, training)


def fresh_model(architecture: Architecture, training: Training, *, seed: int, weights: Weights | None = None) -> Model:
    """A model to train, in a session of its own; arguments as for :func:`fit`."""
    tensorflow().keras.backend.clear_session()
    tensorflow().keras.utils.set_random_seed(seed)
    model = build(architecture, dropout=training.dropout, l1=training.l1)
    if weights is not None:
        set_weights(model, architecture, weights)
    return model


def fit_model(
    model: Model,
    architecture: Architecture,
    data: Development,
    training: Training,
    *,
    trained: Model | None = None,
    callbacks: Sequence[Any] = (),
) -> Fit:
    """As :func:`fit`, for a model that is already built.

    Args:
        model: The model whose weights are read and scored.
        architecture: What it was built from.
        data: The development splits.
        training: Hyperparameters; with label smoothing or an L1 penalty, stopping early looks at the plain loss.
        trained: The model to train where it is not the same object (a pruning wrapper that shares its weights).
        callbacks: Keras callbacks.
    """
    keras = tensorflow().keras
    start = time.perf_counter()
    count = max(1, round(training.data_fraction * len(data.train)))
    x, y = data.train.x[:count], data.train.y[:count]
    compile_model(trained or model, data.task, training, steps=training.epochs * -(-count // training.batch_size))
    stopping = (
        []
        if training.patience is None
        else [keras.callbacks.EarlyStopping(_monitored(training), patience=training.patience, restore_best_weights=True)]
    )
    history = (trained or model).fit(
        x,
        y,
        batch_size=training.batch_size,
        epochs=training.epochs,
        validation_data=(data.validation.x, data.validation.y) if stopping else None,
        validation_batch_size=PREDICT_BATCH,
        callbacks=[*stopping, *callbacks],
        verbose=0,
    )
    metric, loss = score(model, data.task, data.validation)
    return Fit(get_weights(model, architecture), metric, loss, len(history.epoch), time.perf_counter() - start)


def compile_model(model: Model, task: Task, training: Training, *, steps: int) -> None:
    """Compiles a model with the loss of its task; ``steps`` is the length of the learning-rate schedule.

    Raises:
        ConfigError: If the task cannot be trained so.
    """
    task.check(training)
    keras = tensorflow().keras
    rate = training.learning_rate
    if training.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, steps)
    makers = {
        "adam": keras.optimizers.Adam,
        "nadam": keras.optimizers.Nadam,
        "rmsprop": keras.optimizers.RMSprop,
        "sgd": lambda *args, **options: keras.optimizers.SGD(*args, momentum=0.9, **options),
    }
    optimizer = makers[training.optimizer](rate, weight_decay=training.weight_decay or None)
    if task.kind == "classification":
        plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        metric = keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="plain")
    else:
        plain, metric = keras.losses.MeanSquaredError(), keras.metrics.MeanSquaredError(name="plain")
    loss = _smoothed(task.outputs, training.label_smoothing) if training.label_smoothing else plain
    model.compile(optimizer, loss, metrics=[] if _monitored(training) == "val_loss" else [metric])


def _monitored(training: Training) -> str:
    """What early stopping looks at: the loss without what is added to it while training."""
    return "val_plain" if training.label_smoothing or training.l1 else "val_loss"


def _smoothed(classes: int, smoothing: float) -> Callable[[Any, Any], Any]:
    """Cross-entropy with smoothed labels, which legacy Keras has for one-hot labels only."""
    tf = tensorflow()

    def loss(labels: Any, logits: Any) -> Any:
        one_hot = tf.one_hot(tf.cast(tf.reshape(labels, [-1]), tf.int32), classes)
        return tf.keras.losses.categorical_crossentropy(one_hot, logits, from_logits=True, label_smoothing=smoothing)

    return loss


def score(model: Model, task: Task, split: Split) -> tuple[float, float]:
    """Task metric and loss of a model on a split."""
    outputs = model.predict(split.x, batch_size=PREDICT_BATCH, verbose=0)
    if task.kind == "classification":
        shifted = outputs - outputs.max(axis=1, keepdims=True)
        log_probability = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        loss = -np.mean(log_probability[np.arange(len(split)), split.y])
    else:
        loss = np.mean((outputs - split.y) ** 2)
    return task.score(outputs, split.y), float(loss)


def predict(architecture: Architecture, weights: Weights, x: NDArray[Any]) -> NDArray[np.float32]:
    """Outputs of a network, shape (samples, outputs)."""
    model = build(architecture)
    set_weights(model, architecture, weights)
    outputs: NDArray[np.float32] = model.predict(x, batch_size=PREDICT_BATCH, verbose=0)
    return outputs


def layer_outputs(architecture: Architecture, weights: Weights, x: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
    """What leaves every layer of a network, by layer name; shape (samples, values)."""
    keras = tensorflow().keras
    model = build(architecture)
    set_weights(model, architecture, weights)
    names = architecture.names
    values = keras.Model(model.input, [model.get_layer(name).output for name in names]).predict(
        x, batch_size=PREDICT_BATCH, verbose=0
    )
    arrays = values if len(names) > 1 else [values]
    return {name: np.asarray(array).reshape(len(x), -1) for name, array in zip(names, arrays, strict=True)}


def observe(architecture: Architecture, weights: Weights, x: NDArray[Any], *, clip_quantile: float) -> dict[str, Observed]:
    """Ranges of all activations on some samples, ``clip_quantile`` of the values left out at each end."""
    keras = tensorflow().keras
    model = build(architecture)
    set_weights(model, architecture, weights)
    names = [node.name for node in architecture.nodes if node.layer.kind == "activation"]
    if not names:
        return {}
    tensors = [tensor for name in names for tensor in (model.get_layer(name).input, model.get_layer(name).output)]
    values = keras.Model(model.input, tensors).predict(x, batch_size=PREDICT_BATCH, verbose=0)
    ranges = [tuple(float(q) for q in np.quantile(v, (clip_quantile, 1 - clip_quantile))) for v in values]
    return {name: Observed(before, after) for name, before, after in zip(names, ranges[::2], ranges[1::2], strict=True)}  # type: ignore[arg-type]


def quantized_start(
    architecture: Architecture,
    weights: Weights,
    data: Development,
    *,
    weight_bits: int,
    activation_bits: int,
    clip_quantile: float,
) -> tuple[Architecture, Weights]:
    """Where quantization-aware training begins: formats for a trained float network, and its weights with norms folded.

    Args:
        architecture: Float.
        weights: Trained.
        data: Ranges are observed on its training samples.
        weight_bits: Width of the kernels; a layer's own width wins.
        activation_bits: Width of the activations; a layer's own width wins.
        clip_quantile: Fraction of an activation's values that may exceed its format, at each end.
    """
    folded, start = fold_batch_norm(architecture, weights)
    ranges = observe(folded, start, data.train.x[:CALIBRATION_SAMPLES], clip_quantile=clip_quantile)
    widths = {"weight_bits": weight_bits, "activation_bits": activation_bits}
    return quantize(folded, start, ranges, input_grid=data.input_grid, **widths), start
