"""Resources and latency of untrained networks, from the surrogate rule4ml (Rahimifar et al., arXiv:2408.05314).

rule4ml 0.2 predicts with graph networks what the HLS compiler reports for a project of hls4ml. The prediction is rough:
it knows the sizes of the layers, one bit width, the reuse factor and the strategy, but neither weights nor clock nor the
integer bits of the format. It is optional, licensed under the GPL 3, and brings PyTorch: nothing of it is imported before
the first estimate.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.keras.runtime import legacy_keras
from kerasnac.core.data.dataset import Development
from kerasnac.core.hardware.boards import RESOURCES, Board
from kerasnac.core.hardware.estimators import SOURCES
from kerasnac.core.network.architecture import Architecture, Node
from kerasnac.core.network.layers import Scalar, Unsupported
from kerasnac.core.network.precision import Precision
from kerasnac.core.settings import Rule4mlSettings
from kerasnac.core.space.blocks import Block, Choose, Residual
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.core.store.keys import content_key, decisive
from kerasnac.errors import ConfigError, EnvironmentProblem, SpaceError

#: Board -> the board that rule4ml was trained on. The Alveo cards carry the dies of the VU13P and VU9P: the same resources.
BOARDS: Mapping[str, str] = {
    "alveo-u250": "alveo-u250",
    "vu13p": "alveo-u250",
    "alveo-u200": "alveo-u200",
    "vu9p": "alveo-u200",
    "zcu102": "zcu102",
    "pynq-z2": "pynq-z2",
}

#: Versions of hls4ml and Vivado that rule4ml distinguishes.
HLS4ML = ("0.8.1", "1.1.0")
VIVADO = tuple(f"{year}.{release}" for year in range(2019, 2025) for release in (1, 2))

#: Its training data: widths of 2 to 16 bits, reuse factors of 1 to 4093 and dense layers of up to 128 x 128 weights
#: (wa-hls4ml, Hawks et al., arXiv:2511.05615; the older data of rule4ml stay within). Not far above that size the
#: predicted LUTs of a growing network fall, which a search would exploit.
WIDTHS = (2, 16)
MAX_REUSE_FACTOR = 4093
MAX_WEIGHTS = 128 * 128

#: Activations that it distinguishes; ``none`` is no layer of the firmware.
ACTIVATIONS = ("none", "relu", "tanh", "sigmoid")

#: Blocks with layers that it does not estimate.
_FOREIGN_BLOCKS = ("conv", "attention", "deep_sets", "transformer", "pool")

_ONE_WIDTH = "rule4ml sees one precision for the whole network, not the widths of single layers"

_INSTALL = "pip install torch==2.13.0 (the README says how to get the build without CUDA), then pip install 'rule4ml==0.2.*'"


class Rule4mlEstimator:
    """Estimator of resources, cycles and interval with rule4ml; see :class:`kerasnac.core.hardware.estimators.Estimator`.

    Args:
        settings: Precision, reuse factor, strategy, versions, and number of dropout samples.
        board: The board that the percentages refer to; one of :data:`BOARDS`.

    Raises:
        ConfigError: If rule4ml has no estimate for these settings or this board.
    """

    source = "rule4ml"

    def __init__(self, settings: Rule4mlSettings, board: Board) -> None:
        self.settings = settings
        self.board = board
        self.precision = Precision.parse(settings.precision)
        _check_settings(settings, board, self.precision)

    @property
    def key(self) -> str:
        return content_key(
            self.source,
            settings=decisive(self.settings, ("strategy", "reuse_factor", "hls4ml", "vivado", "samples")),
            precision=str(self.precision),
            board=BOARDS[self.board.name],
            resources=[getattr(self.board, resource) for resource in RESOURCES],
        )

    def check(self, space: SearchSpace) -> None:
        """Refuse a space with choices that rule4ml cannot estimate, before anything is estimated.

        Blocks of a user's own are not checked: a candidate with layers that rule4ml does not know is infeasible.

        Raises:
            SpaceError: Naming the choice and the reason.
            EnvironmentProblem: If rule4ml is missing.
        """
        for i, block in enumerate(space.expanded):
            for inner in _leaves(block):
                if inner.block in _FOREIGN_BLOCKS:
                    within = "" if inner is block else f" with {inner.block}"
                    raise SpaceError(f"block {i} ({block.block}){within}: rule4ml estimates fully connected networks only")
            for choice in block.choices():
                for value in choice.values:
                    if reason := _unknown_choice(choice.name, value):
                        raise SpaceError(f"block {i} ({block.block}), {choice.name} = {value}: {reason}")
        _require()

    def estimate(self, data: Development, architectures: Sequence[Architecture]) -> list[dict[str, float] | str]:
        """Estimate the costs of float architectures.

        Each is predicted on its own. rule4ml can predict many at once, but its graph norm then takes its mean and
        variance over the layers of all networks: the estimates of one change by tens of percent with the others.

        Args:
            data: Not used.
            architectures: Float architectures.

        Returns:
            For each one the metrics of :data:`SOURCES` by name, followed, with dropout samples, by their standard
            deviations over the samples as ``<metric>_spread``; or the reason why it cannot be estimated.
        """
        return [self.estimate_one(architecture) for architecture in architectures]

    def estimate_one(self, architecture: Architecture) -> dict[str, float] | str:
        """Estimate the costs of one architecture, as :meth:`estimate` does; formats of a quantized one are ignored."""
        return _unsupported_reason(architecture) or self._estimate(_on_a_vector(architecture))

    def _estimate(self, architecture: Architecture) -> dict[str, float]:
        features = self._features(architecture)
        (metrics,) = self._metrics(_predict(features))
        if self.settings.samples:
            # Copies of one network have one mean and variance, so they can be predicted at once.
            copies = features.iloc[[0] * self.settings.samples].reset_index(drop=True)
            samples = self._metrics(_predict(copies, dropout=True))
            metrics |= {f"{name}_spread": float(np.std([sample[name] for sample in samples])) for name in metrics}
        return metrics

    def _features(self, architecture: Architecture) -> Any:
        """Return the features that the graph networks read of a network, as a data frame of one row."""
        package, settings = _rule4ml(), self.settings
        layers = _layers(architecture, settings.reuse_factor)
        model = {"precision": str(self.precision), "reuse_factor": settings.reuse_factor, "strategy": settings.strategy}
        hls = {"model": model, "board": BOARDS[self.board.name]}
        whole = package.parser.get_global_inputs(layers, hls, hls4ml_version=settings.hls4ml, vivado_version=settings.vivado)
        any_predictor = next(iter(package.predictors.values()))
        return package.parser.to_dataframe(
            meta_data=[],
            global_inputs=[whole],
            sequential_inputs=[package.parser.get_layers_data(layers)],
            global_categorical_maps=any_predictor.global_categorical_maps,
            sequential_categorical_maps=any_predictor.sequential_categorical_maps,
            targets=[],
        )

    def _metrics(self, predicted: Mapping[str, NDArray[Any]]) -> list[dict[str, float]]:
        """Return the metrics of :data:`SOURCES` for every row of a prediction.

        The graph networks predict percentages of rule4ml's own table of boards, and rule4ml turns them into numbers. The
        percentages returned here are these numbers over the resources of :attr:`board`, as for all other estimates.

        Args:
            predicted: By metric of rule4ml, numbers of shape (rows,).
        """
        rows = []
        for i in range(len(predicted["lut"])):
            row = {name: float(values[i]) for name, values in predicted.items()}
            percents = [self.board.percent(resource, row[resource]) for resource in RESOURCES]
            row |= {f"{resource}_percent": share for resource, share in zip(RESOURCES, percents, strict=True)}
            row["average_percent"] = sum(percents) / len(percents)
            rows.append({name: row[name] for name in SOURCES["rule4ml"]})
        return rows


def _check_settings(settings: Rule4mlSettings, board: Board, precision: Precision) -> None:
    """Refuse settings that rule4ml was not trained with.

    Raises:
        ConfigError: Naming the setting and its limits.
    """
    low, high = WIDTHS
    if board.name not in BOARDS:
        raise ConfigError(f"rule4ml does not know the board {board.name}: one of {', '.join(BOARDS)}")
    if not precision.signed or precision.integer < 0 or not low <= precision.bits <= high:
        raise ConfigError(
            f"rule4ml: precision {precision} must be ap_fixed<bits,integer> with {low} to {high} bits and integer >= 0"
        )
    if settings.hls4ml not in HLS4ML:
        raise ConfigError(f"rule4ml does not know hls4ml {settings.hls4ml}: one of {', '.join(HLS4ML)}")
    if settings.vivado not in VIVADO:
        raise ConfigError(f"rule4ml does not know vivado {settings.vivado}: one of {', '.join(VIVADO)}")
    if settings.reuse_factor > MAX_REUSE_FACTOR:
        raise ConfigError(f"rule4ml: reuse_factor {settings.reuse_factor} is too large: at most {MAX_REUSE_FACTOR}")
    if settings.samples == 1:
        raise ConfigError("rule4ml: samples 1 has no spread: take at least 2, or 0 for none")


def _leaves(block: Block) -> Iterator[Block]:
    """Yield the blocks that a block is made of, down to those that are not made of others."""
    if isinstance(block, Choose):
        for option in block.options:
            yield from _leaves(option)
    elif isinstance(block, Residual):
        yield from _leaves(block.body)
    else:
        yield block


def _unknown_choice(name: str, value: Scalar) -> str:
    """Return the reason why rule4ml cannot estimate a value of a choice; empty if it may be able to."""
    choice = name.rsplit(".", 1)[-1]
    if choice in ("weight_bits", "activation_bits"):
        return f"{_ONE_WIDTH}; leave bit widths out of the space"
    if choice == "sparsity":
        return "rule4ml counts all weights, zeros too; leave sparsities out of the space"
    if choice == "activation" and value not in ACTIVATIONS:
        return f"rule4ml does not know this activation: one of {', '.join(ACTIVATIONS)}"
    if choice == "norm" and value == "layer":
        return "rule4ml does not know layer norms: none or batch"
    return ""


def _unsupported_reason(architecture: Architecture) -> str:
    """Return the reason why rule4ml cannot estimate a network; empty if it can."""
    if architecture.has_compression_params:
        return f"rule4ml: {_ONE_WIDTH}, nor their sparsities"
    for node in _on_a_vector(architecture).nodes:
        kind = node.layer.kind
        described = DESCRIPTIONS[kind]
        if isinstance(described, Unsupported):
            return f"rule4ml estimates fully connected networks only, without {node.name}: {described.reason}"
        if len(node.output) > 1:
            return f"rule4ml estimates fully connected networks only: it does not know {node.name} with output {node.output}"
        if kind == "activation" and node.layer["fn"] not in ACTIVATIONS:
            return f"rule4ml does not know the activation {node.layer['fn']} of {node.name}"
        if node.products and node.products.macs > MAX_WEIGHTS:
            return (
                f"rule4ml has never seen a layer as large as {node.name}: "
                f"{node.products.macs} weights, at most {MAX_WEIGHTS} (128 x 128)"
            )
    return ""


def _on_a_vector(architecture: Architecture) -> Architecture:
    """Return the network for samples that are cut and flattened already, which costs nothing on the chip."""
    cut = architecture.without_window()
    if cut.layers[0].kind != "flatten":
        return cut
    return Architecture((math.prod(cut.input_shape),), cut.layers[1:])


def _layers(architecture: Architecture, reuse_factor: int) -> list[dict[str, Any]]:
    """Describe the layers of a network as rule4ml's parser of Keras models does.

    The parser itself is not used: it draws random numbers, which TensorFlow refuses when it is deterministic, fails on
    linear activations, misses the operations of softmax layers, and runs six times per network.
    """
    shape = (None, *architecture.input_shape)
    inputs = _layer("InputLayer", shape, shape, reuse_factor)
    linear = ("fn", "none")  # rule4ml's parser skips these too: they are no layers of the firmware.
    return [inputs, *(_described(node, reuse_factor) for node in architecture.nodes if linear not in node.layer.params)]


def _described(node: Node, reuse_factor: int) -> dict[str, Any]:
    """Describe one layer with its sizes and parameters."""
    description, weights = DESCRIPTIONS[node.layer.kind], node.weights.values()
    assert not isinstance(description, Unsupported), node.name
    layer = _layer(description.name, (None, *node.shapes[0]), (None, *node.output), reuse_factor)
    layer["parameters"] = sum(math.prod(weight.shape) for weight in weights)
    layer["trainable_parameters"] = sum(math.prod(weight.shape) for weight in weights if weight.trainable)
    return layer | description.more(node, reuse_factor)


def _dense(node: Node, reuse_factor: int) -> dict[str, Any]:
    (inputs,), (units,) = node.shapes[0], node.output
    return {"neurons": units, "use_bias": True, "reuse_factor": _closest_reuse_factor(inputs, units, reuse_factor)}


@dataclass(frozen=True)
class _Description:
    """Description of the layers of a kind for rule4ml.

    Attributes:
        name: Its name for the kind.
        more: Further entries, from the node and the reuse factor.
    """

    name: str
    more: Callable[[Node, int], dict[str, Any]] = lambda node, reuse_factor: {}


_STREAMED = Unsupported("it has only seen streamed convolutions with reuse factors of 8192 and more (wa-hls4ml)")
_NEVER_SEEN = Unsupported("it has never seen one")

#: For every kind: its description for rule4ml.
DESCRIPTIONS: Mapping[str, _Description | Unsupported] = {
    "dense": _Description("Dense", _dense),
    "activation": _Description("Activation", lambda node, reuse_factor: {"activation": node.layer["fn"]}),
    "softmax": _Description("Activation", lambda node, reuse_factor: {"activation": "softmax"}),
    "batch_norm": _Description("BatchNormalization"),
    "scale": _Description("BatchNormalization"),
    "add": _Description("Add"),
    "conv1d": _STREAMED,
    "conv2d": _STREAMED,
    "layer_norm": _NEVER_SEEN,
    "matmul": _NEVER_SEEN,
    "concatenate": _NEVER_SEEN,
    "lookup": _NEVER_SEEN,
    "quantizer": _NEVER_SEEN,
    "tables": _NEVER_SEEN,
    **dict.fromkeys(("mask", "masked_mean", "masked_softmax"), _NEVER_SEEN),
    "pool": Unsupported("it pools maps, which convolutions make"),
    "reshape": Unsupported("it makes maps of vectors"),
    "flatten": Unsupported("it flattens maps, other than the samples"),
    "window": Unsupported("it cuts maps, other than the samples"),
}


def _layer(name: str, inputs: tuple[int | None, ...], outputs: tuple[int | None, ...], reuse_factor: int) -> dict[str, Any]:
    """Describe a layer without parameters.

    Args:
        name: rule4ml's name of the kind.
        inputs: Shape of a batch of inputs, None first.
        outputs: Shape of a batch of outputs, None first.
        reuse_factor: Reuse factor.
    """
    return {
        "class_name": name,
        "input_shape": inputs,
        "output_shape": outputs,
        "parameters": 0,
        "trainable_parameters": 0,
        "reuse_factor": reuse_factor,
    }


@cache
def _closest_reuse_factor(inputs: int, outputs: int, wanted: int) -> int:
    """Return the reuse factor that hls4ml would take; cached, since rule4ml tries all up to the number of weights."""
    return int(_rule4ml().closest_reuse_factor(inputs, outputs, wanted))


def _predict(features: Any, *, dropout: bool = False) -> dict[str, NDArray[Any]]:
    """Predict the metrics of rule4ml.

    Args:
        features: A data frame with one row per copy of one network.
        dropout: True for Monte-Carlo dropout, with the same masks for every network.

    Returns:
        Numbers by metric, shape (rows,).
    """
    with _reproducible():
        return {
            metric: predictor.predict_from_df(features.copy(), mc_dropout=dropout)[:, 0]
            for metric, predictor in _rule4ml().predictors.items()
        }


@contextmanager
def _reproducible() -> Iterator[None]:
    """Use one PyTorch thread and a fixed seed, and restore those of the user afterwards."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class _Package:
    """Parts of rule4ml that are used here.

    Attributes:
        parser: Its module that turns descriptions of layers into features.
        closest_reuse_factor: Its function of inputs, outputs and the wanted factor.
        predictors: Metric -> wrapper of the graph network that predicts it.
    """

    parser: Any
    closest_reuse_factor: Any
    predictors: Mapping[str, Any]


