"""Losses of samples, as TensorFlow operations that ``fit`` and the compiled training share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.core.data.dataset import Split
from kerasnac.core.data.losses import Loss
from kerasnac.core.data.task import Task
from kerasnac.errors import MetricError

Tensor = Any  # TensorFlow has no type stubs

#: Samples at once where nothing is trained.
_BATCH = 65_536

#: Samples on which a loss is tried.
_TRIED = 7


def sample_losses(loss: Loss, classes: int) -> Callable[[Tensor, Tensor, Any], Tensor]:
    """Return the function of a loss.

    Args:
        loss: The loss.
        classes: Number of classes; 0 if labels are none.

    Returns:
        A function of labels (samples,) or (samples, 1) or values (samples, values), of outputs (samples, outputs), float32, and
        of the fraction of a label that is spread over all classes, for :attr:`Loss.function` zero. It returns float32 of shape
        (samples,).

    Raises:
        MetricError: The function, if that of the loss raises, or does not return one number per sample.
    """
    tf = tensorflow()
    own = loss.function or getattr(tf.keras.losses, loss.name)
    arguments = {**({"from_logits": True} if loss.logits else {}), **dict(loss.options)}

    def losses(labels: Tensor, outputs: Tensor, smoothing: Any = 0.0) -> Tensor:
        if classes:
            labels = tf.cast(tf.reshape(labels, [-1]), tf.int32)
            if loss.function is None:
                labels = tf.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes
        try:
            found = own(labels, outputs, **arguments)
            shape = found.shape
        except Exception as error:
            raise MetricError(f"loss {loss.name}: its function raised {type(error).__name__}: {error}") from error
        if shape.rank == 0 or (shape[0] is not None and outputs.shape[0] is not None and shape[0] != outputs.shape[0]):
            raise MetricError(
                f"loss {loss.name}: its function returned shape {tuple(shape)} for {outputs.shape[0]} samples: it must return "
                "one number per sample, without a sum or mean over them"
            )
        found = tf.cast(found, tf.float32)
        return tf.reduce_mean(found, list(range(1, shape.rank))) if shape.rank > 1 else found

    return losses


def task_losses(task: Task) -> Callable[[Tensor, Tensor, Any], Tensor]:
    """Return the function of the loss of a task, see :func:`sample_losses`."""
    return sample_losses(task.loss, task.outputs if task.classes else 0)


def validation_loss(outputs: NDArray[Any], task: Task, split: Split) -> float:
    """Return the loss of outputs: its mean, weighted if the samples have weights, without penalties and smoothing.

    Args:
        outputs: float32, shape (samples, outputs).
        task: The task, with its loss.
        split: The samples.
    """
    if task.has_usual_loss:
        losses = _usual(outputs, task, split)
        return float(np.mean(losses)) if split.weight is None else _average(losses.reshape(len(split), -1).mean(1), split)
    tf, function, targets = tensorflow(), task_losses(task), task.targets(split.y)
    parts = (slice(i, i + _BATCH) for i in range(0, len(split), _BATCH))
    found = np.concatenate([function(tf.constant(targets[p]), tf.constant(outputs[p]), 0.0).numpy() for p in parts])
    return _average(found, split)


def try_loss(task: Task, split: Split) -> None:
    """Try a loss that is not the usual one on a few samples, since Keras would bury its errors in those of its graphs.

    Args:
        task: The task, with its loss.
        split: Gives the labels.

    Raises:
        MetricError: If its function raises, or does not return one number per sample.
    """
    if not task.has_usual_loss:
        labels = task.targets(split.y[:_TRIED])
        outputs = np.random.default_rng(0).normal(size=(len(labels), task.outputs)).astype(np.float32)
        task_losses(task)(tensorflow().constant(labels), tensorflow().constant(outputs), 0.0)


def _average(losses: NDArray[Any], split: Split) -> float:
    return float(np.average(losses.astype(np.float64), weights=split.weight))


def _usual(outputs: NDArray[Any], task: Task, split: Split) -> NDArray[Any]:
    """Return cross-entropies of the samples, or squared errors of their values."""
    if not task.classes:
        return np.asarray((outputs - task.targets(split.y)) ** 2)
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return np.asarray(-log_probability[np.arange(len(split)), split.y])


def keras_loss(task: Task, smoothing: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the loss of a task that is not the usual one, for ``compile`` of Keras."""
    function = task_losses(task)

    # Keras would rewrite the Python of the function, and lose its errors on the way.
    @tensorflow().autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def loss(labels: Tensor, outputs: Tensor) -> Tensor:
        return function(labels, outputs, smoothing)

    return loss  # type: ignore[no-any-return]
