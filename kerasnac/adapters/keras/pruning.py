"""Magnitude pruning with the TensorFlow model optimisation toolkit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.keras.build import Model, get_weights, set_weights
from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.adapters.keras.train import Fit, fit_model, fresh_model
from kerasnac.core.data.dataset import Development
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import Unsupported
from kerasnac.core.network.training import Training
from kerasnac.core.network.weights import Weights
from kerasnac.core.settings import Ranking

#: How often a gradual pruning makes its masks anew, about.
MASKS = 50

_NO_WEIGHTS = Unsupported("it has no weights")
_CHANNELWISE = Unsupported("its gains and offsets save no multiplication by being zero")

#: For every kind: its weight array that is pruned.
PRUNED: Mapping[str, str | Unsupported] = {
    "dense": "kernel",
    "conv1d": "kernel",
    "conv2d": "kernel",
    "batch_norm": _CHANNELWISE,
    "layer_norm": _CHANNELWISE,
    "matmul": Unsupported("both factors are activations"),
    "add": _NO_WEIGHTS,
    "activation": _NO_WEIGHTS,
    "softmax": _NO_WEIGHTS,
    "flatten": _NO_WEIGHTS,
    "reshape": _NO_WEIGHTS,
    "pool": _NO_WEIGHTS,
    "window": _NO_WEIGHTS,
}


def prunable_kernels(architecture: Architecture, weights: Weights, *, prune_output: bool) -> dict[str, NDArray[Any]]:
    """Return the kernels that pruning may set to zero.

    Args:
        architecture: Float or quantized.
        weights: Its weights, arrays keyed ``layer/part``.
        prune_output: False leaves out the last layer with a kernel.

    Returns:
        By layer name, the arrays of ``weights`` themselves.
    """
    parts = {node.name: PRUNED[node.layer.kind] for node in architecture.nodes}
    kernels = {name: weights[f"{name}/{part}"] for name, part in parts.items() if not isinstance(part, Unsupported)}
    return kernels if prune_output else dict(list(kernels.items())[:-1])


def pruned_fractions(kernels: Mapping[str, NDArray[Any]], sparsity: float, ranking: Ranking) -> dict[str, float]:
    """Return the fraction to prune of every kernel.

    Args:
        kernels: Latent kernels by layer name, in any shapes; their plain magnitudes are compared, with no scale by layer.
        sparsity: Fraction of all weights to prune.
        ranking: ``layer`` prunes this fraction of each kernel, ``global`` all weights below one threshold. A kernel keeps
            at least one weight, so that no layer is cut in two.

    Returns:
        A fraction from 0 to below 1 by layer name.
    """
    if ranking == "layer" or not kernels:
        return dict.fromkeys(kernels, sparsity)
    magnitudes = np.sort(np.concatenate([np.abs(kernel).ravel() for kernel in kernels.values()]))
    threshold = magnitudes[-max(1, round((1 - sparsity) * magnitudes.size))]
    return {name: min(float(np.mean(np.abs(k) < threshold)), 1 - 1 / k.size) for name, k in kernels.items()}


def fit_with_snapshot(
    architecture: Architecture, data: Development, training: Training, *, seed: int, start: Weights, snapshot_epoch: int
) -> tuple[Fit, dict[str, NDArray[np.float32]]]:
    """Train a network as :func:`kerasnac.adapters.keras.train.fit` does, and keep the weights of an early epoch too.

    Args:
        architecture: Quantized.
        data: The development splits.
        training: Hyperparameters.
        seed: Seed of the training.
        start: Weights to start from, arrays keyed ``layer/part``.
        snapshot_epoch: Number of epochs after which the weights are copied, at most all.

    Returns:
        The training, and the weights after so many of its epochs.
    """
    model = fresh_model(architecture, training, seed=seed, start=start)
    snapshot: dict[str, NDArray[np.float32]] = {}

    def copy_weights(epoch: int, logs: Any) -> None:
        if epoch + 1 == snapshot_epoch:
            snapshot.update(get_weights(model, architecture))

    callback = tensorflow().keras.callbacks.LambdaCallback(on_epoch_end=copy_weights)
    return fit_model(model, architecture, data, training, callbacks=[callback]), snapshot


def fit_pruned(
    architecture: Architecture,
    data: Development,
    training: Training,
    *,
    seed: int,
    start: Weights,
    trained: Weights,
    fractions: Mapping[str, float],
) -> Fit:
    """Prune at once, then train: one iteration of iterative magnitude pruning (Frankle and Carbin, arXiv:1803.03635).

    The mask keeps the largest of the ``trained`` weights; the kept weights are then set to ``start`` and trained with the
    mask fixed. Weights that are zero in ``trained`` stay pruned: masks are nested.

    Args:
        architecture: Quantized.
        data: The development splits.
        training: Hyperparameters.
        seed: Seed of the training.
        start: Weights to start from, arrays keyed ``layer/part``: ``trained`` itself for fine-tuning.
        trained: Weights after the iteration before, likewise, already zero where it pruned.
        fractions: Fraction of zeros of every pruned kernel, by layer name: at least that of ``trained``, which stay zero
            if it is less. See :func:`pruned_fractions`.
    """
    from tensorflow_model_optimization.sparsity.keras import ConstantSparsity

    model = fresh_model(architecture, training, seed=seed, start=trained)
    # The mask is made once, here, at step 0; the schedule asks for no other, so it holds through the training.
    schedules = {n: ConstantSparsity(s, begin_step=0, end_step=0, frequency=1) for n, s in fractions.items()}
    wrapped, wrappers = _wrapped(model, schedules)
    for wrapper in wrappers:
        wrapper.pruning_step.assign(0)
        wrapper.pruning_obj.conditional_mask_update()
        # The toolkit keeps every weight that equals its threshold, and zeros may.
        for weight, mask, _ in wrapper.pruning_vars:
            mask.assign(np.where(weight.numpy() == 0, 0, mask.numpy()))
    set_weights(model, architecture, start)
    for wrapper in wrappers:
        wrapper.pruning_obj.weight_mask_op()
    return _fit(model, wrapped, architecture, data, training)


def fit_gradually_pruned(
    architecture: Architecture,
    data: Development,
    training: Training,
    *,
    seed: int,
    start: Weights,
    fractions: Mapping[str, float],
) -> Fit:
    """Prune while training, from nothing to the target (Zhu and Gupta, arXiv:1710.01878).

    The sparsity rises as a cubic polynomial over the first half of the steps; in the second half the mask is fixed.

    Args:
        architecture: Quantized.
        data: The development splits.
        training: Hyperparameters.
        seed: Seed of the training.
        start: Weights to start from, arrays keyed ``layer/part``.
        fractions: Final fraction of zeros of every pruned kernel, by layer name.
    """
    from tensorflow_model_optimization.sparsity.keras import PolynomialDecay

    model = fresh_model(architecture, training, seed=seed, start=start)
    steps = training.epochs * -(-max(1, round(training.data_fraction * len(data.train))) // training.batch_size)
    half = max(1, steps // 2)
    frequency = max(1, half // MASKS)
    end = half - half % frequency  # The last mask is made at the very end of the schedule: it has the final sparsity.
    schedules = {name: PolynomialDecay(0.0, s, 0, end, frequency=frequency) for name, s in fractions.items()}
    wrapped, _ = _wrapped(model, schedules)
    return _fit(model, wrapped, architecture, data, training)


def fit_masked(architecture: Architecture, data: Development, training: Training, *, seed: int, start: Weights) -> Fit:
    """Train a network whose zeros stay zeros.

    Args:
        architecture: Quantized.
        data: The development splits.
        training: Hyperparameters.
        seed: Seed of the training.
        start: Weights to start from, arrays keyed ``layer/part``; the zeros of their kernels are the mask.
    """
    fractions = dict.fromkeys(prunable_kernels(architecture, start, prune_output=True), 0.0)
    return fit_pruned(architecture, data, training, seed=seed, start=start, trained=start, fractions=fractions)


def _wrapped(model: Model, schedules: Mapping[str, Any]) -> tuple[Model, list[Any]]:
    """Put layers of a model into pruning wrappers. They hold the model's own layers: training one trains the other.

    Args:
        model: Model of :func:`kerasnac.adapters.keras.build.build`.
        schedules: TFMOT's pruning schedules by layer name; other layers are not wrapped.

    Returns:
        The model of wrapped layers, and the wrappers.
    """
    import tensorflow_model_optimization as tfmot
    from tensorflow_model_optimization.python.core.sparsity.keras.pruning_wrapper import PruneLowMagnitude

    def wrap(layer: Any) -> Any:
        known = layer.name in schedules
        return tfmot.sparsity.keras.prune_low_magnitude(layer, schedules[layer.name]) if known else layer

    wrapped = tensorflow().keras.models.clone_model(model, clone_function=wrap)
    return wrapped, [layer for layer in wrapped.layers if isinstance(layer, PruneLowMagnitude)]


def _fit(model: Model, wrapped: Model, architecture: Architecture, data: Development, training: Training) -> Fit:
    """Train a wrapped model and score the one in it; arguments as for :func:`_wrapped` and ``fit_model``."""
    from tensorflow_model_optimization.sparsity.keras import UpdatePruningStep

    # Without this callback the last step of a training would leave pruned weights other than zero.
    return fit_model(model, architecture, data, training, trained=wrapped, callbacks=[UpdatePruningStep()])
