"""Training of networks, with arrays in and arrays out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from kerasnac.adapters.keras.engine.trainer import train_compiled
from kerasnac.adapters.keras.losses import try_loss
from kerasnac.adapters.keras.member import Fit, Member
from kerasnac.adapters.keras.predict import activation_ranges
from kerasnac.adapters.keras.reference import fit_by_keras
from kerasnac.core.data.dataset import Development
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.mold import Mold, fitting, macs, molds
from kerasnac.core.network.quantization import quantize
from kerasnac.core.network.training import Training
from kerasnac.core.network.weights import Weights, fold
from kerasnac.core.network.widths import Width, Widths

#: Steps from which a training is compiled for a single network: Keras takes as long for them as the compilation. It pays sooner
#: for a network that is trained several times, and for one of QKeras, which takes Keras as long to begin with.
WORTH, WORTH_REPEATED, WORTH_QUANTIZED = 1000, 300, 300

#: What the padding of a shared form may cost, in multiply-accumulates of predictions: in a training, less than to compile
#: another one; in a step, less than what Keras needs to start it.
PADDING, PADDING_OF_STEP = 20e9, 10e6

#: Scores of float attentions in a step from which Keras is faster: TensorFlow's own kernels take two thirds of XLA's time for
#: them, which is more than Keras needs to start a step. (Of a quantized softmax they take twice the time.)
SCORES_OF_STEP = 400_000

#: Training samples on which activation ranges are measured.
CALIBRATION_SAMPLES = 8192


def train(member: Member, data: Development, mold: Mold | None = None, *, callbacks: Sequence[Any] = ()) -> Fit:
    """Train a network on the training split and score it on the validation split.

    The training is compiled for a mold, where a network has one; else it is left to ``fit`` of Keras. Both start with the
    same weights and see the same batches, and their results differ by rounding errors alone (and by the random numbers of a
    dropout).

    Args:
        member: The network.
        data: The development splits.
        mold: Form that many float networks share, of which this is one or the quantized form of one. Without, the network
            gets a form of its own, if its training is long enough for the compilation.
        callbacks: Callbacks of Keras; with any, the network is trained by ``fit``.

    Raises:
        ConfigError: If the task cannot be trained so, as a regression with label smoothing.
        MetricError: If a metric or the loss is a function of the user's that fails.
        ConversionError: If the architecture is quantized and has a norm.
    """
    data.task.check(member.training)
    try_loss(data.task, data.train)
    form = None if callbacks else _form(member, data, mold)
    return fit_by_keras(member, data, callbacks=callbacks) if form is None else train_compiled(member, data, form)


def _form(member: Member, data: Development, mold: Mold | None) -> Mold | None:
    """Return the form for which a training is compiled: the shared one, the network's own, or none."""
    architecture, training = member.architecture, member.training
    shared = None if mold is None else fitting([mold], architecture)
    own = next(iter(molds([architecture])), None)
    if own is None or (not architecture.quantized and _scores(architecture) * training.batch_size > SCORES_OF_STEP):
        return None
    samples = training.epochs * training.samples(len(data.train))
    if shared is not None:
        padding = macs(shared, architecture) - macs(own)
        if padding * samples < PADDING and padding * training.batch_size < PADDING_OF_STEP:
            return shared
    worth = WORTH_QUANTIZED if architecture.quantized else WORTH_REPEATED if member.repeated else WORTH
    return own if samples >= worth * training.batch_size else None


def _scores(architecture: Architecture) -> int:
    """Return the number of scores of all attentions of a network."""
    products = (node for node in architecture.nodes if node.layer.kind == "matmul" and node.layer["transpose"])
    return sum(math.prod(node.output) for node in products)


def fit(
    architecture: Architecture,
    data: Development,
    training: Training,
    *,
    seed: int,
    start: Weights | None = None,
    mold: Mold | None = None,
    repeated: bool = False,
    callbacks: Sequence[Any] = (),
) -> Fit:
    """Train a network without pruning, see :func:`train`.

    Training is in float32, also that of a quantized network whose firmware equals QKeras in float64: a gradient does not
    see the last bit of a sum. See :mod:`kerasnac.core.network.arithmetic`.

    Args:
        architecture: Float or quantized.
        data: The development splits.
        training: Hyperparameters.
        seed: Seed of initial weights, shuffling and dropout.
        start: Weights to start from, arrays keyed ``layer/part``; random ones by default.
        mold: See :func:`train`.
        repeated: See :class:`kerasnac.adapters.keras.member.Member`.
        callbacks: See :func:`train`.
    """
    return train(Member(architecture, training, seed, start, repeated=repeated), data, mold, callbacks=callbacks)


def quantized_start(
    architecture: Architecture,
    weights: Weights,
    data: Development,
    *,
    weight_bits: Width,
    activation_bits: int,
    clip_quantile: float,
    tie_free: bool = False,
) -> tuple[Architecture, Weights]:
    """Give a trained float network formats, and fold its batch norms and factors: the start of quantization-aware training.

    Args:
        architecture: Float.
        weights: Trained weights, arrays keyed ``layer/part``.
        data: The development splits; ranges are measured on the first training samples.
        weight_bits: Width of the kernels; a layer's own width wins.
        activation_bits: Width of the activations; a layer's own width wins.
        clip_quantile: Fraction of an activation's values that may exceed its format, at each end.
        tie_free: True for biases that keep sums off the ties of rounding.

    Returns:
        The quantized network, and its latent weights, in float32 and not rounded yet.

    Raises:
        ConfigError: If a width is too small.
        ConversionError: If a layer has no formats, as a layer norm, or a factor of scores cannot be folded.
    """
    folded, start = fold(architecture, weights)
    ranges = activation_ranges(folded, start, data.train.x[:CALIBRATION_SAMPLES], clip_quantile=clip_quantile)
    widths = Widths(weight_bits=weight_bits, activation_bits=activation_bits)
    return quantize(folded, start, ranges, input_grid=data.input_grid, **widths, tie_free=tie_free), start
