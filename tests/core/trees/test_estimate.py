"""The estimate of look-up tables, on trees whose tables can be counted by hand."""

from __future__ import annotations

import pytest

from kerasnac.core.network.precision import Precision
from kerasnac.core.trees.ensemble import Ensemble, Node, Round, Split
from kerasnac.core.trees.estimate import comparison_luts, estimated_luts, estimates, significant_bits
from tests.trees import random_ensemble


@pytest.mark.parametrize(
    ("grid", "threshold", "bits", "luts"),
    [
        (Precision(8, 3), 0, 1, 0),  # the sign
        (Precision(8, 3), -64, 2, 1),
        (Precision(8, 3), 4, 6, 1),
        (Precision(8, 3), 5, 8, 2),
        (Precision(8, 3, signed=False), 128, 1, 0),
        (Precision(12, 3), 1, 12, 3),
    ],
)
def test_a_comparison_reads_the_bits_down_to_the_last_of_its_constant(
    grid: Precision, threshold: int, bits: int, luts: int
) -> None:
    assert significant_bits(grid, threshold) == bits
    assert comparison_luts(grid, threshold) == luts


def signs(*trees: Node) -> Ensemble:
    """One output, a round for every tree; comparisons with zero take no table."""
    return Ensemble(Precision(8, 3), 8, 0, (0,), tuple(Round((tree,), 0, 0) for tree in trees))


def chain(length: int, leaf: int = 1) -> Node:
    node: Node = 0
    for feature in range(length):
        node = Split(feature, 0, node, leaf)
    return node


def test_six_comparisons_fit_one_table_per_bit() -> None:
    assert estimated_luts(signs(chain(6))) == 1
    assert estimated_luts(signs(chain(7))) == 2
    assert estimated_luts(signs(chain(6, leaf=3))) == 2
    assert estimated_luts(signs(chain(6, leaf=2))) == 1  # the lower bit is always zero


def test_a_sum_takes_a_table_per_bit() -> None:
    assert estimated_luts(signs(chain(2), chain(3), chain(4))) == 3 + 2 + 2


def test_after_every_round() -> None:
    trees = random_ensemble(Precision(6, 2), 2, 4)
    assert estimates(trees) == [estimated_luts(trees.first(rounds)) for rounds in (1, 2, 3, 4)]
