"""Short texts and HTML tables by which objects show themselves in Python and in notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

#: Rows of a table in a notebook, at most.
MOST_ROWS = 50


def number(value: float) -> str:
    """Return a number in a few digits."""
    if value == int(value) if abs(value) < 1e15 else False:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def counted(count: int, name: str) -> str:
    """Return a number of things: ``1 candidate``, ``1,200 candidates``."""
    return f"{count:,} {name}" if count == 1 else f"{count:,} {name}s"


def span(name: str, values: Iterable[float]) -> str:
    """Return the range of some values: ``bops 42,647 to 267,145``; empty if there are none."""
    known = [value for value in values if value == value]
    if not known:
        return ""
    low, high = number(min(known)), number(max(known))
    return f"{name} {low}" if low == high else f"{name} {low} to {high}"


def listed(*parts: str) -> str:
    """Return the parts that are not empty, with commas between them."""
    return ", ".join(filter(None, parts))


def html_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table for a notebook; of many rows the first.

    Args:
        title: Above it.
        headings: Of the columns.
        rows: Cells; numbers are put to the right.
    """
    lines = [f"<p><b>{escape(title)}</b></p>", "<table>", f"<tr>{''.join(f'<th>{escape(one)}</th>' for one in headings)}</tr>"]
    lines += [f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows[:MOST_ROWS]]
    lines.append("</table>")
    if len(rows) > MOST_ROWS:
        lines.append(f"<p>and {len(rows) - MOST_ROWS} more</p>")
    return "\n".join(lines)


def html_facts(title: str, facts: Mapping[str, object]) -> str:
    """Return a table of names and values for a notebook."""
    return html_table(title, ("", ""), list(facts.items()))


def _cell(value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f'<td style="text-align:right">{number(float(value)) if value == value else "nan"}</td>'
    return f'<td style="text-align:left">{escape(str(value))}</td>'