@cache
def _rule4ml() -> _Package:
    """Import rule4ml and load its networks, once per process.

    Raises:
        EnvironmentProblem: If it is missing, or another version.
    """
    _require()
    try:
        with legacy_keras(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch and tqdm warn about themselves.
            from rule4ml.models.wrappers import MultiModelWrapper
            from rule4ml.parsers import data_parser, utils
    except ImportError as error:
        raise EnvironmentProblem(f"rule4ml cannot be imported ({error}): {_INSTALL}") from error
    wrapper = MultiModelWrapper()
    wrapper.load_default_models()
    predictors = {label.lower(): predictor for label, predictor in wrapper._models.items()}
    return _Package(data_parser, utils.get_closest_reuse_factor, predictors)


def _require() -> None:
    """Check that rule4ml is installed, in a version whose estimates are known.

    Raises:
        EnvironmentProblem: If it is missing, or another version; says what to install.
    """
    try:
        version = metadata.version("rule4ml")
        metadata.version("torch")
    except metadata.PackageNotFoundError as error:
        raise EnvironmentProblem(f"rule4ml needs the package {error.name}: {_INSTALL}") from None
    if not version.startswith("0.2."):
        raise EnvironmentProblem(f"rule4ml {version} is installed, kerasnac needs 0.2: {_INSTALL}")
