"""Training, scoring and predicting, with arrays in and arrays out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.keras.build import Model, build, get_weights, set_weights
from kerasnac.adapters.keras.member import Fit
from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.core.data.dataset import Development, Split, Task
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.quantization import ActivationRange, quantize
from kerasnac.core.network.training import Training
from kerasnac.core.network.weights import Weights, fold_batch_norm

#: Samples per step where nothing is trained.
PREDICT_BATCH = 4096

#: Training samples on which activation ranges are measured.
CALIBRATION_SAMPLES = 8192


def fit(
    architecture: Architecture,
    data: Development,
    training: Training,
    *,
    seed: int,
    start: Weights | None = None,
) -> Fit:
    """Train a network on the training split and score it on the validation split.

    Args:
        architecture: Float or quantized.
        data: The development splits.
        training: Hyperparameters.
        seed: Seed of initial weights, shuffling and dropout.
        start: Weights to start from, arrays keyed ``layer/part``; random ones by default.

    Raises:
        ConfigError: If the task cannot be trained so, as a regression with label smoothing.
        ConversionError: If the architecture is quantized and has a norm.
    """
    return fit_model(fresh_model(architecture, training, seed=seed, start=start), architecture, data, training)


def fresh_model(architecture: Architecture, training: Training, *, seed: int, start: Weights | None = None) -> Model:
    """Build a model to train, in a Keras session of its own, which ends those of earlier models.

    Args:
        architecture: Float or quantized.
        training: Hyperparameters; the dropout and the L1 penalty are parts of the model.
        seed: Seed of initial weights, shuffling and dropout.
        start: Weights to start from, arrays keyed ``layer/part``; random ones by default.

    Returns:
        A ``tf.keras.Model`` that is not compiled.
    """
    tensorflow().keras.backend.clear_session()
    tensorflow().keras.utils.set_random_seed(seed)
    model = build(architecture, dropout=training.dropout, l1=training.l1)
    if start is not None:
        set_weights(model, architecture, start)
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
    """Train a model on the training split and score it on the validation split, as :func:`fit` does.

    Args:
        model: The model whose weights are read and scored; see :func:`fresh_model`.
        architecture: The architecture that it was built from.
        data: The development splits.
        training: Hyperparameters; with label smoothing or an L1 penalty, stopping early looks at the plain loss.
        trained: The model to train where it is another object, as a pruning wrapper that shares its weights.
        callbacks: Keras callbacks.

    Raises:
        ConfigError: If the task cannot be trained so.
    """
    keras = tensorflow().keras
    start = time.perf_counter()
    count = training.samples(len(data.train))
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
    """Compile a model with the loss of its task.

    Args:
        model: Model to compile.
        task: Classification with logits as outputs, or regression.
        training: Hyperparameters.
        steps: Length of the learning-rate schedule, in batches.

    Raises:
        ConfigError: If the task cannot be trained so.
    """
    task.check(training)
    keras = tensorflow().keras
    rate = training.learning_rate if training.schedule == "constant" else _cosine(training, steps)
    optimizer = make_optimizer(training.optimizer, rate, training.weight_decay or None)
    if task.kind == "classification":
        plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        metric = keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="plain")
    else:
        plain, metric = keras.losses.MeanSquaredError(), keras.metrics.MeanSquaredError(name="plain")
    loss = _smoothed(task.outputs, training.label_smoothing) if training.label_smoothing else plain
    model.compile(optimizer, loss, metrics=[] if _monitored(training) == "val_loss" else [metric])


def _cosine(training: Training, steps: int) -> Any:
    return tensorflow().keras.optimizers.schedules.CosineDecay(training.learning_rate, steps)


def learning_rates(training: Training, steps: int) -> NDArray[np.float32]:
    """Return the learning rate of every step of a training.

    Args:
        training: Hyperparameters.
        steps: Length of the training, in batches.

    Returns:
        float32, shape (steps,).
    """
    if training.schedule == "constant":
        return np.full(steps, training.learning_rate, np.float32)
    return np.asarray(_cosine(training, steps)(tensorflow().range(steps)), np.float32)


def make_optimizer(name: str, rate: Any, weight_decay: Any) -> Any:
    """Return a Keras optimiser.

    Args:
        name: One of :data:`kerasnac.core.network.training.OPTIMIZERS`.
        rate: Learning rate, a number, variable or schedule.
        weight_decay: Decoupled weight decay, a number or variable; None for none.
    """
    optimizers = tensorflow().keras.optimizers
    makers = {
        "adam": optimizers.Adam,
        "nadam": optimizers.Nadam,
        "rmsprop": optimizers.RMSprop,
        "sgd": lambda *args, **options: optimizers.SGD(*args, momentum=0.9, **options),
    }
    return makers[name](rate, weight_decay=weight_decay)


def _monitored(training: Training) -> str:
    """Return the name of the loss that early stopping looks at: the one without penalties and label smoothing."""
    return "val_plain" if training.label_smoothing or training.l1 else "val_loss"


def _smoothed(classes: int, smoothing: float) -> Callable[[Any, Any], Any]:
    """Return the cross-entropy with smoothed labels, which legacy Keras has for one-hot labels only.

    Args:
        classes: Number of classes.
        smoothing: Fraction of every label that is spread over all classes.

    Returns:
        A Keras loss of integer labels, shape (samples,) or (samples, 1), and float32 logits, shape (samples, classes);
        it returns float32 of shape (samples,).
    """
    tf = tensorflow()

    def loss(labels: Any, logits: Any) -> Any:
        one_hot = tf.one_hot(tf.cast(tf.reshape(labels, [-1]), tf.int32), classes)
        return tf.keras.losses.categorical_crossentropy(one_hot, logits, from_logits=True, label_smoothing=smoothing)

    return loss


def score(model: Model, task: Task, split: Split) -> tuple[float, float]:
    """Return the task metric and the loss of a model on a split.

    Args:
        model: Model with the outputs of the task, logits for a classification.
        task: Classification or regression.
        split: Samples and targets.

    Returns:
        The metric (accuracy, or mean distance in the unit of the task), and the cross-entropy or mean squared error;
        the metric is NaN if an output is not finite.
    """
    return score_outputs(model.predict(split.x, batch_size=PREDICT_BATCH, verbose=0), task, split)


def score_outputs(outputs: NDArray[Any], task: Task, split: Split) -> tuple[float, float]:
    """Return the task metric and the loss of outputs, as :func:`score` does."""
    if task.kind == "classification":
        shifted = outputs - outputs.max(axis=1, keepdims=True)
        log_probability = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        loss = -np.mean(log_probability[np.arange(len(split)), split.y])
    else:
        loss = np.mean((outputs - split.y) ** 2)
    return task.score(outputs, split.y), float(loss)


def predict(architecture: Architecture, weights: Weights, x: NDArray[Any]) -> NDArray[np.float32]:
    """Compute the outputs of a network.

    Args:
        architecture: Float or quantized.
        weights: Arrays keyed ``layer/part``.
        x: Samples of any numeric dtype, shape (samples, *input_shape).

    Returns:
        float32, shape (samples, *output_shape).
    """
    model = build(architecture)
    set_weights(model, architecture, weights)
    outputs: NDArray[np.float32] = model.predict(x, batch_size=PREDICT_BATCH, verbose=0)
    return outputs


def layer_outputs(architecture: Architecture, weights: Weights, x: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
    """Compute the outputs of every layer of a network.

    Args:
        architecture: Float or quantized.
        weights: Arrays keyed ``layer/part``.
        x: Samples of any numeric dtype, shape (samples, *input_shape).

    Returns:
        By layer name, float32 of shape (samples, values): maps are flattened.
    """
    keras = tensorflow().keras
    model = build(architecture)
    set_weights(model, architecture, weights)
    names = architecture.names
    every = keras.Model(model.input, [model.get_layer(name).output for name in names])
    values = every.predict(x, batch_size=PREDICT_BATCH, verbose=0)
    arrays = values if len(names) > 1 else [values]
    return {name: np.asarray(array).reshape(len(x), -1) for name, array in zip(names, arrays, strict=True)}


def activation_ranges(
    architecture: Architecture, weights: Weights, x: NDArray[Any], *, clip_quantile: float
) -> dict[str, ActivationRange]:
    """Measure the ranges of all activations on some samples.

    Args:
        architecture: Float, batch norms folded.
        weights: Arrays keyed ``layer/part``.
        x: Samples of any numeric dtype, shape (samples, *input_shape).
        clip_quantile: Fraction of the values of an activation that is left out at each end.

    Returns:
        By the name of every layer of kind ``activation``; empty if there is none.
    """
    keras = tensorflow().keras
    model = build(architecture)
    set_weights(model, architecture, weights)
    names = [node.name for node in architecture.nodes if node.layer.kind == "activation"]
    if not names:
        return {}
    tensors = [tensor for name in names for tensor in (model.get_layer(name).input, model.get_layer(name).output)]
    values = keras.Model(model.input, tensors).predict(x, batch_size=PREDICT_BATCH, verbose=0)
    ranges = [tuple(float(q) for q in np.quantile(v, (clip_quantile, 1 - clip_quantile))) for v in values]
    return {name: ActivationRange(before, after) for name, before, after in zip(names, ranges[::2], ranges[1::2], strict=True)}  # type: ignore[arg-type]


def quantized_start(
    architecture: Architecture,
    weights: Weights,
    data: Development,
    *,
    weight_bits: int,
    activation_bits: int,
    clip_quantile: float,
) -> tuple[Architecture, Weights]:
    """Give a trained float network formats, and fold its batch norms: the start of quantization-aware training.

    Args:
        architecture: Float.
        weights: Trained weights, arrays keyed ``layer/part``.
        data: The development splits; ranges are measured on the first training samples.
        weight_bits: Width of the kernels; a layer's own width wins.
        activation_bits: Width of the activations; a layer's own width wins.
        clip_quantile: Fraction of an activation's values that may exceed its format, at each end.

    Returns:
        The quantized network, and its latent weights, in float32 and not rounded yet.

    Raises:
        ConfigError: If a width is below 2 bits.
        ConversionError: If a layer has no formats, as a layer norm.
    """
    folded, start = fold_batch_norm(architecture, weights)
    ranges = activation_ranges(folded, start, data.train.x[:CALIBRATION_SAMPLES], clip_quantile=clip_quantile)
    widths = {"weight_bits": weight_bits, "activation_bits": activation_bits}
    return quantize(folded, start, ranges, input_grid=data.input_grid, **widths), start
