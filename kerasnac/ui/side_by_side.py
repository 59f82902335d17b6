"""Models side by side as text, Markdown, CSV or LaTeX."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from kerasnac.core.data.bootstrap import number
from kerasnac.core.hardware.boards import BOARDS, Resource
from kerasnac.core.hardware.estimators import SOURCES
from kerasnac.stages.results.published import UNKNOWN
from kerasnac.stages.results.saved import SavedRun
from kerasnac.stages.results.side_by_side import GROUPS, Entry, frame, labels_of
from kerasnac.ui import tables
from kerasnac.ui.curves import values as curve_values

#: How a table is written.
Format = Literal["text", "markdown", "csv", "latex"]

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
    "interval_ns": "interval, ns",
    "clock_ns": "clock, ns",
    "lut": "LUT",
    "ff": "FF",
    "dsp": "DSP",
    "bram": "BRAM",
    "BRAM_18K": "BRAM",
    "lut_percent": "LUT %",
    "ff_percent": "FF %",
    "dsp_percent": "DSP %",
    "bram_percent": "BRAM %",
    "average_percent": "average %",
    "microseconds": "µs per sample",
    "nonzero_parameters": "non-zero",
    "bops": "BOPs",
    "their_bops": "BOPs as published",
    "bit_exact": "bit-exact",
}

#: Counts whose share of the board stands behind them, where no column of its own has it: resource, and that column.
_SHARES: Mapping[str, tuple[Resource, str]] = {
    "adder_luts": ("lut", "adder_percent"),
    "adder_registers": ("ff", ""),
    "yosys_luts": ("lut", ""),
    "yosys_ffs": ("ff", ""),
    "yosys_dsp": ("dsp", ""),
    "LUT": ("lut", ""),
    "FF": ("ff", ""),
    "DSP": ("dsp", ""),
    "BRAM_18K": ("bram", ""),
    "lut": ("lut", "lut_percent"),
    "ff": ("ff", "ff_percent"),
    "dsp": ("dsp", "dsp_percent"),
    "bram": ("bram", "bram_percent"),
}


@dataclass(frozen=True)
class Sheet:
    """One table of what stands side by side.

    Attributes:
        title: What it has.
        columns: Headings.
        rows: Cells, in the order of the columns.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def sheets(found: Sequence[Entry]) -> list[Sheet]:
    """Return entries as tables: one of metrics and sizes, and one per source of costs."""
    several = len({one.run for one in found}) > 1
    made = [_sizes(found, several), *_counts(found, several)]
    for group, title in GROUPS.items():
        own = [one for one in found if one.groups.get(group)]
        there = dict.fromkeys(name for one in own for name in one.groups[group])
        columns = [*(name for name in SOURCES.get(group, ()) if name in there)]
        columns += [name for name in there if name not in columns]
        if not columns:
            continue
        # A share that stands behind a count needs no column of its own.
        columns = [name for name in columns if name not in {_SHARES[c][1] for c in columns if c in _SHARES}]
        headings = (*_firsts(several), *(_word(name) for name in columns))
        rows = tuple((*_first(one, several), *(_with_share(one, group, name) for name in columns)) for one in own)
        made.append(Sheet(title[0].upper() + title[1:], headings, rows))
    return made


def notes(found: Sequence[Entry]) -> list[str]:
    """Return what has to be said of entries: why an estimate is missing, where published numbers are from."""
    told = [f"{one.model}: no estimate of {source}: {reason}" for one in found for source, reason in one.why.items()]
    published = [one for one in found if one.kind == "published"]
    if published:
        told.append("published: numbers of the studies, not measured here")
        told += ["the rules by which bit operations are counted: docs/bops.md"] if any(o.their_bops for o in found) else []
    sources = {one.source: dict.fromkeys(other.model for other in published if other.source == one.source) for one in published}
    return told + [f"{'; '.join(models)}: {source}" for source, models in sources.items()]


def _sizes(found: Sequence[Entry], several: bool) -> Sheet:
    """Return metrics and sizes; columns that only some tables need are left out of the others."""
    metrics = list(dict.fromkeys(name for one in found for name in one.metrics))
    headings = [heading for name in metrics for heading in (name, f"test {name} [95 % interval]")]
    window = any(one.window for one in found)
    columns = [*_firsts(several), *headings, *["window"] * window, "non-zero parameters", "BOPs"]
    rows = []
    for one in found:
        cells = [cell for name in metrics for cell in (_metric(one, name), _interval(one, name))]
        cells += [one.window or ("all" if one.kind != "published" else UNKNOWN)] * window
        cells += [_parameters(one), _count(one.bops)]
        exact = {True: "yes", False: "NO", None: ""}[one.bit_exact]
        rows.append((*_first(one, several), *cells, one.widths, exact))
    return Sheet("Metrics and sizes", (*columns, "at widths", "bit-exact"), tuple(rows))


