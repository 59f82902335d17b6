"""Magnitude pruning with the TensorFlow model optimisation toolkit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.keras.member import Fit, Member, Pruning, kernel_mask
from kerasnac.adapters.keras.train import train
from kerasnac.core.data.dataset import Development
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import Unsupported
from kerasnac.core.network.mold import Mold
from kerasnac.core.network.training import Training
from kerasnac.core.network.weights import Weights, magnitudes
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
    "tables": "kernel",
    "batch_norm": _CHANNELWISE,
    "scale": _CHANNELWISE,
    "layer_norm": _CHANNELWISE,
    "concatenate": _NO_WEIGHTS,
    "lookup": Unsupported("the entries of its table save no multiplication by being zero"),
    "quantizer": Unsupported("it has no weights"),
    "matmul": Unsupported("both factors are activations"),
    "add": _NO_WEIGHTS,
    "activation": _NO_WEIGHTS,
    "softmax": _NO_WEIGHTS,
    "mask": _NO_WEIGHTS,
    "masked_mean": _NO_WEIGHTS,
    "masked_softmax": _NO_WEIGHTS,
    "flatten": _NO_WEIGHTS,
    "reshape": _NO_WEIGHTS,
    "pool": _NO_WEIGHTS,
    "window": _NO_WEIGHTS,
}


def prunable_kernels(architecture: Architecture, weights: Weights, *, prune_output: bool) -> dict[str, NDArray[Any]]:
    """Return the kernels that pruning may set to zero: none that are binary, which have no zeros.

    Args:
        architecture: Float or quantized.
        weights: Its weights, arrays keyed ``layer/part``.
        prune_output: False leaves out the last layer with a kernel.

    Returns:
        By layer name, the arrays of ``weights`` themselves, or the spreads of the tables in them, which are pruned as a whole.
    """
    parts = [(node, PRUNED[node.layer.kind]) for node in architecture.nodes]
    pruned = [(node, part) for node, part in parts if not isinstance(part, Unsupported)]
    kept = pruned if prune_output else pruned[:-1]
    kernels = {node: weights[f"{node.name}/{part}"] for node, part in kept if not node.layer.binary()}
    return {node.name: magnitudes(node.layer, k) if node.layer.kind == "tables" else k for node, k in kernels.items()}


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


def fit_pruned(
    architecture: Architecture,
    data: Development,
    training: Training,
    *,
    seed: int,
    start: Weights,
    trained: Weights,
    fractions: Mapping[str, float],
    mold: Mold | None = None,
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
        mold: See :func:`kerasnac.adapters.keras.train.train`.
    """
    layers = dict(zip(architecture.names, architecture.layers, strict=True))
    masks = {name: kernel_mask(layers[name], trained[f"{name}/kernel"], fraction) for name, fraction in fractions.items()}
    return train(Member(architecture, training, seed, start, Pruning(masks)), data, mold)


def fit_gradually_pruned(
    architecture: Architecture,
    data: Development,
    training: Training,
    *,
    seed: int,
    start: Weights,
    fractions: Mapping[str, float],
    mold: Mold | None = None,
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
        mold: See :func:`kerasnac.adapters.keras.train.train`.
    """
    from tensorflow_model_optimization.sparsity.keras import PolynomialDecay

    steps = training.epochs * training.steps(len(data.train))
    half = max(1, steps // 2)
    frequency = max(1, half // MASKS)
    end = half - half % frequency  # The last mask is made at the very end of the schedule: it has the final sparsity.
    schedules = {name: PolynomialDecay(0.0, s, 0, end, frequency=frequency) for name, s in fractions.items()}
    return train(Member(architecture, training, seed, start, Pruning(schedules=schedules)), data, mold)


def fit_masked(
    architecture: Architecture,
    data: Development,
    training: Training,
    *,
    seed: int,
    start: Weights,
    mold: Mold | None = None,
) -> Fit:
    """Train a network whose zeros stay zeros.

    Args:
        architecture: Quantized.
        data: The development splits.
        training: Hyperparameters.
        seed: Seed of the training.
        start: Weights to start from, arrays keyed ``layer/part``; the zeros of their kernels are the mask.
        mold: See :func:`kerasnac.adapters.keras.train.train`.
    """
    fractions = dict.fromkeys(prunable_kernels(architecture, start, prune_output=True), 0.0)
    return fit_pruned(architecture, data, training, seed=seed, start=start, trained=start, fractions=fractions, mold=mold)
