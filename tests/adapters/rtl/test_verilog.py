"""Formats of ports and words for ``$readmemh``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kerasnac.adapters.rtl.verilog import Design, Port, write_testbench
from kerasnac.errors import ConversionError


def test_words_are_packed_in_twos_complement_with_the_first_number_in_the_lowest_bits() -> None:
    port = Port(count=3, width=4, fractional=1, signed=True)
    assert port.bits == 12
    assert [*port.words(np.array([[0.5, -0.5, -4.0], [3.5, 0.0, 1.0]]))] == ["8f1", "207"]


def test_a_coarse_port_counts_in_steps_larger_than_one() -> None:
    assert [*Port(count=2, width=3, fractional=-2, signed=False).words(np.array([[4.0, 28.0]]))] == ["39"]


@pytest.mark.parametrize(
    ("value", "signed", "held"),
    [(-4, True, True), (3.5, True, True), (4, True, False), (0.25, True, False), (-0.5, False, False), (7.5, False, True)],
)
def test_what_a_port_holds(value: float, signed: bool, held: bool) -> None:
    assert Port(count=1, width=4, fractional=1, signed=signed).holds(np.array([[value]])).all() == held


def test_the_text_names_width_and_point() -> None:
    assert str(Port(count=5, width=15, fractional=9, signed=True)) == "5 x 15 bit signed, 9 of them fractional"


def test_an_expectation_that_the_design_cannot_give_out(tmp_path: Path) -> None:
    port = Port(count=2, width=4, fractional=0, signed=False)
    design = Design(tmp_path, "nn_wrapper", port, port, latency=1)
    expected = np.zeros((3, 2))
    expected[2, 1] = 16
    with pytest.raises(ConversionError, match=r"sample 2, output 1: 16\.0 "):
        write_testbench(design, np.zeros((3, 2)), expected)
