"""Boosted trees as pipelined Verilog: comparisons, then trees of multiplexers, then sums."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kerasnac.adapters.rtl.verilog import SOURCES, Design, Port
from kerasnac.core.network.precision import Precision
from kerasnac.core.store.files import make_folder, write_text
from kerasnac.core.trees.ensemble import Ensemble, Node, Split, leaves
from kerasnac.errors import ConversionError


@dataclass(frozen=True)
class _Term:
    """A register that holds a part of a sum.

    Attributes:
        name: Of the register.
        greatest: Its greatest value, from zero on.
        shift: How far left it stands in the sum.
    """

    name: str
    greatest: int
    shift: int

    @property
    def width(self) -> int:
        """Bits of the register."""
        return max(1, self.greatest.bit_length())


def write_trees(ensemble: Ensemble, name: str, folder: Path) -> Design:
    """Write boosted trees as pipelined Verilog, which reads a sample in every clock cycle.

    There are registers after the inputs, the comparisons, the trees, and every level of two-input adders.

    Args:
        ensemble: The trees. Comparisons are shared between all of them.
        name: Their name; that of the module begins with ``bt_`` and has underscores where Verilog allows nothing else.
        folder: Where to write.

    Returns:
        The design, for :func:`kerasnac.adapters.rtl.verilog.write_testbench` and the tools that take it.

    Raises:
        ConversionError: If there is nothing to compare: all outputs are constant.
    """
    if not ensemble.comparisons:
        raise ConversionError(f"{name}: its trees compare nothing, so every output is constant; use more rounds or samples")
    inputs = Port(ensemble.features, ensemble.grid.bits, ensemble.grid.fractional, ensemble.grid.signed)
    output = ensemble.output
    outputs = Port(ensemble.outputs, output.bits, output.fractional, output.signed)
    module = f"bt_{re.sub(r'[^A-Za-z0-9]', '_', name)}"
    sums = _Sums(ensemble, output.bits)
    body = [*_comparisons(ensemble), "", *_trees(ensemble), "", *sums.lines]
    ports = [
        "    input clk,",
        f"    input [{inputs.bits - 1}:0] model_inp,  // {inputs}; the first in the lowest bits",
        f"    output [{outputs.bits - 1}:0] model_out  // {outputs}",
    ]
    lines = (f"    {line}".rstrip() for line in body)
    text = [f"// {name}: {ensemble}", f"module {module} (", *ports, ");", *lines, "endmodule"]
    make_folder(folder / SOURCES)
    write_text(folder / SOURCES / f"{module}.v", "\n".join(text) + "\n")
    return Design(folder, module, inputs, outputs, latency=2 + sums.levels)


def _bit(feature: int, threshold: int) -> str:
    """Return the name of the register of a comparison."""
    return f"c{feature}_{'m' if threshold < 0 else ''}{abs(threshold)}"


def _comparisons(ensemble: Ensemble) -> Iterator[str]:
    """Yield the registers of the inputs that are read, and of all comparisons."""
    grid = ensemble.grid
    for feature in sorted({feature for feature, _ in ensemble.comparisons}):
        yield f"reg [{grid.bits - 1}:0] x{feature};"
        high = (feature + 1) * grid.bits - 1
        yield f"always @(posedge clk) x{feature} <= model_inp[{high}:{high - grid.bits + 1}];"
    for feature, threshold in ensemble.comparisons:
        bit = _bit(feature, threshold)
        yield f"reg {bit};  // feature {feature} >= {threshold * grid.step:g}"
        yield f"always @(posedge clk) {bit} <= {_at_least(f'x{feature}', threshold, grid)};"


def _at_least(word: str, threshold: int, grid: Precision) -> str:
    """Return a comparison as logic, bit by bit: an operator would become a chain of carries.

    Args:
        word: Name of the number.
        threshold: In steps of the grid.
        grid: Format of the number.
    """
    # Counted from the least number of the format: the sign bit of two's complement is inverted.
    bits = threshold + (1 << (grid.bits - 1) if grid.signed else 0)
    found = ""
    for i in range(grid.bits):
        own = f"{'~' if grid.signed and i == grid.bits - 1 else ''}{word}[{i}]"
        if bits >> i & 1:
            found = f"({own} & {found})" if found else own
        elif found:
            found = f"({own} | {found})"
    return found or "1'b1"


def _trees(ensemble: Ensemble) -> Iterator[str]:
    """Yield the registers of the leaves that the trees give."""
    for k in range(ensemble.outputs):
        for term, tree in _terms(ensemble, k):
            yield f"reg [{term.width - 1}:0] {term.name};"
            yield f"always @(posedge clk) {term.name} <= {_mux(tree, term.width)};"


def _terms(ensemble: Ensemble, output: int) -> Iterator[tuple[_Term, Node]]:
    """Yield every tree of an output that is no constant zero."""
    for number, one in enumerate(ensemble.rounds):
        tree = one.trees[output]
        if greatest := max(leaves(tree)):
            yield _Term(f"t{number}_{output}", greatest, one.shift), tree


def _mux(node: Node, width: int) -> str:
    if isinstance(node, Split):
        return f"({_bit(node.feature, node.threshold)} ? {_mux(node.high, width)} : {_mux(node.low, width)})"
    return f"{width}'d{node}"


class _Sums:
    """The sums of all outputs, in levels of adders with two inputs.

    Args:
        ensemble: The trees.
        width: Bits of an output.

    Attributes:
        lines: Verilog.
        levels: Registers between the trees and the outputs.
    """

    def __init__(self, ensemble: Ensemble, width: int) -> None:
        terms = [[term for term, _ in _terms(ensemble, k)] for k in range(ensemble.outputs)]
        self.levels = max(1, max((len(own) - 1).bit_length() for own in terms))
        self.lines: list[str] = []
        for level in range(self.levels - 1):
            terms = [self._level(own, level, k) for k, own in enumerate(terms)]
        for k, own in enumerate(terms):  # The last level has at most two terms left, and adds the constant.
            self.lines.append(f"reg [{width - 1}:0] y{k};")
            constant = f"{width}'d{ensemble.base[k] % 2**width}"
            parts = [_shifted(f"{{{width}'d0, {term.name}}}", term.shift) for term in own]
            constants = [constant] if ensemble.base[k] or not own else []
            self.lines.append(f"always @(posedge clk) y{k} <= {' + '.join([*parts, *constants])};")
        names = ", ".join(f"y{k}" for k in reversed(range(ensemble.outputs)))
        self.lines.append(f"assign model_out = {{{names}}};")

    def _level(self, terms: list[_Term], level: int, output: int) -> list[_Term]:
        """Add terms in pairs; one that is left over is kept in a register."""
        made: list[_Term] = []
        for pair in (terms[i : i + 2] for i in range(0, len(terms), 2)):
            shift = min(term.shift for term in pair)
            name = f"s{level}_{output}_{len(made)}"
            made.append(_Term(name, sum(term.greatest << (term.shift - shift) for term in pair), shift))
            total = " + ".join(_shifted(f"{{{made[-1].width}'d0, {term.name}}}", term.shift - shift) for term in pair)
            self.lines.append(f"reg [{made[-1].width - 1}:0] {name};")
            self.lines.append(f"always @(posedge clk) {name} <= {total};")
        return made


def _shifted(word: str, shift: int) -> str:
    return f"({word} << {shift})" if shift else word