def curves(runs: Iterable[SavedRun], found: Sequence[Entry]) -> list[Sheet]:
    """Return what is quoted of the curves of entries on the test split: areas and rejections by class, or distances."""
    several, made = len({one.run for one in found}) > 1, dict[tuple[str, ...], list[tuple[str, ...]]]()
    runs = list(runs)
    for folder, name in labels_of(runs).items():
        known = next(run.curves for run in runs if run.folder == folder)
        for one in (entry for entry in found if entry.run == name and entry.model in known):
            quoted = curve_values(known[one.model])
            made.setdefault(tuple(quoted), []).append((*_first(one, several), *map(number, quoted.values())))
    return [
        Sheet("Curves on the test split", (*_firsts(several), *columns), tuple(dict.fromkeys(rows)))
        for columns, rows in made.items()
    ]


def _counts(found: Sequence[Entry], several: bool) -> list[Sheet]:
    """Return bit operations by our rule and by that of a published study; nothing without one."""
    own = [one for one in found if one.their_bops is not None]
    columns = (*_firsts(several), "here", "as published", "here / published", "published / here")
    rows = tuple((*_first(one, several), _count(one.bops), _count(one.their_bops), *_ratios(one)) for one in own)
    return [Sheet("Bit operations by our rule, and as the study counts them", columns, rows)] if own else []


def text(found: Sequence[Entry], further: Sequence[Sheet] = ()) -> RenderableType:
    """Return entries as tables for a terminal, with further tables."""
    parts: list[RenderableType] = []
    for sheet in (*sheets(found), *further):
        table = tables.plain(sheet.title, *sheet.columns)
        for row in sheet.rows:
            table.add_row(*row)
        parts.append(table)
    return Group(*parts, *map(Text, notes(found)))


def markdown(found: Sequence[Entry], further: Sequence[Sheet] = ()) -> str:
    """Return entries as tables in Markdown, with further tables."""
    every = (*sheets(found), *further)
    parts = [f"**{sheet.title}**\n\n{markdown_table(sheet.columns, sheet.rows)}" for sheet in every]
    told = "\n".join(f"* {note}" for note in notes(found))
    return "\n\n".join([*parts, *([told] if told else [])]) + "\n"


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown: the first column to the left, all others to the right."""
    return "\n".join(_markdown_lines(columns, rows))


def _markdown_lines(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(map(_escaped, columns))} |"
    yield f"|{'|'.join(['---', *['---:'] * (len(columns) - 1)])}|"
    for row in rows:
        yield f"| {' | '.join(map(_escaped, row))} |"


def _escaped(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


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
    left_out += ["board", "source"]  # A paper says this in its caption.
    one_run = ["run"] if made["run"].nunique() == 1 else []
    return [str(column) for column in made.columns if column not in (*left_out, *empty, *one_run)]


def _firsts(several: bool) -> tuple[str, ...]:
    return ("run", "model") if several else ("model",)


def _first(one: Entry, several: bool) -> tuple[str, ...]:
    return (one.run, one.model) if several else (one.model,)


def _metric(one: Entry, name: str) -> str:
    if name not in one.metrics:
        return ""
    return UNKNOWN if math.isnan(one.metrics[name]) and one.kind == "published" else number(one.metrics[name])


def _parameters(one: Entry) -> str:
    counts = [_count(value) for value in (one.nonzero, one.parameters) if value is not None]
    return " of ".join(counts) or (UNKNOWN if one.kind == "published" else "")


def _ratios(one: Entry) -> tuple[str, str]:
    if not one.bops or not one.their_bops:
        return "", ""
    return _cell(one.bops / one.their_bops), _cell(one.their_bops / one.bops)


def _with_share(one: Entry, group: str, name: str) -> str:
    """Return a count with its share of the board, as ``57,728 (3.34 %)``."""
    costs = one.groups[group]
    shown = _count(costs.get(name))
    resource, share = _SHARES.get(name, (None, ""))
    if share in costs and shown:
        return f"{shown} ({costs[share]:.3g} %)"
    if resource is None or not shown or one.board not in BOARDS:
        return shown
    return f"{shown} ({BOARDS[one.board].percent(resource, costs[name]):.3g} %)"


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
