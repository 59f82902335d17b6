"""Random networks of the shipped spaces, trained briefly: firmware equals Keras in every output, or it is refused."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.fuzz import convert, done, exact_spaces, fuzz, random_case


@pytest.mark.slow
def test_a_small_network_of_a_space_is_exact(tmp_path: Path, keras: Any) -> None:
    """One, for the tool itself; tests/contracts/test_spaces.py converts one of every space."""
    case = random_case("qubit", 1, 1, 200, most_bits=8, smallest=8)
    made, refused, failed = convert(case, tmp_path / "fw")
    assert made is not None, refused + failed
    assert made.bit_exact, made.report()
    graph = made.adder_graph
    assert graph.equal == graph.outputs, str(graph)


def test_the_spaces_are_all_that_promise_exactness() -> None:
    assert set(exact_spaces()) >= {"jets_mlp", "digits", "bragg_exact", "qubit"}


def test_a_table_that_was_cut_off_goes_on_after_its_last_whole_row(tmp_path: Path) -> None:
    path = tmp_path / "fuzz.csv"
    path.write_text("index,space\n0,a\n1,b\n2,")
    assert done(path) == {0, 1}
    assert path.read_text() == "index,space\n0,a\n1,b\n"


@pytest.mark.slow
def test_random_networks_of_the_spaces(
    own_compiler: None, tmp_path: Path, keras: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """``KERASNAC_FUZZ=20 KERASNAC_FUZZ_SEED=7 pytest -m slow`` sets how many networks, and the seed."""
    count, seed = int(os.environ.get("KERASNAC_FUZZ", "200")), int(os.environ.get("KERASNAC_FUZZ_SEED", "1"))
    with capsys.disabled():
        table = fuzz(count, seed, tmp_path, spaces=exact_spaces(), samples=1000)
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    wrong = [line for line in rows if line["failed"] or (line["outputs"] and line["mismatches"] != "0")]
    wrong += [line for line in rows if line["graph_outputs"] != line["graph_equal"]]
    unproved = [line for line in rows if line["refused"] and "float64" not in line["refused"]]
    assert len(rows) == count
    assert not wrong + unproved, f"seed {seed}: {wrong + unproved}"
