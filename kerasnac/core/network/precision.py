"""The single notion of a number format."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.core.checks import shown
from kerasnac.errors import ConfigError

_PATTERN = re.compile(r"^(?:ap_)?(u?)fixed<\s*([0-9]{1,4})\s*,\s*(-?[0-9]{1,4})\s*>$")
_FEW_VALUES = re.compile(r"^(ternary|binary)<\s*(-?[0-9]{1,4})\s*>$")
_ODD = re.compile(r"^odd<\s*([0-9]{1,4})\s*,\s*(-?[0-9]{1,4})\s*>$")

#: Widest format, and how far from its bits the binary point may be: float64, in which values are rounded, holds no more.
WIDEST, FARTHEST = 64, 256


@dataclass(frozen=True, order=True)
class Precision:
    """A fixed-point format, ``ap_fixed<bits, integer>`` or ``ap_ufixed<bits, integer>``.

    Attributes:
        bits: Total width in bits, sign included.
        integer: Bits left of the binary point, sign included (the ``I`` of ``ap_fixed<W, I>``). May be
            negative or larger than ``bits``.
        signed: False for ``ap_ufixed``.

    Raises:
        ConfigError: If the width is not positive, or a number is no integer or beyond all use.
    """

    bits: int
    integer: int
    signed: bool = True

    def __post_init__(self) -> None:
        for name, largest in (("bits", WIDEST), ("integer", FARTHEST)):
            value: Any = getattr(self, name)
            if not isinstance(value, int | np.integer) or isinstance(value, bool) or abs(int(value)) > largest:
                raise ConfigError(f"a number format with {name} = {shown(value)}: give an integer, at most {largest}")
        if not isinstance(self.signed, bool):
            raise ConfigError(f"a number format with signed = {shown(self.signed)}: give true or false")
        if self.bits < self._fewest_bits:
            kind = "signed" if self.signed else "unsigned"
            raise ConfigError(f"{self}: a {kind} format needs at least {self._fewest_bits} bits")

    @property
    def _fewest_bits(self) -> int:
        return 1 + self.signed

    @classmethod
    def parse(cls, text: str) -> Precision:
        """Read ``ap_fixed<8,3>``, ``ap_ufixed<8,3>`` or the same without ``ap_``, ``ternary<1>``, ``binary<1>``, ``odd<8,3>``.

        Raises:
            ConfigError: If the text is anything else.
        """
        match = _PATTERN.match(text.strip()) if isinstance(text, str) else None
        if match is not None:
            return Precision(int(match[2]), int(match[3]), signed=not match[1])
        odd = _ODD.match(text.strip()) if isinstance(text, str) else None
        if odd is not None:
            return Odd(int(odd[1]), int(odd[2]))
        few = _FEW_VALUES.match(text.strip()) if isinstance(text, str) else None
        if few is None:
            raise ConfigError(f"{shown(text)} is not a number format: write ap_fixed<bits,integer> or ap_ufixed<bits,integer>")
        return FEW_VALUES[few[1]](int(few[2]))

    def __str__(self) -> str:
        return f"ap_{'' if self.signed else 'u'}fixed<{self.bits},{self.integer}>"

    @property
    def fixed(self) -> Precision:
        """The ``ap_fixed`` or ``ap_ufixed`` that holds all values, in which the firmware has them."""
        return self

    @property
    def fractional(self) -> int:
        """Bits right of the binary point."""
        return self.bits - self.integer

    @property
    def step(self) -> float:
        """Distance between neighbouring values (one unit in the last place)."""
        return math.ldexp(1.0, -self.fractional)

    @property
    def minimum(self) -> float:
        """Smallest value."""
        return -math.ldexp(1.0, self.integer - 1) if self.signed else 0.0

    @property
    def maximum(self) -> float:
        """Largest value."""
        return math.ldexp(1.0, self.integer - self.signed) - self.step

    def quantize(self, values: Any) -> NDArray[np.float64]:
        """Round half to even and saturate, as QKeras does with ``alpha=1`` (``AP_RND_CONV, AP_SAT``).

        Args:
            values: Anything NumPy makes a float array of.

        Returns:
            A float64 array of the same shape, every entry exactly on the grid.
        """
        scaled = np.round(np.ldexp(np.asarray(values, np.float64), self.fractional))
        return np.ldexp(np.clip(scaled, *self._raw_limits), -self.fractional)

    def contains(self, values: Any) -> NDArray[np.bool_]:
        """Return True where a value is within range (it need not be on the grid)."""
        array = np.asarray(values)
        return (array >= self.minimum - self.step / 2) & (array <= self.maximum + self.step / 2)

    def grid(self) -> NDArray[np.float64]:
        """Return all 2**bits values, in the order of their raw two's-complement pattern (0, 1, ..., -1)."""
        raw = np.arange(2**self.bits)
        if self.signed:
            raw = np.where(raw >= 2 ** (self.bits - 1), raw - 2**self.bits, raw)
        return np.ldexp(raw.astype(np.float64), -self.fractional)

    @property
    def _raw_limits(self) -> tuple[float, float]:
        if self.signed:
            return -math.ldexp(1.0, self.bits - 1), math.ldexp(1.0, self.bits - 1) - 1
        return 0.0, math.ldexp(1.0, self.bits) - 1

    @classmethod
    def covering(cls, low: float, high: float, bits: int, *, signed: bool | None = None) -> Precision:
        """Return the finest format of a bit width whose range holds ``[low, high]``.

        Args:
            low: Smallest value to hold.
            high: Largest value to hold.
            bits: Total width.
            signed: Force a signed or unsigned format; by default signed when ``low < 0``.
        """
        sign = (low < 0) if signed is None else signed
        reach = max(abs(low), abs(high))
        integer = sign + (math.floor(math.log2(reach)) + 1 if reach > 0 else 0)
        candidate = cls(bits, integer, sign)
        # A power of two on the negative side needs one bit less; a value that rounds past the top needs one more.
        smaller = cls(bits, integer - 1, sign)
        if smaller.contains([low, high]).all():
            return smaller
        return candidate if high <= candidate.maximum + candidate.step / 2 else cls(bits, integer + 1, sign)


