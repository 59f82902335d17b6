"""One model of a run through all its stages: candidate, tuned, compressed, firmware."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from kerasnac.core.data.bootstrap import Score
from kerasnac.core.network.architecture import Architecture, short
from kerasnac.core.network.origin import TuningOrigin
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.weights import quantized_weights
from kerasnac.core.search.evaluation import Evaluation
from kerasnac.errors import RunError
from kerasnac.stages.compress.points import point_origin
from kerasnac.stages.references.result import TreesPoint
from kerasnac.stages.results.saved import SavedRun

if TYPE_CHECKING:
    from kerasnac.adapters.hls4ml.vendor import VendorReport
    from kerasnac.stages.firmware.result import Firmware


@dataclass(frozen=True)
class LayerFacts:
    """One layer of a network, as it was trained.

    Attributes:
        name: ``<kind>_<count>``.
        text: The layer in a word or two.
        output: Shape of one output sample.
        weight: Format of its weights; empty if it has none, or is float.
        bias: Format of its biases.
        activation: Format of its outputs, where they are rounded; of the widest channel, where every channel has its own.
        weight_bits: Mean width of its weights; None without any.
        zeros: Fraction of zero weights, after quantization; None without weights.
        weights: Number of its weights, biases left out.
        nonzero: Number of those that are not zero, after quantization.
        bops: Bit operations; None where nothing is multiplied.
    """

    name: str
    text: str
    output: tuple[int, ...]
    weight: str = ""
    bias: str = ""
    activation: str = ""
    weight_bits: float | None = None
    zeros: float | None = None
    weights: int = 0
    nonzero: int = 0
    bops: float | None = None


@dataclass(frozen=True)
class Story:
    """A model, with what it comes from and what was made of it.

    Attributes:
        name: Name of the model that was asked for.
        kind: What it is: ``candidate``, ``tuned``, ``compressed`` or ``trees``.
        evaluation: The candidate of the global search; None for a baseline or a network of one's own.
        tuned: The float model; None if the candidate was not chosen.
        compressed: The compressed model; None if another kind was asked for.
        points: Compressed models of the tuned one.
        firmware: Of the compressed model, if there is some.
        vendor: Reports of the vendor's tools on it, if they were read.
        trees: The point of boosted trees, if such a one was asked for.
        costs: Recorded costs of the model that was asked for, by name.
        test: Scores on the test split of all models of the story, by name.
        notes: Remarks: why there is no firmware, or no adder graph.
    """

    name: str
    kind: str
    evaluation: Evaluation | None = None
    tuned: Trained | None = None
    compressed: Trained | None = None
    points: tuple[Trained, ...] = ()
    firmware: Firmware | None = None
    vendor: VendorReport | None = None
    trees: TreesPoint | None = None
    costs: Mapping[str, float] | None = None
    test: Mapping[str, Score] | None = None
    notes: tuple[str, ...] = ()

    @property
    def architecture(self) -> Architecture | None:
        """The network, as the last stage of the story has it; None for boosted trees."""
        if self.model is not None:
            return self.model.architecture
        return None if self.evaluation is None else self.evaluation.built.architecture

    @property
    def model(self) -> Trained | None:
        """The trained network of the last stage; None if the search alone has trained it."""
        return self.compressed or self.tuned


def names_of(run: SavedRun) -> dict[str, str]:
    """Return all models of a run by name, with their kinds; a name of several kinds is of the latest stage."""
    search, compressed, trees = run.search, run.compressed, run.trees
    found = {e.key: "candidate" for e in search.evaluations if e.candidate is not None} if search else {}
    found |= {name: "candidate" for name, key in search.references.items() if key in found} if search else {}
    found |= {model.name: "tuned" for model in run.tuned}
    found |= {model.name: "compressed" for model in compressed.models} if compressed else {}
    return found | ({point.name: "trees" for point in trees.points} if trees else {})


def story(run: SavedRun, name: str) -> Story:
    """Return one model through all stages.

    Args:
        run: The run.
        name: Of a candidate, a tuned or compressed model, or a point of boosted trees; the beginning will do if it is that
            of one model alone.

    Raises:
        RunError: If there is no such model; names those that are closest.
    """
    name, kind = _found(run, name)
    if kind == "trees":
        assert run.trees is not None
        point = next(one for one in run.trees.points if one.name == name)
        return Story(name, kind, trees=point, costs=point.costs, test=_scores(run, name))
    compressed = next((m for m in run.compressed.models if m.name == name), None) if run.compressed else None
    parent = name if compressed is None else point_origin(compressed).parent
    search = run.search
    candidate = search.references.get(parent, parent) if search else parent
    parents = (*run.tuned, *(run.compressed.parents if run.compressed else ()))
    tuned = next((m for m in parents if m.name == parent or _candidate(m) == candidate), None)
    candidate = _candidate(tuned) or candidate
    evaluation = next((e for e in search.evaluations if e.key == candidate), None) if search else None
    points = tuple(m for m in run.compressed.models if tuned and point_origin(m).parent == tuned.name) if run.compressed else ()
    firmware = next((f for f in run.firmware if f.trained.name == name), None) if compressed else None
    owners = [one for one in (tuned.name if tuned else "", name) if one]
    notes = [f"{one}: {run.refused[one]}" for one in dict.fromkeys(owners) if one in run.refused]
    costs: Mapping[str, float] | None = evaluation.metrics if evaluation is not None else None
    if compressed is not None and run.compressed is not None:
        costs = run.compressed.values(compressed)
        notes += [run.compressed.notes[name]] if name in run.compressed.notes else []
    return Story(
        name,
        kind,
        evaluation,
        tuned,
        compressed,
        points,
        firmware,
        run.vendor.get(name),
        costs=costs,
        test=_scores(run, *owners),
        notes=tuple(notes),
    )


def layers_of(model: Trained) -> Iterator[LayerFacts]:
    """Yield the layers of a trained network, with the formats and zeros of its quantized weights."""
    network = model.architecture
    values = quantized_weights(network, model.weights) if network.quantized else model.weights
    costs = {cost.layer: cost for cost in model.layer_costs}
    for node in network.nodes:
        layer, cost = node.layer, costs.get(node.name)
        kernels = [values[f"{node.name}/{part}"] for part, weight in node.weights.items() if weight.prunable]
        count, left = sum(k.size for k in kernels), sum(int((k != 0).sum()) for k in kernels)
        yield LayerFacts(
            node.name,
            short(layer),
            node.output,
            "" if layer.weight is None else str(layer.weight),
            "" if layer.bias is None else str(layer.bias),
            "" if layer.activation is None else str(layer.activation),
            None if cost is None or not count else cost.weight_bits,
            1 - left / count if count else None,
            count,
            left,
            None if cost is None else cost.bops,
        )


def nonzero_parameters(model: Trained) -> int:
    """Return the number of weights and biases that are not zero, after quantization."""
    network = model.architecture
    values = quantized_weights(network, model.weights) if network.quantized else model.weights
    trained = (f"{node.name}/{part}" for node in network.nodes for part, weight in node.weights.items() if weight.trainable)
    return sum(int((values[key] != 0).sum()) for key in trained)


def _found(run: SavedRun, name: str) -> tuple[str, str]:
    known = names_of(run)
    if name in known:
        return name, known[name]
    fitting = [one for one in known if one.startswith(name)] if name else []
    shortest = min(fitting, key=len, default="")
    if fitting and all(one.startswith(shortest) for one in fitting):
        return shortest, known[shortest]  # A tuned model and the compressed ones that are named after it.
    if fitting:
        raise RunError(f"{run.folder}: {name!r} is the beginning of {len(fitting)} names: {', '.join(fitting[:6])}")
    close = get_close_matches(name, known, 3, 0.5) or list(reversed(known))[:6]
    raise RunError(f"{run.folder} has no model {name!r}; there are {len(known)}, among them {', '.join(close) or 'none'}")


def _candidate(model: Trained | None) -> str:
    return model.origin.candidate if model is not None and isinstance(model.origin, TuningOrigin) else ""


def _scores(run: SavedRun, *names: str) -> dict[str, Score]:
    return {name: run.test[name] for name in names if name in run.test}
