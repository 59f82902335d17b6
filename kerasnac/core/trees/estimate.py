"""An estimate of the look-up tables that boosted trees take, where Yosys cannot count them."""

from __future__ import annotations

from collections.abc import Iterator

from kerasnac.core.network.precision import Precision
from kerasnac.core.trees.ensemble import Ensemble, Node, Split, comparisons, leaves, split

#: Inputs of a look-up table.
INPUTS = 6


def estimated_luts(ensemble: Ensemble) -> float:
    """Return the look-up tables that boosted trees are expected to take.

    Comparisons of up to six significant bits are one table each. Every bit of every tree is covered by tables of six inputs
    from its leaves upwards. Adders take one table per bit of their sum. On ensembles for jets, of 36 to 2,800 tables, the
    count of Yosys was between 0.85 and 1.03 of this.

    Args:
        ensemble: The trees.
    """
    return estimates(ensemble)[-1]


def estimates(ensemble: Ensemble) -> list[float]:
    """Return the estimate of :func:`estimated_luts` after every round."""
    found, known, trees = [], set[tuple[int, int]](), 0
    for number, one in enumerate(ensemble.rounds, start=1):
        known.update(pair for tree in one.trees for pair in comparisons(tree))
        compared = sum(comparison_luts(ensemble.grid, threshold) for _, threshold in known)
        trees += sum(_tree_luts(tree) for tree in one.trees)
        sums = sum(_sum_luts(ensemble.first(number), k) for k in range(ensemble.outputs))
        found.append(float(compared + trees + sums))
    return found


def comparison_luts(grid: Precision, threshold: int) -> int:
    """Return the look-up tables of a comparison with a constant: bits below its last one do not matter."""
    bits = significant_bits(grid, threshold)
    return 0 if bits <= 1 else -(-(bits - 1) // (INPUTS - 1))


def significant_bits(grid: Precision, threshold: int) -> int:
    """Return how many of the upper bits of an input a comparison reads.

    Args:
        grid: Format of the input.
        threshold: In its steps.
    """
    return grid.bits - ((threshold & -threshold).bit_length() - 1) if threshold else 1


def tree_terms(ensemble: Ensemble, output: int) -> Iterator[tuple[int, int]]:
    """Yield the greatest leaf, and its shift, of every tree of an output that is no constant zero."""
    for one in ensemble.rounds:
        if greatest := max(leaves(one.trees[output])):
            yield greatest, one.shift


def _tree_luts(tree: Node) -> int:
    return sum(_covered(_bit(tree, bit))[0] for bit in range(max(leaves(tree)).bit_length()))


def _bit(node: Node, bit: int) -> Node:
    """Return the tree of one bit of the leaves."""
    if isinstance(node, Split):
        return split(node.feature, node.threshold, _bit(node.low, bit), _bit(node.high, bit))
    return node >> bit & 1


def _covered(node: Node) -> tuple[int, int]:
    """Return the tables of a tree of one bit, its root's included."""
    tables, inputs = _open(node)
    return tables + (inputs > 0), 1


def _open(node: Node) -> tuple[int, int]:
    """Return the tables below the table of a node's own, and the inputs of that one."""
    if not isinstance(node, Split):
        return 0, 0
    sides = [_open(node.low), _open(node.high)]
    while 1 + sum(inputs for _, inputs in sides) > INPUTS:  # The side with more inputs gets a table of its own.
        widest = max(range(2), key=lambda i: sides[i][1])
        sides[widest] = (sides[widest][0] + 1, 1)
    return sum(tables for tables, _ in sides), 1 + sum(inputs for _, inputs in sides)


def _sum_luts(ensemble: Ensemble, output: int) -> int:
    """Return one table per bit of every sum; the last bits of a term that stand alone are wires."""
    terms = list(tree_terms(ensemble, output))
    total = 0
    while len(terms) > 1:
        (one, low), (other, high) = sorted(terms[:2], key=lambda term: term[1])
        added = one + (other << (high - low))
        total += added.bit_length() - (high - low)
        terms = [*terms[2:], (added, low)]
    return total
