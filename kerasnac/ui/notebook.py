"""Objects in notebooks: figures above the tables by which they show themselves.

IPython finds the functions by the names of the types, so that objects know nothing of them, and nothing is imported before the
first object is shown. A figure is interactive where the front end draws those of plotly, and an image elsewhere.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kerasnac.core.data.dataset import Dataset
    from kerasnac.core.network.architecture import Architecture
    from kerasnac.core.network.trained import Trained
    from kerasnac.stages.compress.result import CompressResult
    from kerasnac.stages.firmware.result import Firmware
    from kerasnac.stages.references.result import TreesResult
    from kerasnac.stages.results.outcome import Outcome
    from kerasnac.stages.results.saved import SavedRun
    from kerasnac.stages.run.session import Run
    from kerasnac.stages.search.result import SearchResult
    from kerasnac.ui.figures import Chart

#: Colour of the text in figures, on white and on black.
_INK = "#808890"


def register(shell: Any) -> None:
    """Have IPython show objects of kerasnac with figures; at a prompt without images they stay lines of text."""
    formats = shell.display_formatter
    if formats.active_types == ["text/plain"]:
        return
    for place, show in _SHOWN.items():
        module, _, name = place.partition(":")
        formats.ipython_display_formatter.for_type_by_name(f"kerasnac.{module}", name, partial(_display, show))


def _display(show: Callable[[Any], Iterator[Any]], thing: Any) -> None:
    from IPython.display import display

    for part in show(thing):
        found = {"text/html": part, "text/plain": repr(thing)} if isinstance(part, str) else _figure(part)
        display(found, raw=True)  # type: ignore[no-untyped-call]


def _figure(part: Any) -> dict[str, Any]:
    """Return a figure in all forms that front ends may know."""
    from matplotlib.figure import Figure

    from kerasnac.ui import plots
    from kerasnac.ui.figures_static import draw

    if isinstance(part, Figure):
        return {"image/png": _base64(plots.png(part)), "text/plain": "figure"}
    return {
        "application/vnd.plotly.v1+json": _plotly(part),
        "image/png": _base64(plots.png(draw(part))),
        "text/plain": f"figure: {part.title}",
    }


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _plotly(chart: Chart) -> dict[str, Any]:
    """Return a figure as plotly's JSON, in colours that suit light and dark notebooks."""
    from kerasnac.ui.figures import INK, plotly

    def inked(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: _INK if key == "color" and part == INK else inked(part) for key, part in value.items()}
        return [inked(part) for part in value] if isinstance(value, list) else value

    made: dict[str, Any] = inked(plotly(chart))
    clear, grid = "rgba(0,0,0,0)", {"gridcolor": "rgba(128,136,144,0.25)", "zerolinecolor": "rgba(128,136,144,0.25)"}
    made["layout"] |= {
        "title": {"text": escape(chart.title), "font": {"size": 14}},
        "font": {"color": _INK, "size": 12},
        "paper_bgcolor": clear,
        "plot_bgcolor": clear,
        "height": 420,
        "margin": {"l": 60, "r": 20, "t": 40, "b": 50},
        "hoverlabel": {"align": "left", "namelength": -1},
        "xaxis": {**made["layout"]["xaxis"], **grid, "automargin": True},
        "yaxis": {**made["layout"]["yaxis"], **grid, "automargin": True},
    }
    return made


def _drawn(drawing: Any) -> str:
    from kerasnac.ui.report.page import svg

    scaled = svg(drawing).replace("<svg ", '<svg style="max-width:100%;height:auto" ', 1)
    return f"<p><b>{escape(drawing.title)}</b></p>{scaled}"


def _search(result: SearchResult) -> Iterator[Any]:
    from kerasnac.ui import charts

    if result.points:
        yield charts.search(result)
    yield result._repr_html_()


def _compressed(result: CompressResult) -> Iterator[Any]:
    from kerasnac.ui import charts

    if result.models:
        yield next(charts.compression(result))
    yield result._repr_html_()


def _trees(result: TreesResult) -> Iterator[Any]:
    from kerasnac.ui import charts

    yield charts.trees(result)
    yield result._repr_html_()


def _network(network: Architecture) -> Iterator[Any]:
    from kerasnac.ui.report.drawing import untrained

    yield _drawn(untrained(network))


def _trained(model: Trained) -> Iterator[Any]:
    from kerasnac.core.display import html_facts, number
    from kerasnac.ui.report.drawing import drawing

    stage = "quantized" if model.architecture.quantized else "float"
    yield _drawn(drawing(model, stage))
    facts = {name: number(value) for name, value in model.metrics.items()}
    facts |= {"zero weights": f"{model.sparsity:.1%}", "seed": str(model.seed)}
    facts |= {
        name: number(value) if isinstance(value, float) else str(value) for name, value in model.training.identity.items()
    }
    yield html_facts("Metrics on validation, and the training", facts)


def _firmware(made: Firmware) -> Iterator[Any]:
    from kerasnac.ui.report.drawing import drawing

    color = "#009E73" if made.bit_exact else _INK if made.comparison is None else "#D55E00"
    name, verdict = escape(made.trained.name), escape(made.verdict)
    report = f"<details><summary>report</summary><pre>{escape(made.report())}</pre></details>"
    yield f'<p><b>{name}: <span style="color:{color}">{verdict}</span></b><br>{escape(str(made.folder))}</p>{report}'
    yield _drawn(drawing(made.trained, "firmware"))


def _outcome(result: Outcome) -> Iterator[Any]:
    from kerasnac.ui import charts

    if result.search.points:
        yield charts.search(result.search)
    if result.compressed.models:
        yield next(charts.compression(result.compressed, result.classical))
    if result.trees is not None:
        yield charts.trees(result.trees, result.compressed)
    yield result._repr_html_()


def _saved(run: SavedRun) -> Iterator[Any]:
    if (outcome := run.outcome) is not None:
        yield from (part for part in _outcome(outcome) if not isinstance(part, str))
    yield run._repr_html_()


def _run(run: Run) -> Iterator[Any]:
    from kerasnac.stages.results.saved import open_run

    yield from _saved(open_run(run.folder))


def _dataset(data: Dataset) -> Iterator[Any]:
    from kerasnac.ui.sample_figures import samples

    yield samples(data)
    yield data._repr_html_()


#: Module and name of every type that has figures -> what is shown of it.
_SHOWN: Mapping[str, Callable[[Any], Iterator[Any]]] = {
    "core.data.dataset:Dataset": _dataset,
    "core.network.architecture:Architecture": _network,
    "core.network.trained:Trained": _trained,
    "stages.compress.result:CompressResult": _compressed,
    "stages.firmware.result:Firmware": _firmware,
    "stages.references.result:TreesResult": _trees,
    "stages.results.outcome:Outcome": _outcome,
    "stages.results.saved:SavedRun": _saved,
    "stages.run.session:Run": _run,
    "stages.search.result:SearchResult": _search,
}
