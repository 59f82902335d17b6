"""Everything that was trained, as points with all that is recorded of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from kerasnac.core.data.task import Task
from kerasnac.core.network.origin import CompressionOrigin, LearnedOrigin, TuningOrigin
from kerasnac.core.network.trained import Trained
from kerasnac.core.search.objectives import COSTS
from kerasnac.stages.compress.points import point_origin
from kerasnac.stages.compress.result import CompressResult, tolerated
from kerasnac.stages.references.classical import best_of_each
from kerasnac.stages.results.saved import SavedRun
from kerasnac.ui.figures import plain

#: What is recorded of a point and is no property of it, so that no front is drawn of it.
_NO_OBJECTIVES = frozenset(
    {"index", "generation", "cycle", "iteration", "pressure", "weight_bits", "activation_bits", "number"}
)

#: Stages, and what their points are called.
STAGES: Mapping[str, str] = {
    "search": "candidates",
    "tune": "tuned, float",
    "compress": "compressed",
    "trees": "boosted trees",
}


@dataclass(frozen=True)
class Point:
    """One network, or one ensemble of trees.

    Attributes:
        name: Its name; that of a candidate is its id.
        stage: A key of :data:`STAGES`.
        family: Id of the candidate that it comes from, or name of the baseline; points of one family are linked.
        values: Metrics on validation, costs, and what else is a number, by name; ``test`` is the task metric on the test split.
        text: The network in a line.
        marks: ``front``, ``chosen`` (of the next stage), ``firmware``.
        reference: Name of the seed or baseline that it is; empty for others.
        counts: False if it breaks a budget or the tolerance, and so is on no front.
    """

    name: str
    stage: str
    family: str
    values: Mapping[str, float]
    text: str = ""
    marks: tuple[str, ...] = ()
    reference: str = ""
    counts: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as the page has them."""
        values = {name: number for name, value in self.values.items() if (number := plain(value)) is not None}
        return {
            "name": self.name,
            "stage": self.stage,
            "family": self.family,
            "values": values,
            "text": self.text,
            "marks": list(self.marks),
            "reference": self.reference,
            "counts": self.counts,
        }


@dataclass(frozen=True)
class Explorer:
    """Points in the plane, or in the space, of any of their values.

    Attributes:
        key: Its place on the page.
        title: What it shows.
        points: The points.
        axes: Values to begin with: horizontal, vertical, and a third one, or an empty text.
        senses: ``max`` or ``min`` of every value that can be an objective.
        links: True if points of one family are to be linked.
        levels: Metrics of the classical methods, which have none of the costs, by name.
        note: What else has to be said.
    """

    key: str
    title: str
    points: tuple[Point, ...]
    axes: tuple[str, str, str]
    senses: Mapping[str, str] = field(default_factory=dict)
    links: bool = True
    levels: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    note: str = ""

    @property
    def keys(self) -> list[str]:
        """Names of all values, those to begin with first."""
        found = dict.fromkeys(name for name in self.axes if name)
        return list(found | dict.fromkeys(name for point in self.points for name in point.values))

    def to_dict(self) -> dict[str, Any]:
        """Return what the page's script needs."""
        return {
            "axes": list(self.axes),
            "keys": self.keys,
            "senses": dict(self.senses),
            "links": self.links,
            "stages": dict(STAGES),
            "levels": {name: {k: plain(v) for k, v in metrics.items()} for name, metrics in self.levels.items()},
            "points": [point.to_dict() for point in self.points],
        }


def points_of(run: SavedRun) -> tuple[Point, ...]:
    """Return the points of all stages."""
    return (*_candidates(run), *_tuned(run), *_compressed(run), *_trees(run))


def senses_of(task: Task, keys: Sequence[str]) -> dict[str, str]:
    """Return ``max`` or ``min`` of the values that can be objectives: metrics of the task, losses, and costs."""
    costs = {"loss", "seconds", "parameters", "test", *COSTS, "yosys_luts", "estimated_luts"}
    found = {name: "min" for name in keys if name in costs and name not in _NO_OBJECTIVES}
    return found | {"test": str(task.sense)} | {name: str(sense) for name, sense in task.senses.items()}


def explorer(run: SavedRun) -> Explorer | None:
    """Return all points with the objectives of the search as axes; None if there are no points."""
    points, task, search = points_of(run), run.task, run.search
    if not points:
        return None
    objectives = [one.metric for one in search.objectives] if search else [task.metric, "bops"]
    first = next((name for name in objectives if name != task.metric), "bops")
    others = [name for name in objectives if name not in (first, task.metric)]
    known = [name for name in others if any(name in point.values for point in points)]
    made = Explorer("fronts", "All stages in one plane", points, (first, task.metric, known[0] if known else ""))
    levels = {point.name: point.metrics for point in best_of_each(run.classical, task)}
    return Explorer(**{**vars(made), "senses": senses_of(task, made.keys), "levels": levels})


def trials(run: SavedRun) -> Explorer | None:
    """Return the trials of the tuning, by hyperparameter; None if there are few, or nothing was varied."""
    metric, found = run.task.metric, list[Point]()
    for model, records in run.trials.items():
        for record in records:
            values = {k: float(v) for k, v in record.items() if isinstance(v, Real) and not isinstance(v, bool)}
            words = ", ".join(f"{k} {v}" for k, v in record.items() if isinstance(v, str) and k not in ("key", "model", "kind"))
            if metric in values and record.get("kind") == "trial":
                number = record.get("number", len(found))
                found.append(Point(f"{model}, trial {number}", "tune", model, values, words))
    varied = [
        name
        for name in ("learning_rate", "weight_decay", "dropout", "batch_size")
        if len({point.values.get(name) for point in found}) > 1
    ]
    if not varied or len(found) < 4:
        return None
    axes = (varied[0], metric, "")
    return Explorer("trials", "Trials by hyperparameter", tuple(found), axes, {metric: str(run.task.sense)}, links=False)


