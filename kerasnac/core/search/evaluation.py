"""The record of one evaluated candidate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from kerasnac.core.display import listed, number
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.mold import Mold
from kerasnac.core.network.training import Training
from kerasnac.core.space.search_space import Candidate, Genome

#: ``ok``: trained; ``brief``: trained for some epochs only, by successive halving; ``infeasible``: cannot be built;
#: ``over_budget``: never trained because a cost breaks a budget; ``failed``: its worker processes died.
Status = Literal["ok", "brief", "infeasible", "over_budget", "failed"]


@dataclass(frozen=True)
class Fidelity:
    """Training budget of an evaluation; only evaluations of one fidelity are compared.

    Attributes:
        epochs: Epochs of the training.
        data_fraction: Fraction of the training samples.
        folds: Folds of the cross-validation; 1 for none.
        key: Hash of everything that decides the metrics of a candidate: data, all training settings, seed.
    """

    epochs: int
    data_fraction: float
    folds: int
    key: str


@dataclass(frozen=True)
class RampPoint:
    """A quantized network that a training with learned widths has left on its way.

    Attributes:
        cycle: Cycles trained.
        metrics: Values by name: on validation, and costs.
    """

    cycle: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Evaluation:
    """Result of one candidate.

    Attributes:
        index: Position in the search: evaluations sorted by it are in the order in which they were asked for.
        generation: Generation of the search, from 0.
        genome: Canonical genome.
        status: See :data:`Status`.
        candidate: Network and training that the genome stands for; None if it is infeasible.
        metrics: Values by name; only costs when it was not trained. With learned widths, those of the float training.
        fidelity: How carefully it was, or would have been, evaluated.
        seed: Seed of the training.
        seconds: Wall time of the training.
        reason: Why it was not trained, or how its training failed.
        points: Networks on its front, if widths are learned; each is a point of the search, and the float network none.
        cycle: For one of these points, see :attr:`expanded`, its cycle; 0 for a candidate.
        search_training: Training that the search gives every candidate, before a candidate's own hyperparameters; not in
            the journal, where :attr:`Fidelity.key` stands for it.
        searched: Name of the folder, under ``searched`` in the run folder, with the quantized network as the search trained
            it; empty if there is none. Not in the journal either.
        mold: Form that the candidate shares with others of its space; None if it shares none. Not in the journal either.
    """

    index: int
    generation: int
    genome: Genome
    status: Status
    candidate: Candidate | None
    metrics: Mapping[str, float]
    fidelity: Fidelity
    seed: int = 0
    seconds: float = 0.0
    reason: str = ""
    points: tuple[RampPoint, ...] = ()
    cycle: int = 0
    search_training: Training = field(default_factory=Training, compare=False)
    searched: str = field(default="", compare=False)
    mold: Mold | None = field(default=None, compare=False, repr=False)

    def __repr__(self) -> str:
        values = (f"{name}={number(value)}" for name, value in self.metrics.items())
        network = "" if self.candidate is None else str(self.candidate.architecture)
        return f"Evaluation({listed(f'{self.key}: {network}', self.status, *values)})"

    @property
    def built(self) -> Candidate:
        """The candidate of an evaluation that is not infeasible by its genome."""
        assert self.candidate is not None
        return self.candidate

    @property
    def key(self) -> str:
        """Id of the candidate, or the genome of one that cannot be built: evaluations of one key and fidelity are equal."""
        return str(self.genome) if self.candidate is None else self.candidate.id

    @property
    def name(self) -> str:
        """The key, and the cycle of a point."""
        return f"{self.key}-c{self.cycle:03d}" if self.cycle else self.key

    @property
    def expanded(self) -> tuple[Evaluation, ...]:
        """One evaluation for every point, with the point's metrics; this one if it has no points."""
        own = (replace(self, metrics={**self.metrics, **p.metrics}, points=(), cycle=p.cycle) for p in self.points)
        return tuple(own) or (self,)

    def to_record(self) -> dict[str, Any]:
        """Return a JSON-ready record, flat but for points; metrics become columns ``metrics.<name>``."""
        candidate = self.candidate
        return {
            "index": self.index,
            "generation": self.generation,
            "id": None if candidate is None else candidate.id,
            "status": self.status,
            **{f"metrics.{name}": value for name, value in self.metrics.items()},
            **({"points": [asdict(point) for point in self.points]} if self.points else {}),
            "seconds": round(self.seconds, 3),
            "seed": self.seed,
            **{f"fidelity.{name}": value for name, value in asdict(self.fidelity).items()},
            "reason": self.reason,
            "genome": list(self.genome),
            "training": None if candidate is None else dict(candidate.training),
            "architecture": None if candidate is None else candidate.architecture.to_dict(),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Evaluation:
        """Read what :meth:`to_record` wrote."""
        candidate = None
        if record["architecture"] is not None:
            candidate = Candidate(Architecture.from_dict(record["architecture"]), tuple(sorted(record["training"].items())))
        metrics = {key.removeprefix("metrics."): value for key, value in record.items() if key.startswith("metrics.")}
        fidelity = Fidelity(**{f.name: record[f"fidelity.{f.name}"] for f in fields(Fidelity)})
        plain = {key: record[key] for key in ("index", "generation", "status", "seed", "seconds", "reason")}
        points = tuple(RampPoint(point["cycle"], point["metrics"]) for point in record.get("points", ()))
        genome = tuple(record["genome"])
        return cls(genome=genome, candidate=candidate, metrics=metrics, fidelity=fidelity, points=points, **plain)