@dataclass(frozen=True, order=True)
class Ternary(Precision):
    """Format of the three values ``-step``, 0 and ``step``.

    Attributes:
        bits: 2.
        integer: The step is ``2**(integer - 2)``: that of ``ap_fixed<2, integer>``, which holds the values.
        signed: True.
    """

    bits: int = field(default=2, init=False)
    signed: bool = field(default=True, init=False)

    def __str__(self) -> str:
        return f"ternary<{self.integer}>"

    @property
    def fixed(self) -> Precision:
        return Precision(2, self.integer)

    @property
    def minimum(self) -> float:
        return -self.step

    def grid(self) -> NDArray[np.float64]:
        """Return the values: 0, step, -step."""
        return np.array([0.0, self.step, -self.step])

    @property
    def _raw_limits(self) -> tuple[float, float]:
        return -1.0, 1.0


@dataclass(frozen=True, order=True)
class Binary(Precision):
    """Format of the two values ``-step`` and ``step``, to which numbers are quantized by their sign; zero is positive.

    Attributes:
        bits: 1.
        integer: The step is ``2**(integer - 1)``.
        signed: True.
    """

    bits: int = field(default=1, init=False)
    signed: bool = field(default=True, init=False)

    def __str__(self) -> str:
        return f"binary<{self.integer}>"

    @property
    def _fewest_bits(self) -> int:
        return 1

    @property
    def fixed(self) -> Precision:
        return Precision(2, self.integer + 1)

    @property
    def minimum(self) -> float:
        return -self.step

    @property
    def maximum(self) -> float:
        return self.step

    def quantize(self, values: Any) -> NDArray[np.float64]:
        """Return the step for every number that is not negative, its negative for the others, and NaN for NaN.

        Args:
            values: Anything NumPy makes a float array of.

        Returns:
            A float64 array of the same shape.
        """
        array = np.asarray(values, np.float64)
        return np.where(np.isnan(array), np.nan, np.where(array < 0, -self.step, self.step))

    def grid(self) -> NDArray[np.float64]:
        """Return the values: step, -step."""
        return np.array([self.step, -self.step])


@dataclass(frozen=True, order=True)
class Odd(Precision):
    """Format of the odd multiples of half a step, ``(k + 1/2) * step``: of biases that keep sums off the ties of rounding.

    A sum of multiples of the step and one such number is never halfway between two numbers of a coarser grid.

    Attributes:
        bits: Those of k, which is signed.
        integer: The step is ``2**(integer - bits)``, as that of ``ap_fixed<bits, integer>``.
        signed: True.
    """

    signed: bool = field(default=True, init=False)

    def __str__(self) -> str:
        return f"odd<{self.bits},{self.integer}>"

    @property
    def _fewest_bits(self) -> int:
        return 1

    @property
    def fixed(self) -> Precision:
        return Precision(self.bits + 1, self.integer)

    @property
    def minimum(self) -> float:
        return super().minimum + self.step / 2

    @property
    def maximum(self) -> float:
        return super().maximum + self.step / 2

    def quantize(self, values: Any) -> NDArray[np.float64]:
        """Return the nearest value, of two that are as near the larger one: the middle of the step that a number is in.

        Args:
            values: Anything NumPy makes a float array of.

        Returns:
            A float64 array of the same shape.
        """
        below = np.floor(np.ldexp(np.asarray(values, np.float64), self.fractional))
        return np.ldexp(np.clip(below, *self._raw_limits) + 0.5, -self.fractional)

    def grid(self) -> NDArray[np.float64]:
        """Return all 2**bits values, in the order of k in two's complement."""
        return Precision.grid(self) + self.step / 2


#: The formats of few values by the names that stand in the place of a bit width.
FEW_VALUES: Mapping[str, type[Ternary] | type[Binary]] = {"ternary": Ternary, "binary": Binary}
