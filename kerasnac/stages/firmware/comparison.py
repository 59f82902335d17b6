"""Outputs of firmware, and of a softmax on the chip, against those of Keras."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.hls4ml.conversion import SOFTMAX_OUTPUT
from kerasnac.core.network.arithmetic import Arithmetic
from kerasnac.core.network.precision import Precision
from kerasnac.errors import ConversionError, DataError


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
        """True if not one output differs."""
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
        """Return the comparison as text."""
        lines = [
            self.verdict,
            f"largest difference: {self.max_abs_error:g} ({self.max_ulp:g} in units of the last bit of the output)",
        ]
        if self.same_decision is not None:
            lines.append(f"same decision: {self.same_decision:,} of {self.samples:,} samples")
        return lines


@dataclass(frozen=True)
class ArithmeticCheck:
    """The arithmetic of the QKeras model that firmware equals.

    Attributes:
        exact: The arithmetic, and the layer that it is needed for.
        float32: The same model in float32 against it; None if float32 is the arithmetic.
    """

    exact: Arithmetic = field(default_factory=Arithmetic)
    float32: Comparison | None = None

    @property
    def note(self) -> str:
        """Addition to a verdict; empty where the firmware equals Keras as it usually computes."""
        return "" if self.float32 is None else f" (QKeras in {self.exact.dtype})"

    def __str__(self) -> str:
        text = f"the firmware equals QKeras in {self.exact}"
        if (found := self.float32) is None:
            return text
        text += f"; in float32, QKeras gives {found.mismatches:,} of {found.outputs:,} outputs differently"
        if found.same_decision is None:
            return text
        return f"{text}, and another decision for {found.samples - found.same_decision:,} of {found.samples:,} samples"


@dataclass(frozen=True)
class SoftmaxAgreement:
    """Agreement of the softmax on the chip, an approximation by tables, with softmax in floating point.

    Attributes:
        equal: Fraction of outputs that are equal once both are on the chip's output grid.
        max_difference: Largest difference of two probabilities.
        argmax: Fraction of samples with the same most probable class.
    """

    equal: float
    max_difference: float
    argmax: float


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
    """Put samples on the grid of the input, and count those that were not on it.

    Args:
        x: Shape (samples, ...).
        grid: The input's format.
        source: Where the samples are from, for messages.

    Returns:
        The samples, of the same shape, float32; and the count.

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


def compare(firmware: NDArray[Any], keras: NDArray[Any], grid: Precision, *, classes: bool = False) -> Comparison:
    """Compare every output.

    Args:
        firmware: Outputs of the emulation, shape (samples, outputs), float32 or float64.
        keras: Outputs of Keras, of the same shape.
        grid: Format of the outputs.
        classes: True if the largest output is a decision.

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


def softmax_agreement(probabilities: NDArray[Any], logits: NDArray[Any]) -> SoftmaxAgreement:
    """Compare probabilities from the chip with the softmax of what Keras puts out, both of shape (samples, classes)."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    return SoftmaxAgreement(
        equal=float(np.mean(probabilities == SOFTMAX_OUTPUT.quantize(expected))),
        max_difference=float(np.abs(probabilities - expected).max()),
        argmax=float(np.mean(probabilities.argmax(axis=1) == logits.argmax(axis=1))),
    )
