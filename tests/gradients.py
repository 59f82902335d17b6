"""One step of a network, computed by Keras and by the engine, operation by operation: nothing is compiled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.core.data.dataset import Development, Split, Task
from kerasnac.core.network.architecture import Architecture, Node
from kerasnac.core.network.cells import cells_of, table_bits
from kerasnac.core.network.mold import Mold, places
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.weights import Weights
from kerasnac.core.network.widths import Width, Widths

#: Format of the samples.
GRID = Precision(8, 3)

#: Rows of noise behind the samples, which the engine has to leave out.
ABSENT = 3


@dataclass(frozen=True)
class Computed:
    """Result of a step.

    Attributes:
        outputs: While training.
        gradients: Of the outputs, weighted by fixed random numbers, by trained array.
        statistics: New moving statistics.
        predictions: Outputs with the old statistics.
    """

    outputs: NDArray[Any]
    gradients: dict[str, NDArray[Any]]
    statistics: dict[str, NDArray[Any]]
    predictions: NDArray[Any]


def samples(architecture: Architecture, count: int = 7) -> tuple[NDArray[Any], NDArray[Any]]:
    """Samples on a grid, and the weights of their outputs."""
    rng = np.random.default_rng(11)
    x = GRID.quantize(rng.normal(size=(count, *architecture.input_shape)))
    return x.astype(np.float32), rng.normal(size=(count, *architecture.output_shape)).astype(np.float32)


def by_keras(architecture: Architecture, weights: Weights) -> Computed:
    """Let Keras compute a step."""
    from kerasnac.adapters.keras.build import build, get_weights, set_weights
    from kerasnac.adapters.keras.runtime import tensorflow

    tf, (x, upstream) = tensorflow(), samples(architecture)
    model = build(architecture)
    set_weights(model, architecture, weights)
    predictions = model(x).numpy()
    with tf.GradientTape() as tape:
        outputs = model(x, training=True)
        total = tf.reduce_sum(outputs * upstream)
    variables = {
        f"{node.name}/{part}": variable
        for node in architecture.nodes
        for part, variable in zip(
            [part for part, weight in node.weights.items() if weight.trainable],
            model.get_layer(node.name).trainable_weights,
            strict=True,
        )
    }
    gradients = tape.gradient(total, variables)
    after = get_weights(model, architecture)
    statistics = {key: value for key, value in after.items() if "/moving_" in key}
    return Computed(outputs.numpy(), {k: np.asarray(g) for k, g in gradients.items()}, statistics, predictions)


def by_engine(mold: Mold, architecture: Architecture, weights: Weights) -> Computed:
    """Let the engine compute a step, with some rows of noise more."""
    from kerasnac.adapters.keras.engine.forward import Step, outputs
    from kerasnac.adapters.keras.engine.padding import Fitted
    from kerasnac.adapters.keras.runtime import tensorflow

    tf, (x, upstream) = tensorflow(), samples(architecture)
    fitted, at = Fitted(mold, architecture), places(mold)
    bits = table_bits(cells_of(architecture))
    choices = [{name: tf.constant(v) for name, v in own.items()} for own in fitted.choices(max(8, bits) if bits else 0)]
    padded = {key: tf.constant(value) for key, value in fitted.pad(weights).items()}
    predictions = outputs(at, padded, choices, tf.constant(x), quantized=mold.quantized)
    noise = np.random.default_rng(12).normal(size=(ABSENT, *architecture.input_shape)).astype(np.float32)
    present = tf.constant([1.0] * len(x) + [0.0] * ABSENT)
    step = Step(present, {})
    trained = {key: value for key, value in padded.items() if "/moving_" not in key}
    with tf.GradientTape() as tape:
        tape.watch(trained)
        found = outputs(
            at, {**padded, **trained}, choices, tf.constant(np.concatenate([x, noise])), quantized=mold.quantized, step=step
        )
        total = tf.reduce_sum(found[: len(x)] * upstream)
    gradients = {key: value.numpy() for key, value in tape.gradient(total, trained, unconnected_gradients="zero").items()}
    statistics = {key: value.numpy() for key, value in step.statistics.items()}
    return Computed(found[: len(x)].numpy(), fitted.unpad(gradients), fitted.unpad(statistics), predictions.numpy())


def assert_alike(architecture: Architecture, mold: Mold, weights: Weights) -> None:
    """Check that a step of a network in a mold is that of Keras, but for rounding errors."""
    reference, engine = by_keras(architecture, weights), by_engine(mold, architecture, weights)
    for ours, theirs in (
        ({"outputs": engine.outputs}, {"outputs": reference.outputs}),
        ({"predictions": engine.predictions}, {"predictions": reference.predictions}),
        (engine.statistics, reference.statistics),
        (engine.gradients, reference.gradients),
    ):
        assert ours.keys() == theirs.keys()
        # Some gradients are zero but for rounding errors: those of a bias before a batch norm.
        largest = max((float(np.abs(values).max()) for values in theirs.values()), default=0.0)
        for key, values in theirs.items():
            assert np.isfinite(values).all()
            assert ours[key].shape == values.shape
            np.testing.assert_allclose(ours[key], values, rtol=2e-4, atol=1e-5 * largest, err_msg=key)


def formatted(
    architecture: Architecture,
    weights: Weights,
    bits: int = 6,
    weight_bits: Width | None = None,
    *,
    scales: bool = False,
    tie_free: bool = False,
) -> tuple[Architecture, Weights]:
    """Quantize a network; batch norms that cannot be folded are left out, unless they are to be scales."""
    from kerasnac.adapters.keras.train import quantized_start

    kernels = {-1: False} | {i: "kernel" in node.weights for i, node in enumerate(architecture.nodes)}

    def kept(node: Node) -> bool:
        return scales or node.layer.kind != "batch_norm" or kernels[node.inputs[0]]

    plain = architecture.rewritten(lambda node: (node.layer,) if kept(node) else ())
    x, _ = samples(architecture, 60)
    split = Split(x, np.arange(60) % architecture.output_shape[0])
    data = Development("noise", Task("classification", architecture.output_shape[0]), GRID, split, split)
    widths = Widths(weight_bits=weight_bits or bits, activation_bits=bits)
    return quantized_start(plain, weights, data, **widths, clip_quantile=1e-3, tie_free=tie_free)
