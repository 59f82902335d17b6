"""Magnitude pruning with the TensorFlow model optimisation toolkit."""

from __future__ import annotations

from typing import Any

from kerasnac.adapters.keras.build import build, set_weights
from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.adapters.keras.train import Fit, fit_model
from kerasnac.core.architecture import Architecture
from kerasnac.core.data import Development
from kerasnac.core.training import Training
from kerasnac.core.weights import Weights


def fit_pruned(
    architecture: Architecture,
    data: Development,
    training: Training,
    *,
    seed: int,
    trained: Weights,
    rewind: Weights,
    sparsity: float,
    prune_output: bool,
) -> Fit:
    """One iteration of iterative magnitude pruning (Frankle and Carbin, arXiv:1803.03635).

    The mask keeps the largest of the *trained* weights in every layer; the kept weights are then set back to
    ``rewind`` and trained with the mask fixed.

    Args:
        architecture: Quantized.
        data: The development splits.
        training: Hyperparameters.
        seed: Seed of the training.
        trained: Weights after the iteration before, already zero where it pruned.
        rewind: Weights to start from.
        sparsity: Fraction of every pruned kernel to be zero, at least that of ``trained``.
        prune_output: False leaves the last layer whole.
    """
    tf = tensorflow()
    import tensorflow_model_optimization as tfmot
    from tensorflow_model_optimization.python.core.sparsity.keras.pruning_wrapper import PruneLowMagnitude

    tf.keras.backend.clear_session()
    tf.keras.utils.set_random_seed(seed)
    model = build(architecture, dropout=training.dropout, l1=training.l1)
    set_weights(model, architecture, trained)
    # The mask is made once, here, at step 0; the schedule asks for no other, so it holds through the training.
    schedule = tfmot.sparsity.keras.ConstantSparsity(sparsity, begin_step=0, end_step=0, frequency=1)
    kernels = [name for name in architecture.names if f"{name}/kernel" in trained]
    chosen = set(kernels if prune_output else kernels[:-1])

    def wrap(layer: Any) -> Any:
        return tfmot.sparsity.keras.prune_low_magnitude(layer, schedule) if layer.name in chosen else layer

    # The wrappers hold the model's own layers: training the wrapped model trains the model.
    wrapped = tf.keras.models.clone_model(model, clone_function=wrap)
    wrappers = [layer for layer in wrapped.layers if isinstance(layer, PruneLowMagnitude)]
    for wrapper in wrappers:
        wrapper.pruning_step.assign(0)
        wrapper.pruning_obj.conditional_mask_update()
    set_weights(model, architecture, rewind)
    for wrapper in wrappers:
        wrapper.pruning_obj.weight_mask_op()
    return fit_model(model, architecture, data, training, trained=wrapped, callbacks=[tfmot.sparsity.keras.UpdatePruningStep()])
