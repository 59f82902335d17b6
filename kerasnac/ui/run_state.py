"""The state of a running run, as its events tell it: what a live view shows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kerasnac.core.store.progress import Step

#: Messages that are kept.
MESSAGES = 20

#: Hypervolumes that are kept, of the last generations.
VOLUMES = 60


@dataclass(frozen=True)
class StageProgress:
    """How far a stage is.

    Attributes:
        done: Units done.
        total: Units in all; 0 where nobody knows.
        text: Its last message.
        began: When it began, seconds of a clock.
        known: Units that were done before it began.
        since: When the first of the other units began.
        ended: When it ended; None while it goes on.
    """

    done: int = 0
    total: int = 0
    text: str = ""
    began: float = 0.0
    known: int = 0
    since: float = 0.0
    ended: float | None = None

    @property
    def is_over(self) -> bool:
        """True if it has ended, or has nothing more to do."""
        return self.ended is not None or 0 < self.total == self.done

    def left(self, now: float) -> float | None:
        """Return the seconds left at the rate so far; None if there is none."""
        fresh = self.done - self.known
        if self.is_over or fresh <= 0:
            return None
        return (now - self.since) / fresh * (self.total - self.done)


@dataclass(frozen=True)
class Point:
    """A network on the front so far.

    Attributes:
        name: Of the candidate, or of one of its networks.
        losses: Objectives, all to be minimised.
        metrics: Values by name.
        architecture: Layers, in a line.
    """

    name: str
    losses: tuple[float, ...]
    metrics: Mapping[str, float]
    architecture: str

    def dominates(self, other: Point) -> bool:
        """Return True if this is nowhere worse than another point; of equal ones the older stays."""
        return all(own <= its for own, its in zip(self.losses, other.losses, strict=True))


@dataclass(frozen=True)
class RunState:
    """A run, after some events.

    Attributes:
        facts: Of the event that began it.
        began: When it began, seconds of a clock.
        stages: How far they are, by name, in the order in which they began.
        objectives: Metric -> ``max`` or ``min``, of the search.
        front: Networks that no other dominates.
        counts: Candidates by status.
        fresh: Candidates that were trained by this process.
        search_began: When the first candidate was given to a worker.
        volumes: Hypervolume after each of the last generations.
        generation: The last one of which a candidate has a result.
        running: What the workers have: model -> stage, and since when.
        places: Place of each of these among the workers, from 0.
        most: The most that ran at the same time.
        messages: Failures, refusals and warnings; the newest last.
        ended: When it ended; None while it goes on.
        how: How it ended: done, stopped or failed.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    began: float = 0.0
    stages: Mapping[str, StageProgress] = field(default_factory=dict)
    objectives: Mapping[str, str] = field(default_factory=dict)
    front: tuple[Point, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    fresh: int = 0
    search_began: float | None = None
    volumes: tuple[float, ...] = ()
    generation: int = 0
    running: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    places: Mapping[str, int] = field(default_factory=dict)
    most: int = 0
    messages: tuple[str, ...] = ()
    ended: float | None = None
    how: str = ""

    def after(self, step: Step, now: float) -> RunState:
        """Return the state after one more event.

        Args:
            step: The event.
            now: When it came, seconds of a clock.
        """
        took_in = _TAKERS.get(step.kind)
        state = self if took_in is None else took_in(self, step, now)
        return state._counted(step, now) if step.total else state

    def over(self, how: str, now: float) -> RunState:
        """Return the state at the end.

        Args:
            how: Done, stopped or failed.
            now: Seconds of the clock.
        """
        return replace(self, ended=now, how=how, running={}, places={})

    def per_hour(self, now: float) -> float | None:
        """Return the candidates that this process has trained per hour; None if there is none yet."""
        if not self.fresh or self.search_began is None:
            return None
        until = self.stages["search"].ended if "search" in self.stages else None
        seconds = (now if until is None else until) - self.search_began
        return 3600 * self.fresh / seconds if seconds > 0 else None

    def _counted(self, step: Step, now: float) -> RunState:
        before = self.stages.get(step.stage, StageProgress(began=now, since=now))
        made = replace(before, done=step.done, total=step.total, text=step.text or before.text)
        if step.facts.get("known"):
            made = replace(made, known=step.done, since=now)
        elif step.kind == "progress" and not before.total:  # The first count, of a stage that tells of no single units.
            made = replace(made, known=step.done)
        return self._with_stage(step.stage, made)

    def _with_stage(self, name: str, stage: StageProgress) -> RunState:
        return replace(self, stages={**self.stages, name: stage})

    def _said(self, text: str) -> RunState:
        return replace(self, messages=(*self.messages, text)[-MESSAGES:])

    # What each kind of event changes.

    def _run_started(self, step: Step, now: float) -> RunState:
        return replace(self, facts=step.facts, began=self.began or now)

    def _stage_started(self, step: Step, now: float) -> RunState:
        state = self._with_stage(step.stage, StageProgress(began=now, since=now))
        if "objectives" in step.facts["asked"]:
            senses = {one["metric"]: one["sense"] for one in step.facts["asked"]["objectives"]}
            state = replace(state, objectives=senses)
        return state

    def _stage_ended(self, step: Step, now: float) -> RunState:
        known = self.stages.get(step.stage, StageProgress(began=now))
        return replace(self._with_stage(step.stage, replace(known, ended=now)), running={}, places={})

    def _working(self, step: Step, now: float) -> RunState:
        names = step.facts["running"]
        running = {name: self.running.get(name, (step.stage, now)) for name in names}
        places = {name: self.places[name] for name in names if name in self.places}
        free = (place for place in range(len(names)) if place not in places.values())
        places |= {name: next(free) for name in running if name not in places}
        began = now if step.stage == "search" and self.search_began is None else self.search_began
        return replace(self, running=running, places=places, most=max(self.most, len(names)), search_began=began)

    def _candidate(self, step: Step, now: float) -> RunState:
        facts, status = step.facts, step.facts["status"]
        state = replace(
            self,
            counts={**self.counts, status: self.counts.get(status, 0) + 1},
            fresh=self.fresh + (status == "ok" and not facts["known"]),
            generation=max(self.generation, facts["generation"]),
        )
        if status == "failed":
            state = state._said(f"{facts['model']} failed: {facts['reason']}")
        return replace(state, front=state._front_with(facts)) if facts["eligible"] else state

    def _front_with(self, facts: Mapping[str, Any]) -> tuple[Point, ...]:
        front = self.front
        for one in facts["points"] or [facts]:
            values = [one["metrics"].get(name, math.nan) for name in self.objectives]
            if not values or not all(map(math.isfinite, values)):
                continue
            signs = [-1 if sense == "max" else 1 for sense in self.objectives.values()]
            losses = tuple(sign * value for sign, value in zip(signs, values, strict=True))
            new = Point(one["model"], losses, one["metrics"], facts["architecture"])
            if not any(point.dominates(new) for point in front):
                front = (*(point for point in front if not new.dominates(point)), new)
        return tuple(sorted(front, key=lambda point: point.losses))

    def _generation(self, step: Step, now: float) -> RunState:
        return replace(self, volumes=(*self.volumes, step.facts["hypervolume"])[-VOLUMES:])

    def _firmware(self, step: Step, now: float) -> RunState:
        facts = step.facts
        return self._said(f"{facts['model']} has no firmware: {facts['reason']}") if facts["reason"] else self

    def _message(self, step: Step, now: float) -> RunState:
        return self._said(step.facts["message"]) if step.facts["level"] != "info" else self


_TAKERS = {
    "run_started": RunState._run_started,
    "stage_started": RunState._stage_started,
    "stage_ended": RunState._stage_ended,
    "working": RunState._working,
    "candidate": RunState._candidate,
    "generation": RunState._generation,
    "firmware": RunState._firmware,
    "message": RunState._message,
}
