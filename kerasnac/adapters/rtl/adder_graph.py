"""Networks as adder graphs with da4ml: every multiplication by a weight unrolled into shifts and additions.

The graph is what an FPGA computes in one pass, one new sample per clock cycle and no multiplier or memory for the
weights. It is made from the formats and weights of a quantized network, and computes the numbers that Keras does.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.rtl.causes import ledger
from kerasnac.adapters.rtl.functions import constant_luts, odd_part
from kerasnac.adapters.rtl.joint import table_luts
from kerasnac.adapters.rtl.layer_rules import RULES, input_variables
from kerasnac.adapters.rtl.levels import ADD_CONSTANT, CONSTANT, deepest, own_levels, spaced
from kerasnac.adapters.rtl.library import da4ml
from kerasnac.adapters.rtl.sums import Solver, Tracer
from kerasnac.core.hardware.boards import Board
from kerasnac.core.hardware.timing import Clock
from kerasnac.core.network.architecture import Architecture, Node
from kerasnac.core.network.exactness import NOT_IN_FIRMWARE, output_formats
from kerasnac.core.network.layer_norms import GAIN_BITS, normalised
from kerasnac.core.network.layers import Unsupported
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.weights import Weights, magnitudes, quantized_weights
from kerasnac.core.settings.costs import AdderGraphSettings, Effort
from kerasnac.errors import ConversionError

#: da4ml finds the last bit of a constant within 32 bits of the binary point; rounding takes one more bit.
MAX_FRACTIONAL = 30

#: Digits of the decimals in which da4ml keeps bounds and scales. The scales of all layers multiply up, and the usual 28
#: digits make constants wrong by one step after some ten layers.
DECIMAL_DIGITS = 400

#: Most LUTs that are expected of a network which is unrolled at all: about a minute and a gigabyte.
MAX_LUTS = 400_000

_SOLVER: Mapping[Effort, Mapping[str, Any]] = {"fast": {"hard_dc": 0, "search_all_decompose_dc": False}, "full": {}}


@dataclass(frozen=True)
class AdderGraph:
    """A network, unrolled.

    Attributes:
        logic: da4ml's ``CombLogic``. It keeps inputs that nothing reads: every input has its place.
        settings: Effort of the search for common subexpressions, and adder levels between two registers.
        spent: :attr:`luts` by layer, and by cause in it; see :data:`kerasnac.adapters.rtl.causes.CAUSES`.
    """

    logic: Any
    settings: AdderGraphSettings
    spent: Mapping[str, Mapping[str, float]]

    @cached_property
    def luts(self) -> float:
        """da4ml's estimate of the look-up tables of the FPGA: one per bit of an adder."""
        return float(self.logic.cost)

    @cached_property
    def levels(self) -> int:
        """Adders in a row on the longest path; a look-up table or a product counts as several."""
        return math.ceil(float(self.logic.latency[1]))

    @cached_property
    def _own_levels(self) -> list[float]:
        return own_levels(self.logic.ops)

    @cached_property
    def _cut(self) -> Any:
        """The logic with the latencies by which it is cut."""
        depth = self.settings.depth_bound
        return self.logic if depth is None else self.logic._replace(ops=spaced(self.logic.ops, self._own_levels, depth))

    @property
    def _cutoff(self) -> int:
        """Latency between two registers."""
        return self.settings.depth_bound or self.settings.latency_cutoff

    @cached_property
    def pipeline(self) -> Any:
        """da4ml's ``Pipeline``: the logic cut after every so many levels, for writing RTL."""
        pipeline = da4ml().to_pipeline(self._cut, self._cutoff, retiming=False, verbose=False)
        # da4ml's interpreter cannot read a stage with an empty list of tables.
        stages = (stage._replace(lookup_tables=stage.lookup_tables or None) for stage in pipeline.solutions)
        return pipeline._replace(solutions=tuple(stages))

    @property
    def stages(self) -> int:
        """Pipeline stages: clock cycles from the register of the inputs to that of the outputs."""
        return len(self.pipeline.solutions)

    @property
    def register_bits(self) -> int:
        """Bits of all registers: of the inputs, between the stages, and of the outputs."""
        return int(self.pipeline.reg_bits)

    @cached_property
    def depth(self) -> int:
        """Adders in a row between two registers, at most, as :mod:`kerasnac.adapters.rtl.levels` counts them."""
        return deepest(self._cut.ops, self._own_levels, self._cutoff)

    def costs(self, board: Board | None = None, clock: Clock | None = None) -> dict[str, float]:
        """Return the metrics of the source ``adder_graph``; see :data:`kerasnac.core.hardware.estimators.SOURCES`.

        Args:
            board: What ``adder_percent`` is of; without one, it is left out.
            clock: By which latency and interval are counted in nanoseconds; without one, they are left out.
        """
        share = {} if board is None else {"adder_percent": board.percent("lut", self.luts)}
        costs = {
            "adder_luts": self.luts,
            **share,
            "adder_levels": float(self.levels),
            "adder_stages": float(self.stages),
            "adder_registers": float(self.register_bits),
            "adder_depth": float(self.depth),
        }
        return costs if clock is None else clock.timed(costs)

    def predict(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Compute the outputs with da4ml's integer interpreter.

        Args:
            x: Samples on the input grid, cut to the network's window; shape (samples, ...).

        Returns:
            Shape (samples, outputs), float64.
        """
        samples = np.ascontiguousarray(np.asarray(x, np.float64).reshape(len(x), -1))
        return np.asarray(self.logic.predict(samples, n_threads=1), np.float64).reshape(len(x), -1)


def adder_graph_costs(
    architecture: Architecture, weights: Weights, settings: AdderGraphSettings, board: Board
) -> dict[str, float]:
    """Return the costs of the adder graph of a quantized network, without those in nanoseconds.

    Args:
        architecture: Quantized, batch norms folded.
        weights: Its latent or quantized weights.
        settings: How the graph is made.
        board: What ``adder_percent`` is of.

    Returns:
        The metrics of the source ``adder_graph``; see :data:`kerasnac.core.hardware.estimators.SOURCES`.

    Raises:
        ConversionError: If the network has no exact adder graph; names the layer and the reason.
        EnvironmentProblem: If da4ml is missing.
    """
    return unroll(architecture, weights, settings).costs(board)


def unroll(architecture: Architecture, weights: Weights, settings: AdderGraphSettings | None = None) -> AdderGraph:
    """Unroll a quantized network.

    Args:
        architecture: Quantized, batch norms folded. A window is left out: the graph reads samples that are cut to it.
        weights: Its latent or quantized weights.
        settings: How hard da4ml searches for common subexpressions, and how the graph is cut into pipeline stages.

    Raises:
        ConversionError: If the network has no exact adder graph; names the layer and the reason.
        EnvironmentProblem: If da4ml is missing.
    """
    settings = settings or AdderGraphSettings()
    network, formats, values = _checked(architecture, weights)
    tracer = Tracer(values, Solver(_SOLVER[settings.effort]))
    graph = _traced(network, formats, settings, tracer)
    if tracer.indices.used:
        # By the whole graph: what a table replaces may have been shared with other units.
        plain = _traced(network, formats, settings, Tracer(values, tracer.solver, joint=False))
        return min(graph, plain, key=lambda found: found.luts)
    return graph


def _traced(
    network: Architecture, formats: Mapping[str, Precision], settings: AdderGraphSettings, tracer: Tracer
) -> AdderGraph:
    assert network.input is not None
    with decimal.localcontext() as context, ledger() as causes:
        context.prec = DECIMAL_DIGITS
        inputs = input_variables(network.input_shape, network.input)
        causes.charge("", inputs.flat)
        tensors, grids = {-1: inputs}, {-1: network.input}
        for i, node in enumerate(network.nodes):
            causes.layer, sources = node.name, [tensors[source] for source in node.inputs]
            rule = RULES[node.layer.kind]
            assert not isinstance(rule, Unsupported), f"{node.name} has an exact format: {formats[node.name]}"
            tensors[i] = rule(tracer, node, grids[node.inputs[0]], *sources)
            grids[i] = formats[node.name].fixed
            causes.charge("", tensors[i].flat)
        logic = da4ml().comb_trace(inputs, tensors[i], keep_dead_inputs=True)
        variables, _ = da4ml().gather_variables([*inputs.flat], [*tensors[i].flat])
    ops = [_corrected(op) for op in logic.ops]
    return AdderGraph(logic._replace(ops=ops), settings, causes.luts(variables, ops))


def check_unrollable(architecture: Architecture, weights: Weights) -> None:
    """Check, without da4ml, that a network has an exact adder graph that is not too large.

    Args:
        architecture: As for :func:`unroll`.
        weights: Likewise.

    Raises:
        ConversionError: If it has none; names the layer and the reason.
    """
    _checked(architecture, weights)


def _checked(architecture: Architecture, weights: Weights) -> tuple[Architecture, dict[str, Precision], Weights]:
    """Return the network without its window, the formats of its layers by name, and its quantized weights."""
    network = architecture.without_window()
    formats, values = output_formats(network, weights), quantized_weights(network, weights)
    assert network.input is not None  # output_formats has refused a float network
    for name, grid in {"input": network.input, **formats}.items():
        if abs(grid.fractional) > MAX_FRACTIONAL:
            raise ConversionError(
                f"{name}: {grid} has {grid.fractional} fractional bits; da4ml counts from -{MAX_FRACTIONAL} to "
                f"{MAX_FRACTIONAL}: scale the data, or use other widths"
            )
    for key, array in values.items():
        if key.endswith("/kernel") and (array.astype(np.float32) != array).any():
            raise ConversionError(
                f"{key.split('/')[0]}: da4ml reads weights as float32, which does not hold {key}; use fewer bits"
            )
    expected = expected_luts(network, values)
    if expected > MAX_LUTS:
        raise ConversionError(
            f"the network is too large to unroll: about {expected:,.0f} LUTs, more than the {MAX_LUTS:,} that are unrolled; "
            "prune it, or use fewer bits, layers, units or positions"
        )
    return network, formats, values


def expected_luts(architecture: Architecture, weights: Weights) -> float:
    """Guess :attr:`AdderGraph.luts` without unrolling.

    Two LUTs per bit of every nonzero weight at every position (1.7 to 3.3 in measurements with 4 to 8 bits and up to
    80 % of the weights pruned, most per weight when pruned), the bits of both factors for products of activations,
    and what da4ml counts for tables: two outputs of a LUT with five inputs.

    Args:
        architecture: Quantized.
        weights: Its quantized weights.
    """
    total = 0.0
    bits = {-1: architecture.input.bits if architecture.input else 0}
    for i, node in enumerate(architecture.nodes):
        incoming = [bits[source] for source in node.inputs]
        bits[i] = node.layer.activation.bits if node.layer.activation else incoming[0]
        rule = EXPECTED_LUTS[node.layer.kind]
        if not isinstance(rule, Unsupported):
            total += rule(node, incoming, bits[i], weights)
    return total


def _kernel_luts(node: Node, incoming: Sequence[int], bits: int, weights: Weights) -> float:
    assert node.layer.weight is not None
    assert node.products is not None
    return 2 * node.layer.weight.bits * int(np.count_nonzero(weights[f"{node.name}/kernel"])) * node.products.positions


def _tables_luts(node: Node, incoming: Sequence[int], bits: int, weights: Weights) -> float:
    """Return the LUTs of the tables that are no constants, and of adding their entries."""
    assert node.layer.weight is not None
    edges = int(np.count_nonzero(magnitudes(node.layer, weights[f"{node.name}/kernel"])))
    width = node.layer.weight.bits
    return edges * (table_luts(incoming[0], width) + width + 1)


def _product_luts(node: Node, incoming: Sequence[int], bits: int, weights: Weights) -> float:
    assert node.products is not None
    return node.products.macs * incoming[0] * incoming[1]


def _activation_luts(node: Node, incoming: Sequence[int], bits: int, weights: Weights) -> float:
    return math.prod(node.output) * table_luts(incoming[0], bits) if node.layer.looks_up else 0.0


def _layer_norm_luts(node: Node, incoming: Sequence[int], bits: int, weights: Weights) -> float:
    """Return the LUTs of squares, products with the root and gains, and of one table per group of values."""
    index, root = (Precision.parse(node.layer[name]).bits for name in ("spread", "root"))
    values = math.prod(node.output)
    # 130 to 380 LUTs per value in measurements with 4 to 8 bits, half of them in adders and in rounding.
    each = incoming[0] ** 2 + incoming[0] * root + 6 * (incoming[0] + root + GAIN_BITS)
    return values * each + values / normalised(node) * table_luts(index, root)


def _lookup_luts(node: Node, incoming: Sequence[int], bits: int, weights: Weights) -> float:
    return math.prod(node.output) * table_luts(node.layer["bits"], bits)


def _softmax_luts(node: Node, incoming: Sequence[int], bits: int, weights: Weights) -> float:
    return math.prod(node.output) * (2 * table_luts(incoming[0], bits) + bits**2)


def _masked_mean_luts(node: Node, incoming: Sequence[int], bits: int, weights: Weights) -> float:
    assert node.layer.weight is not None
    return math.prod(node.output) * (incoming[0] + node.shapes[0][0].bit_length()) * node.layer.weight.bits


_FEW = Unsupported("its adders are few next to those of the layers with weights")
_WIRES = Unsupported("it is made of wires")

#: For every kind: the expected LUTs, from the node, the widths of its inputs, that of its output and the weights.
EXPECTED_LUTS: Mapping[str, Callable[[Node, Sequence[int], int, Weights], float] | Unsupported] = {
    "dense": _kernel_luts,
    "conv1d": _kernel_luts,
    "conv2d": _kernel_luts,
    "scale": _kernel_luts,
    "tables": _tables_luts,
    "matmul": _product_luts,
    "activation": _activation_luts,
    "softmax": _softmax_luts,
    "mask": _FEW,
    "masked_mean": _masked_mean_luts,
    "masked_softmax": _softmax_luts,
    "add": _FEW,
    "concatenate": _WIRES,
    "layer_norm": _layer_norm_luts,
    "lookup": _lookup_luts,
    "quantizer": _FEW,
    "pool": _FEW,
    "flatten": _WIRES,
    "reshape": _WIRES,
    **NOT_IN_FIRMWARE,
}


def _corrected(op: Any) -> Any:
    """Return an operation of da4ml with the true last bit of its constant, if it has one.

    The graph holds every number times a power of two that changes from layer to layer, and da4ml looks for the last bit
    of a constant no further than 32 bits from the binary point. Beyond, its interpreter computes other numbers, and the
    cost of adding a constant is wrong.
    """
    if op.opcode == ADD_CONSTANT:
        return op._replace(cost=constant_luts(op.data))
    if op.opcode == CONSTANT and op.qint.min:
        numerator, _ = float(op.qint.min).as_integer_ratio()
        data = odd_part(numerator)
        return op._replace(data=data, qint=op.qint._replace(step=op.qint.min / data))
    return op


def require_da4ml() -> None:
    """Check that adder graphs can be made.

    Raises:
        EnvironmentProblem: If da4ml is missing.
    """
    da4ml()
