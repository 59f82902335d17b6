"""The reference of all trainings: Keras' own ``fit``, of one model after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.keras.build import Model, build, get_weights, set_weights
from kerasnac.adapters.keras.custom import custom
from kerasnac.adapters.keras.losses import keras_loss
from kerasnac.adapters.keras.member import Fit, Member, Pruning
from kerasnac.adapters.keras.optimizers import learning_rate, make_optimizer
from kerasnac.adapters.keras.predict import PREDICT_BATCH, score
from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.core.data.batches import batches
from kerasnac.core.data.dataset import Development, Task
from kerasnac.core.network.training import Training


def fit_by_keras(member: Member, data: Development, *, callbacks: Sequence[Any] = ()) -> Fit:
    """Train a network with ``fit``, and score it on the validation split.

    It runs in a Keras session of its own, which ends those of earlier models.

    Args:
        member: The network.
        data: The development splits.
        callbacks: Callbacks of Keras besides its own.

    Raises:
        ConfigError: If the task cannot be trained so, as a regression with label smoothing.
        ConversionError: If the architecture is quantized and has a norm.
    """
    keras, architecture, training = tensorflow().keras, member.architecture, member.training
    keras.backend.clear_session()
    keras.utils.set_random_seed(member.seed)
    began = time.perf_counter()
    model = build(architecture, dropout=training.dropout, l1=training.l1)
    set_weights(model, architecture, member.first_weights)
    trained, own = model, list(callbacks)
    if member.pruning is not None:
        from tensorflow_model_optimization.sparsity.keras import UpdatePruningStep

        trained = _wrapped(model, member.pruning)
        # Without this callback the last step of a training would leave pruned weights other than zero.
        own.append(UpdatePruningStep())
    snapshot: dict[str, NDArray[np.float32]] = {}
    if member.snapshot_epoch:

        def copy_weights(epoch: int, logs: Any) -> None:
            if epoch + 1 == member.snapshot_epoch:
                snapshot.update(get_weights(model, architecture))

        own.append(keras.callbacks.LambdaCallback(on_epoch_end=copy_weights))
    if training.patience is not None:
        stopping = keras.callbacks.EarlyStopping(
            _monitored(training, model), patience=training.patience, restore_best_weights=True
        )
        own.insert(0, stopping)
    steps = training.steps(len(data.train))
    targets = data.task.targets(data.validation.y)
    validation = tuple(part for part in (data.validation.x, targets, data.validation.weight) if part is not None)
    compile_model(trained, data.task, training, steps=training.epochs * steps, weighted=data.validation.weight is not None)
    history = trained.fit(
        _batched(data, member.seed, training),
        steps_per_epoch=steps,
        epochs=training.epochs,
        validation_data=validation if training.patience is not None or callbacks else None,
        validation_batch_size=PREDICT_BATCH,
        callbacks=own,
        verbose=0,
    )
    scores = score(model, data.task, data.validation)
    weights, epochs = get_weights(model, architecture), len(history.epoch)
    return Fit(weights, scores.metric, scores.loss, epochs, time.perf_counter() - began, scores.further, snapshot)


def _batched(data: Development, seed: int, training: Training) -> Any:
    """Return all batches of a training in the order of the engine, as a ``tf.data.Dataset``."""
    tf, count = tensorflow(), training.samples(len(data.train))
    order = [batches(count, training.batch_size, seed=seed, epoch=epoch) for epoch in range(training.epochs)]
    train = data.train
    parts = [tf.constant(part) for part in (train.x, data.task.targets(train.y), train.weight) if part is not None]

    def chosen(indices: Any) -> tuple[Any, ...]:
        present = indices[indices >= 0]
        return tuple(tf.gather(part, present) for part in parts)

    return tf.data.Dataset.from_tensor_slices(np.concatenate(order)).map(chosen)


def _wrapped(model: Model, pruning: Pruning) -> Model:
    """Put layers of a model into pruning wrappers. They hold the model's own layers: training one trains the other.

    Args:
        model: Model of :func:`kerasnac.adapters.keras.build.build`, with its weights.
        pruning: Schedules and masks by layer name; other layers are not wrapped.

    Returns:
        The model of wrapped layers.
    """
    import tensorflow_model_optimization as tfmot
    from tensorflow_model_optimization.python.core.sparsity.keras.pruning_wrapper import PruneLowMagnitude

    # A schedule that never asks for a new mask.
    fixed = tfmot.sparsity.keras.ConstantSparsity(0.5, begin_step=0, end_step=0, frequency=1)
    schedules: Mapping[str, Any] = {**dict.fromkeys(pruning.masks, fixed), **pruning.schedules}

    def wrap(layer: Any) -> Any:
        known = layer.name in schedules
        return tfmot.sparsity.keras.prune_low_magnitude(layer, schedules[layer.name]) if known else layer

    wrapped = tensorflow().keras.models.clone_model(model, clone_function=wrap)
    for wrapper in wrapped.layers:
        if isinstance(wrapper, PruneLowMagnitude):
            for _, mask, _ in wrapper.pruning_vars:
                mask.assign(pruning.masks.get(wrapper.layer.name, np.ones(mask.shape)))
            wrapper.pruning_obj.weight_mask_op()
            if isinstance(wrapper.layer, custom().Tables):
                _prune_whole_tables(wrapper.pruning_obj)
    return wrapped


def _prune_whole_tables(pruning: Any) -> None:
    """Let the masks of a layer's tables be made by their spreads, as :func:`kerasnac.core.network.weights.magnitudes` says.

    Args:
        pruning: TFMOT's ``Pruning`` of a layer of the kind, which makes masks by magnitude.
    """
    tf, by_magnitude = tensorflow(), pruning._update_mask

    def by_spread(kernel: Any) -> tuple[Any, Any]:
        threshold, mask = by_magnitude(tf.math.reduce_std(kernel, 0))
        return threshold, tf.broadcast_to(mask, kernel.shape)

    pruning._update_mask = by_spread


def compile_model(model: Model, task: Task, training: Training, *, steps: int, weighted: bool = False) -> None:
    """Compile a model with the loss of its task.

    Args:
        model: Model to compile.
        task: Classification with logits as outputs, or regression.
        training: Hyperparameters.
        steps: Length of the learning-rate schedule, in batches.
        weighted: True if samples of validation have weights.

    Raises:
        ConfigError: If the task cannot be trained so.
    """
    task.check(training)
    keras = tensorflow().keras
    rate = learning_rate(training, steps)
    optimizer = make_optimizer(training.optimizer, rate, training.weight_decay or None)
    plain: Any
    if not task.has_usual_loss:
        plain = keras_loss(task, 0.0)
        metric = keras.metrics.MeanMetricWrapper(plain, name="plain")
    elif task.classes:
        plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        metric = keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="plain")
    else:
        plain, metric = keras.losses.MeanSquaredError(), keras.metrics.MeanSquaredError(name="plain")
    loss, smoothing = plain, training.label_smoothing
    if smoothing:
        loss = _smoothed(task.outputs, smoothing) if task.has_usual_loss else keras_loss(task, smoothing)
    metrics = [] if _monitored(training, model) == "val_loss" else [metric]
    model.compile(optimizer, loss, weighted_metrics=metrics) if weighted else model.compile(optimizer, loss, metrics=metrics)


def _monitored(training: Training, model: Model) -> str:
    """Return the name of the loss that early stopping looks at: the one without penalties and label smoothing."""
    return "val_plain" if training.label_smoothing or model.losses else "val_loss"


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