def family_of(model: Trained) -> str:
    """Return the id of the candidate that a tuned model comes from; its name if it comes from none."""
    return model.origin.candidate if isinstance(model.origin, TuningOrigin) else model.name


def chosen_of(run: SavedRun) -> tuple[Trained, ...]:
    """Return the compressed models that were chosen for firmware; those of the front that are cheapest if none were."""
    if run.compressed is None:
        return ()
    own = {model.name: model for model in run.compressed.models}
    converted = [made.trained.name for made in run.firmware]
    asked = run.calls["firmware"].asked.get("models")
    scored = [name for name in run.test if name in own]
    names = dict.fromkeys([*converted, *(asked if isinstance(asked, list | tuple) else []), *scored])
    return tuple(own[name] for name in names if name in own)


def _candidates(run: SavedRun) -> Iterator[Point]:
    search = run.search
    if search is None:
        return
    front, chosen = {(e.index, e.cycle) for e in search.front}, {family_of(model) for model in run.tuned}
    names = {candidate: name for name, candidate in search.references.items()}
    for e in search.points:
        values = {**e.metrics, "seconds": e.seconds, "generation": float(e.generation), "index": float(e.index)}
        values |= {"cycle": float(e.cycle)} if e.cycle else {}
        on_front = (e.index, e.cycle) in front
        marks = ("front",) * on_front + ("chosen",) * (e.key in chosen and (on_front or not e.cycle))
        counts = all(budget.violation(e.metrics[budget.metric]) <= 0 for budget in search.budgets)
        training = "".join(f"; {name} {value}" for name, value in e.built.training)
        text = f"{e.built.architecture}{training}"
        yield Point(e.name, "search", e.key, values, text, marks, names.get(e.key, ""), counts)


def _tuned(run: SavedRun) -> Iterator[Point]:
    parents = {model.name: model for model in (*run.tuned, *(run.compressed.parents if run.compressed else ()))}
    candidates = {e.key for e in run.search.trained} if run.search else set()
    converted = {point_origin(model).parent for model in chosen_of(run)}
    for model in parents.values():
        values = {**model.metrics, "bops": model.bops, "parameters": model.architecture.parameters, **_test(run, model.name)}
        marks = ("chosen",) * (model.name in converted)
        reference = "" if family_of(model) in candidates else model.name
        yield Point(model.name, "tune", family_of(model), values, str(model.architecture), marks, reference)


def _compressed(run: SavedRun) -> Iterator[Point]:
    result = run.compressed
    if result is None:
        return
    front, chosen = {model.name for model in result.front}, {model.name for model in chosen_of(run)}
    converted = {made.trained.name for made in run.firmware}
    parents = {model.name: model for model in result.parents}
    for model in result.models:
        parent = parents.get(point_origin(model).parent)
        values = {**result.values(model), **_origin(model), **_test(run, model.name)}
        if isinstance(seconds := run.points.get(model.name, {}).get("seconds"), Real):
            values["seconds"] = float(seconds)
        if model.name in run.yosys:
            values["yosys_luts"] = run.yosys[model.name]
        marks = tuple(mark for mark, of in (("front", front), ("chosen", chosen), ("firmware", converted)) if model.name in of)
        family = point_origin(model).parent if parent is None else family_of(parent)
        counts = parent is None or _kept(result, model, parent)
        yield Point(model.name, "compress", family, values, str(model.architecture), marks, counts=counts)


def _kept(result: CompressResult, model: Trained, parent: Trained) -> bool:
    metric = result.task.metric
    return tolerated(model.metrics[metric], parent.metrics[metric], result.tolerance, result.task)


def _origin(model: Trained) -> dict[str, float]:
    """Return what is a number of the origin of a compressed model."""
    origin = point_origin(model)
    found = {"iteration": float(origin.iteration)}
    if isinstance(origin, CompressionOrigin):
        bits = {"weight_bits": origin.weight_bits, "activation_bits": origin.activation_bits}
        found |= {name: float(value) for name, value in bits.items() if not isinstance(value, str)}
    elif isinstance(origin, LearnedOrigin):
        found["pressure"] = origin.pressure
    return found


def _trees(run: SavedRun) -> Iterator[Point]:
    if run.trees is None:
        return
    front = {point.name for point in run.trees.front}
    for point in run.trees.points:
        marks = ("front",) * (point.name in front)
        yield Point(point.name, "trees", point.recipe, point.values | _test(run, point.name), f"{point.ensemble}", marks)


def _test(run: SavedRun, name: str) -> dict[str, float]:
    return {"test": run.test[name].value} if name in run.test else {}


def luts_of(run: SavedRun, models: Sequence[Trained]) -> dict[str, Mapping[str, Mapping[str, float]]]:
    """Return look-up tables of the adder graphs by layer and cause, of the models whose firmware has recorded them."""
    known = {made.trained.name: made.adder_graph.luts for made in run.firmware if made.adder_graph.luts}
    found: dict[str, Mapping[str, Mapping[str, float]]] = {}
    for model in models:
        if own := known.get(model.name):  # In the order of the layers; the input, if it costs, is not among their names.
            names = dict.fromkeys([*(own.keys() - set(model.architecture.names)), *model.architecture.names])
            found[model.name] = {layer: own[layer] for layer in names if layer in own}
    return found
