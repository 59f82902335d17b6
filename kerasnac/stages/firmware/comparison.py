"""Outputs of firmware, of its softmax and of the adder graph against those of Keras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.hls4ml.conversion import SOFTMAX_OUTPUT
from kerasnac.core.network.exactness import output_formats
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.trained import Trained
from kerasnac.errors import ConversionError, DataError, EnvironmentProblem

#: Adder levels between two registers for which stages of the adder graph are counted.
LATENCY_CUTOFF = 5


@dataclass(frozen=True)
class Mismatch:
    """An output in which firmware and Keras differ."""

    sample: int
    output: int
    keras: float
    firmware: float


@dataclass(frozen=True)
class Comparison:
    """Every output of some samples, firmware against Keras.

    Attributes:
        samples: Number of samples compared.
        outputs: Number of outputs compared, over all samples.
        mismatches: How many of them differ.
        max_abs_error: Largest difference.
        max_ulp: The same in units of the last bit of the output format.
        same_decision: Samples with the same largest output; None where outputs are no classes.
        first_mismatch: The first output that differs.
    """

    samples: int
    outputs: int
    mismatches: int
    max_abs_error: float
    max_ulp: float
    same_decision: int | None
    first_mismatch: Mismatch | None

    @property
    def equal(self) -> bool:
        """Whether not one output differs."""
        return self.mismatches == 0

    @property
    def verdict(self) -> str:
        """One line on bit-exactness."""
        first = self.first_mismatch
        if first is None:
            return f"bit-exact: {self.outputs} of {self.outputs} outputs equal"
        return (
            f"NOT bit-exact: {self.mismatches} of {self.outputs} outputs differ "
            f"(first: sample {first.sample}, output {first.output}: Keras {first.keras!r}, firmware {first.firmware!r})"
        )

    def lines(self) -> list[str]:
        """The comparison as text."""
        lines = [
            self.verdict,
            f"largest difference: {self.max_abs_error:g} ({self.max_ulp:g} in units of the last bit of the output)",
        ]
        if self.same_decision is not None:
            lines.append(f"same decision: {self.same_decision:,} of {self.samples:,} samples")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Comparison:
        """Inverse of :meth:`to_dict`."""
        first = data["first_mismatch"]
        return cls(**{**data, "first_mismatch": None if first is None else Mismatch(**first)})


@dataclass(frozen=True)
class SoftmaxAgreement:
    """How well the softmax on the chip, an approximation by tables, agrees with softmax in floating point.

    Attributes:
        equal: Fraction of outputs that are equal once both are on the chip's output grid.
        max_difference: Largest difference of two probabilities.
        argmax: Fraction of samples with the same most probable class.
    """

    equal: float
    max_difference: float
    argmax: float


@dataclass(frozen=True)
class GraphCheck:
    """The network as da4ml's integer interpreter computes it, a third opinion beside Keras and the emulation.

    Attributes:
        outputs: Number of outputs compared; 0 if there is no adder graph.
        equal: How many of them equal Keras.
        reason: Why there is no adder graph, if there is none.
        costs: LUTs, adder levels, pipeline stages and register bits.
        first_mismatch: The first output that differs.
    """

    outputs: int
    equal: int
    reason: str
    costs: Mapping[str, float]
    first_mismatch: Mismatch | None = None

    @property
    def agrees(self) -> bool:
        """Whether not one output differs; also where there is no adder graph."""
        return self.equal == self.outputs

    @property
    def disagreement(self) -> str:
        """One line on what differs; empty if nothing does."""
        first = self.first_mismatch
        if first is None:
            return ""
        return (
            f"the adder graph is NOT bit-exact: {self.outputs - self.equal} of {self.outputs} outputs differ (first: sample "
            f"{first.sample}, output {first.output}: Keras {first.keras!r}, adder graph {first.firmware!r})"
        )

    def __str__(self) -> str:
        if self.reason:
            return f"adder graph: none ({self.reason})"
        text = f"adder graph, da4ml's integer interpreter against QKeras: {self.equal} of {self.outputs} outputs equal"
        return text if self.agrees else f"{text}\n  {self.disagreement}"

    @classmethod
    def of(
        cls, outputs: NDArray[np.float32], keras: NDArray[np.float32], grid: Precision, costs: Mapping[str, float]
    ) -> GraphCheck:
        """Compares what an adder graph computes with Keras; arguments as for :func:`compare`."""
        expected = keras.reshape(len(keras), -1)
        found = compare(outputs, expected, grid)
        return cls(expected.size, expected.size - found.mismatches, "", costs, found.first_mismatch)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GraphCheck:
        """Inverse of ``dataclasses.asdict``."""
        first = data.get("first_mismatch")  # Older reports have none, and count only.
        return cls(**{**data, "first_mismatch": None if first is None else Mismatch(**first)})


@dataclass(frozen=True)
class InputCheck:
    """Samples as they were given, against the grid of the input.

    Attributes:
        samples: How many there are.
        off_grid: Those with a value between two numbers of the grid; it is rounded.
        out_of_range: Those with a value beyond the grid's range; it saturates.
    """

    samples: int
    off_grid: int
    out_of_range: int

    def __str__(self) -> str:
        if not (self.off_grid or self.out_of_range):
            return "inputs: all samples are on the grid"
        return (
            f"inputs: {self.off_grid:,} of {self.samples:,} samples were off the grid and have been rounded to it, "
            f"{self.out_of_range:,} beyond its range and have been clipped"
        )


def on_grid(x: NDArray[Any], grid: Precision, source: str = "samples") -> tuple[NDArray[np.float32], InputCheck]:
    """Samples put on the grid of the input, and how many of them were not.

    Args:
        x: Shape (samples, ...).
        grid: The input's format.
        source: Where the samples are from, for messages.

    Raises:
        DataError: If a value is not finite.
    """
    bad = ~np.isfinite(x).reshape(len(x), -1).all(axis=1)
    if bad.any():
        raise DataError(f"{source}: sample {bad.argmax()} holds NaN or infinity ({bad.sum()} of {len(x)} samples do)")
    values = grid.quantize(x)
    inside = grid.contains(x).reshape(len(x), -1)
    moved = (values != x).reshape(len(x), -1)
    check = InputCheck(len(x), int((moved & inside).any(axis=1).sum()), int((~inside).any(axis=1).sum()))
    return values.astype(np.float32), check


def compare(firmware: NDArray[np.float32], keras: NDArray[np.float32], grid: Precision, *, classes: bool = False) -> Comparison:
    """Compares every output.

    Args:
        firmware: Outputs of the emulation, shape (samples, outputs).
        keras: Outputs of Keras, of the same shape.
        grid: Format of the outputs.
        classes: Whether the largest output is a decision.

    Raises:
        ConversionError: If there is not one output of the one for every output of the other.
    """
    if firmware.shape != keras.shape:
        raise ConversionError(f"the emulation has outputs of shape {firmware.shape}, Keras of {keras.shape}")
    different = np.argwhere(firmware != keras)
    largest = float(np.abs(firmware.astype(np.float64) - keras).max())
    first = None
    if len(different):
        sample, output = (int(index) for index in different[0])
        first = Mismatch(sample, output, float(keras[sample, output]), float(firmware[sample, output]))
    same = None
    if classes:
        same = int((firmware.argmax(axis=1) == keras.argmax(axis=1)).sum())
    return Comparison(
        samples=len(keras),
        outputs=keras.size,
        mismatches=len(different),
        max_abs_error=largest,
        max_ulp=largest / grid.step,
        same_decision=same,
        first_mismatch=first,
    )


def softmax_agreement(probabilities: NDArray[np.float32], logits: NDArray[np.float32]) -> SoftmaxAgreement:
    """Compares probabilities from the chip with the softmax of Keras outputs, both of shape (samples, classes)."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    return SoftmaxAgreement(
        equal=float(np.mean(probabilities == SOFTMAX_OUTPUT.quantize(expected))),
        max_difference=float(np.abs(probabilities - expected).max()),
        argmax=float(np.mean(probabilities.argmax(axis=1) == logits.argmax(axis=1))),
    )


def check_graph(network: Trained, x: NDArray[np.float32], keras: NDArray[np.float32]) -> GraphCheck:
    """Compares da4ml's integer interpreter of the network's adder graph with Keras.

    Args:
        network: A quantized network without a window.
        x: Samples on the input grid.
        keras: What Keras says of them.
    """
    from kerasnac.adapters.rtl.adder_graph import trace

    try:
        graph = trace(network.architecture, network.weights)
    except (ConversionError, EnvironmentProblem) as reason:
        return GraphCheck(0, 0, str(reason), {})
    grid = output_formats(network.architecture, network.weights)[network.architecture.names[-1]]
    pipeline = graph.pipeline(LATENCY_CUTOFF)
    costs = {
        "luts": graph.luts,
        "levels": float(graph.levels),
        "stages": float(len(pipeline.solutions)),
        "register_bits": float(pipeline.reg_bits),
        "latency_cutoff": float(LATENCY_CUTOFF),
    }
    return GraphCheck.of(graph.predict(x), keras, grid, costs)
