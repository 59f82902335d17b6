"""Models side by side as text, CSV or LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Literal

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from kerasnac.core.data.bootstrap import number
from kerasnac.stages.results.side_by_side import GROUPS, Entry, frame
from kerasnac.ui import tables

#: How a table is written.
Format = Literal["text", "csv", "latex"]

#: Words of columns, where they are not their names.
_WORDS = {
    "adder_luts": "LUT",
    "adder_percent": "LUT %",
    "adder_levels": "levels",
    "adder_stages": "cycles",
    "adder_registers": "FF",
    "adder_depth": "depth",
    "adder_latency_ns": "latency, ns",
    "adder_interval_ns": "interval, ns",
    "yosys_luts": "LUT",
    "yosys_ffs": "FF",
    "yosys_carry": "carry",
    "yosys_dsp": "DSP",
    "yosys_bram": "BRAM",
    "latency_cycles": "latency, cycles",
    "interval_cycles": "interval, cycles",
    "latency_ns": "latency, ns",
    "clock_ns": "clock, ns",
    "lut": "LUT",
    "ff": "FF",
    "dsp": "DSP",
    "bram": "BRAM",
    "nonzero_parameters": "non-zero",
    "bops": "BOPs",
    "bit_exact": "bit-exact",
}


def text(found: Sequence[Entry]) -> RenderableType:
    """Return entries as tables for a terminal: one of metrics and sizes, and one per source of costs."""
    several = len({one.run for one in found}) > 1
    first = ("run", "model") if several else ("model",)
    metrics = list(dict.fromkeys(name for one in found for name in one.metrics))
    headings = [heading for name in metrics for heading in (name, f"test {name} [95 % interval]")]
    size = ("non-zero parameters", "BOPs", "at widths", "bit-exact")
    parts: list[RenderableType] = []
    table = tables.plain("Metrics and sizes", *first, *headings, *size)
    for one in found:
        cells = []
        for name in metrics:
            cells += [number(one.metrics[name]) if name in one.metrics else "", _interval(one, name)]
        exact = {True: "yes", False: "NO", None: ""}[one.bit_exact]
        counts = [_count(value) for value in (one.nonzero, one.parameters) if value is not None]
        table.add_row(*_first(one, several), *cells, " of ".join(counts), _count(one.bops), one.widths, exact)
    parts.append(table)
    for group, title in GROUPS.items():
        columns = list(dict.fromkeys(name for one in found for name in one.groups.get(group, {})))
        if columns:
            table = tables.plain(title[0].upper() + title[1:], *first, *(_word(name) for name in columns))
            for one in found:
                if own := one.groups.get(group):
                    table.add_row(*_first(one, several), *(_count(own.get(name)) for name in columns))
            parts.append(table)
    parts += [Text(f"{one.model}: no estimate of {source}: {reason}") for one in found for source, reason in one.why.items()]
    return Group(*parts)


def csv(found: Sequence[Entry]) -> str:
    """Return entries as CSV; costs are in columns ``source:name``."""
    return str(frame(found).to_csv(index=False))


def latex(found: Sequence[Entry]) -> str:
    r"""Return entries as a LaTeX table; it needs ``\usepackage{booktabs}``, and ``multirow`` for its groups."""
    made = frame(found)
    heads: list[tuple[str, str]] = []
    columns: list[list[str]] = []
    for name in _shown(made):
        group, _, own = name.partition(":")
        metric = name.removeprefix("test_")
        if group in GROUPS and own:
            heads.append((GROUPS[group], _word(own)))
        else:
            heads.append(("", f"test {metric}" if metric != name else _word(name)))
        columns.append([_interval(one, metric) for one in found] if metric != name else [_cell(value) for value in made[name]])
    cells = pd.DataFrame([[_latex(cell) for cell in row] for row in zip(*columns, strict=True)])
    plain = [_latex(low) for _, low in heads]
    grouped = pd.MultiIndex.from_tuples([(_latex(top), low) for (top, _), low in zip(heads, plain, strict=True)])
    cells.columns = grouped if any(top for top, _ in heads) else pd.Index(plain)
    align = "".join("l" if low in ("run", "model", "kind", "widths") else "r" for _, low in heads)
    written = str(cells.style.hide(axis="index").to_latex(hrules=True, column_format=align, multicol_align="c"))
    return _with_rules(written, [top for top, _ in heads])


def _with_rules(written: str, tops: Sequence[str]) -> str:
    """Put a rule below the name of every group of columns."""
    rules, first = [], 0
    for top, columns in groupby(tops):
        last = first + len(list(columns))
        rules += [rf"\cmidrule(lr){{{first + 1}-{last}}}"] if top else []
        first = last
    if not rules:
        return written
    head, rule, body = written.partition("\\toprule\n")
    names, end, rest = body.partition("\\\\\n")
    return f"{head}{rule}{names}{end}{' '.join(rules)}\n{rest}"


def _shown(made: pd.DataFrame) -> list[str]:
    """Return the columns of a printed table: the ends of intervals stand with their values."""
    left_out = [
        column for column in made.columns if str(column).startswith("test_") and str(column).endswith(("_low", "_high"))
    ]
    empty = [column for column in made.columns if made[column].isna().all() or (made[column].astype(str) == "").all()]
    one_run = ["run"] if made["run"].nunique() == 1 else []
    return [str(column) for column in made.columns if column not in (*left_out, *empty, *one_run)]


def _first(one: Entry, several: bool) -> tuple[str, ...]:
    return (one.run, one.model) if several else (one.model,)


def _interval(one: Entry, metric: str) -> str:
    if metric not in one.test:
        return ""
    value, low, high = one.test[metric]
    return f"{number(value)} [{number(low)}, {number(high)}]"


def _count(value: float | None) -> str:
    return "" if value is None else _cell(float(value))


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if value is None or pd.isna(value):
        return ""
    value = float(value)
    if value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _word(name: str) -> str:
    return _WORDS.get(name, name.replace("_", " "))


def _latex(text: str) -> str:
    for character in ("\\", "%", "_", "&", "#", "$", "{", "}"):
        text = text.replace(character, rf"\{character}" if character != "\\" else r"\textbackslash ")
    return text
