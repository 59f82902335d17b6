"""Verilog of boosted trees, through simulation."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from kerasnac.adapters.rtl.tree_verilog import _at_least, write_trees
from kerasnac.adapters.rtl.verilator import simulate
from kerasnac.adapters.rtl.verilog import write_testbench
from kerasnac.core.network.precision import Precision
from kerasnac.core.trees.ensemble import Ensemble, Round
from kerasnac.errors import ConversionError
from tests.networks import grid_samples
from tests.trees import random_ensemble

needs_verilator = pytest.mark.skipif(shutil.which("verilator") is None, reason="verilator is not installed")


@pytest.mark.parametrize("grid", [Precision(5, 2), Precision(4, 4, signed=False)])
def test_comparisons_are_right_for_all_numbers(grid: Precision) -> None:
    low = int(grid.minimum / grid.step)
    for threshold in range(low, low + 2**grid.bits):
        logic = re.sub(r"~x\[(\d+)\]", r"(1 - x[\1])", _at_least("x", threshold, grid)).replace("1'b1", "1")
        for value in range(low, low + 2**grid.bits):
            x = [value >> i & 1 for i in range(grid.bits)]
            assert eval(logic, {"x": x}) == (value >= threshold), (threshold, value)


@needs_verilator
def test_all_samples_equal(tmp_path: Path) -> None:
    grid = Precision(6, 3)
    trees = random_ensemble(grid, outputs=3, rounds=5, offset=-3)
    assert trees.output.signed
    design = write_trees(trees, "5 trees", tmp_path)
    assert (design.top, design.latency) == ("bt_5_trees", 5)
    x = grid_samples(grid, (4,), 300, scale=1.0)
    assert simulate(design, write_testbench(design, x, trees.predict(x))).verdict == "bit-exact: 300 of 300 samples equal"


def test_constants_alone_are_no_design(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="every output is constant"):
        write_trees(Ensemble(Precision(4, 2), 2, 0, (0,), (Round((3,), 0, 0),)), "flat", tmp_path)


def test_shifts_of_single_terms_and_constant_outputs_are_written(tmp_path: Path) -> None:
    trees = random_ensemble(Precision(6, 3), outputs=2, rounds=1)
    design = write_trees(trees, "one", tmp_path)
    assert design.latency == 3
    text = design.sources[0].read_text()
    assert text.count("always") == text.count("reg ") == len(trees.comparisons) + len({f for f, _ in trees.comparisons}) + 4
    assert np.all(np.array([len(line) for line in text.splitlines()]) < 2000)
