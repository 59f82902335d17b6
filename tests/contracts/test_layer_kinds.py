"""Every part of the house has an entry for every kind of layer: a rule, or the reason why there is none.

A new kind enters :data:`KINDS`, :data:`EXAMPLES` and the tables of :data:`TABLES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kerasnac.adapters import rule4ml
from kerasnac.adapters.hls4ml import backends, conversion
from kerasnac.adapters.keras import build, pruning
from kerasnac.adapters.keras.learned import forward
from kerasnac.adapters.keras.predict import activation_ranges, predict
from kerasnac.adapters.rtl.adder_graph import EXPECTED_LUTS, unroll
from kerasnac.adapters.rtl.layer_rules import RULES
from kerasnac.core.hardware.hls_options import HlsOptions
from kerasnac.core.network import bops, exactness, quantization
from kerasnac.core.network.architecture import Architecture, Node
from kerasnac.core.network.channel_formats import quantizer
from kerasnac.core.network.kinds import KINDS
from kerasnac.core.network.layers import LayerSpec, Unsupported
from kerasnac.core.network.learned import LEARNED_KINDS, with_places
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.network.weights import Weights
from kerasnac.core.space.layer_bits import layer_bits
from kerasnac.errors import ConversionError

#: What is done for a kind -> its table; an entry is a rule, or says why there is none.
TABLES: Mapping[str, Mapping[str, object]] = {
    "shapes": KINDS,
    "BOPs": bops.SECOND_FACTORS,
    "quantization": quantization.QUANTIZED,
    "formats": exactness.OUTPUT_FORMATS,
    "Keras": build.FLOAT,
    "QKeras": build.QUANTIZED,
    "pruning": pruning.PRUNED,
    "hls4ml": conversion.PRECISIONS,
    "backends": backends.LACKING,
    "adder graph": RULES,
    "LUTs": EXPECTED_LUTS,
    "rule4ml": rule4ml.DESCRIPTIONS,
}

GRID = Precision(6, 2)
VECTOR, SERIES, MAP = (4,), (4, 2), (4, 4, 1)

MASKED_SOFTMAX = LayerSpec.of("masked_softmax", inputs=(-1, -2))

#: Kind -> shape of the samples and layers, one of them of the kind.
EXAMPLES: Mapping[str, Architecture] = {
    "dense": Architecture(VECTOR, (LayerSpec.of("dense", units=2),)),
    "conv1d": Architecture(SERIES, (LayerSpec.of("conv1d", filters=2, kernel=2, stride=1, padding="valid"),)),
    "conv2d": Architecture(MAP, (LayerSpec.of("conv2d", filters=2, kernel=2, stride=1, padding="same"),)),
    "matmul": Architecture(SERIES, (LayerSpec.of("matmul", transpose=True, inputs=(-1, -1)),)),
    "add": Architecture(VECTOR, (LayerSpec.of("add", inputs=(-1, -1)),)),
    "concatenate": Architecture(VECTOR, (LayerSpec.of("concatenate", inputs=(-1, -1)),)),
    "lookup": Architecture(VECTOR, (replace(LayerSpec.of("lookup", bits=6), activation=Precision(5, 2)),)),
    "quantizer": Architecture(VECTOR, (quantizer([Precision(4, 2), None, Precision(3, 1), GRID], "half_up", signed=True),)),
    "scale": Architecture(VECTOR, (LayerSpec.of("scale"), LayerSpec.of("dense", units=2))),
    "tables": Architecture(VECTOR, (LayerSpec.of("tables", units=3, grid="ap_fixed<5,2>"),)),
    "batch_norm": Architecture(VECTOR, (LayerSpec.of("batch_norm"),)),
    "layer_norm": Architecture(VECTOR, (LayerSpec.of("layer_norm", axes="all"),)),
    "activation": Architecture(VECTOR, (LayerSpec.of("activation", fn="tanh"),)),
    "softmax": Architecture(VECTOR, (LayerSpec.of("softmax"),)),
    "mask": Architecture(SERIES, (LayerSpec.of("mask"), LayerSpec.of("flatten"))),
    "masked_mean": Architecture(SERIES, (LayerSpec.of("mask"), LayerSpec.of("masked_mean", inputs=(-2, -1)))),
    "masked_softmax": Architecture(
        SERIES, (LayerSpec.of("mask"), LayerSpec.of("reshape", shape=(2, 4), inputs=(-2,)), MASKED_SOFTMAX)
    ),
    "flatten": Architecture(MAP, (LayerSpec.of("flatten"),)),
    "reshape": Architecture(VECTOR, (LayerSpec.of("reshape", shape=(2, 2)),)),
    "pool": Architecture(MAP, (LayerSpec.of("pool", op="mean", size=2),)),
    "window": Architecture(SERIES, (LayerSpec.of("window", start=1, length=2), LayerSpec.of("flatten"))),
}

every_kind = pytest.mark.parametrize("kind", KINDS)


def matrix(tables: Mapping[str, Mapping[str, object]]) -> str:
    """Kinds by tables: a rule is ``+``, a reason ``-``, a missing entry ``MISSING``."""

    def cell(table: Mapping[str, object], kind: str) -> str:
        return "MISSING" if kind not in table else "-" if isinstance(table[kind], Unsupported) else "+"

    rows = [f"{kind:10}" + "".join(f"{cell(table, kind):^14}" for table in tables.values()) for kind in KINDS]
    return "\n".join(["", " " * 10 + "".join(f"{name:^14}" for name in tables), *rows])


def name_of(kind: str) -> str:
    return f"{kind}_0"


def node_of(network: Architecture, kind: str) -> Node:
    """The last layer of the kind: quantization puts an activation before one that is a table."""
    return [node for node in network.nodes if node.layer.kind == kind][-1]


def weights_of(network: Architecture) -> Weights:
    rng = np.random.default_rng(0)
    shapes = {f"{node.name}/{part}": weight.shape for node in network.nodes for part, weight in node.weights.items()}
    return {name: np.abs(rng.normal(0.5, 0.2, shape)).astype(np.float32) for name, shape in shapes.items()}


def samples(network: Architecture, count: int = 8) -> NDArray[np.float32]:
    return GRID.quantize(np.random.default_rng(1).normal(size=(count, *network.input_shape))).astype(np.float32)


def quantized(network: Architecture) -> Architecture:
    ranges = activation_ranges(network, weights_of(network), samples(network), clip_quantile=0)
    return quantization.quantize(network, weights_of(network), ranges, input_grid=GRID, weight_bits=4, activation_bits=4)


def on_a_grid(network: Architecture) -> Architecture:
    """The network, quantized; with the formats of its input alone where it has no others."""
    try:
        return quantized(network)
    except ConversionError:
        return Architecture(network.input_shape, network.layers, GRID)


@pytest.mark.parametrize("name", TABLES)
def test_every_table_has_an_entry_for_every_kind(name: str) -> None:
    assert not set(KINDS) ^ set(TABLES[name]), matrix(TABLES)


@pytest.mark.parametrize("name", TABLES)
def test_every_reason_is_a_sentence(name: str) -> None:
    reasons = [entry.reason for entry in TABLES[name].values() if isinstance(entry, Unsupported)]
    assert all(len(reason.split()) > 2 for reason in reasons), reasons


def test_a_missing_entry_is_shown() -> None:
    table = {kind: entry for kind, entry in build.FLOAT.items() if kind != "pool"}
    row = next(line for line in matrix({"Keras": table}).splitlines() if line.startswith("pool"))
    assert row.split() == ["pool", "MISSING"]


def holds(entry: object, deed: Callable[[], object], kind: str) -> None:
    """A rule works; what has none is refused with the name of the layer and the reason."""
    if not isinstance(entry, Unsupported):
        deed()
        return
    with pytest.raises(ConversionError) as caught:
        deed()
    assert str(caught.value) == f"{name_of(kind)}: {entry.reason}"


@every_kind
def test_bops_are_counted_or_not(kind: str) -> None:
    counted = {row.layer for row in bops.costs(EXAMPLES[kind])}
    node = node_of(EXAMPLES[kind], kind)
    unsupported = isinstance(bops.SECOND_FACTORS[kind], Unsupported)
    assert (name_of(kind) in counted) == (node.products is not None) == (not unsupported)


@every_kind
def test_widths_are_learned_or_refused(kind: str) -> None:
    assert (kind in forward.RULES) == (kind in LEARNED_KINDS)
    if kind not in (*LEARNED_KINDS, "batch_norm"):  # A batch norm is folded before.
        with pytest.raises(ConversionError, match="_0: widths are not learned for layers of kind"):
            with_places(EXAMPLES[kind])
    elif kind in (*exactness.KERNEL_KINDS, "tables"):
        layers = [layer.kind for layer in with_places(EXAMPLES[kind]).layers]
        assert layers == ["activation", kind]


@every_kind
def test_networks_are_quantized_or_refused(kind: str) -> None:
    holds(quantization.QUANTIZED[kind], lambda: quantized(EXAMPLES[kind]), kind)


@every_kind
def test_layers_with_formats_of_their_own_are_those_with_widths(kind: str) -> None:
    if isinstance(quantization.QUANTIZED[kind], Unsupported) or kind == "masked_mean":
        return  # The bits of reciprocals follow from those of the result.
    node = node_of(quantized(EXAMPLES[kind]), kind)
    formats = node.layer.weight is not None or node.layer.activation is not None
    assert formats == (name_of(kind) in layer_bits(EXAMPLES[kind], weight_bits=4, activation_bits=4))


@every_kind
def test_formats_are_proved_or_refused(kind: str) -> None:
    network = on_a_grid(EXAMPLES[kind])
    holds(exactness.OUTPUT_FORMATS[kind], lambda: exactness.output_formats(network, weights_of(EXAMPLES[kind])), kind)


@every_kind
def test_float_networks_are_built(kind: str) -> None:
    network = EXAMPLES[kind]

    def compute() -> None:
        assert predict(network, weights_of(network), samples(network)).shape == (8, *network.output_shape)

    holds(build.FLOAT[kind], compute, kind)


@every_kind
def test_quantized_networks_are_built_or_refused(kind: str) -> None:
    holds(build.QUANTIZED[kind], lambda: build.build(on_a_grid(EXAMPLES[kind])), kind)


@every_kind
def test_weights_that_save_operations_are_pruned(kind: str) -> None:
    network, part = EXAMPLES[kind], pruning.PRUNED[kind]
    node = node_of(network, kind)
    prunable = [name for name, weight in node.weights.items() if weight.prunable]
    assert prunable == ([] if isinstance(part, Unsupported) else [part])
    assert (name_of(kind) in pruning.prunable_kernels(network, weights_of(network), prune_output=True)) == bool(prunable)


@every_kind
def test_what_hls4ml_cannot_convert_is_refused(kind: str, tmp_path: Path) -> None:
    entry = conversion.PRECISIONS[kind]
    network = on_a_grid(EXAMPLES[kind])
    if not isinstance(entry, Unsupported):
        formats = exactness.output_formats(network, weights_of(EXAMPLES[kind]))
        node = node_of(network, kind)
        assert entry(node, formats[node.name])["result"].startswith(str(formats[node.name])[:-1])
        return
    model = Trained("example", network, weights_of(EXAMPLES[kind]), Training(), {}, 0)
    with pytest.raises(ConversionError, match=name_of(kind)):
        conversion.convert(model, HlsOptions(part="xcvu13p-flga2577-2-e"), folder=tmp_path)


@every_kind
def test_backends_have_a_layer_or_it_is_refused(kind: str) -> None:
    network, entry, options = on_a_grid(EXAMPLES[kind]), backends.LACKING[kind], HlsOptions(part="", backend="Catapult")
    node = node_of(network, kind)
    if isinstance(entry, Unsupported) or entry(node, options):
        with pytest.raises(ConversionError, match=name_of("mask") if kind.startswith("mask") else node.name):
            backends.check_layers(network, options)
    else:
        backends.check_layers(network, options)


@every_kind
def test_adder_graphs_are_equal_to_keras_or_refused(kind: str) -> None:
    pytest.importorskip("da4ml")
    network, weights = on_a_grid(EXAMPLES[kind]), weights_of(EXAMPLES[kind])
    if kind == "window":  # Left out: the graph reads samples that are cut to it.
        return
    x = samples(network)

    def compare() -> None:
        graph = unroll(network, weights)
        np.testing.assert_array_equal(graph.predict(x), predict(network, weights, x).reshape(len(x), -1))

    holds(RULES[kind], compare, kind)


@every_kind
def test_rule4ml_estimates_or_gives_the_reason(kind: str) -> None:
    reason, entry = rule4ml._unsupported_reason(EXAMPLES[kind]), rule4ml.DESCRIPTIONS[kind]
    if kind in ("activation", "flatten", "window"):
        assert not reason  # Samples are cut and flattened before they reach the network.
    elif isinstance(entry, Unsupported):
        assert name_of("mask" if kind.startswith("mask") else kind) in reason
        assert entry.reason in reason
    else:
        assert not reason
