"""Published numbers of the studies that come with kerasnac, to stand beside those of a run."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import resources
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.bops import bops
from kerasnac.core.space import baselines
from kerasnac.core.space.blocks import Mlp
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.errors import RunError
from kerasnac.stages.results.saved import SavedRun

#: Words for what a study has, and nobody could read.
UNKNOWN = "not available to us"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Dense(_Strict):
    """A published perceptron.

    Attributes:
        input: Number of inputs.
        outputs: Number of outputs.
        widths: Of its hidden layers.
    """

    input: int
    outputs: int
    widths: tuple[int, ...]


class Row(_Strict):
    """One published network.

    Attributes:
        name: Name in the study.
        source: Where it was published.
        read: Where the numbers were read, if not there.
        network: Name of a baseline, or a perceptron: what is counted by our rule.
        particles: Particles per jet, where it says so.
        metrics: By name; None for those that are not available.
        parameters: Weights and biases.
        bops: Bit operations as the study counts them.
        widths: At which widths.
        window: Part of a trace that is read, as ``start:end``.
        board: Board that percentages are of.
        groups: Costs by group of :data:`kerasnac.stages.results.side_by_side.GROUPS`, by name.
    """

    name: str
    source: str
    read: str = ""
    network: str | Dense | None = None
    particles: int | None = None
    metrics: Mapping[str, float | None] = {}
    parameters: int | None = None
    bops: float | None = None
    widths: str = ""
    window: str = ""
    board: str = ""
    groups: Mapping[str, Mapping[str, float]] = {}

    @property
    def architecture(self) -> Architecture | None:
        """The network, if it is known."""
        if self.network is None:
            return None
        if isinstance(self.network, str):
            return baselines.get(self.network)
        own = self.network
        space = SearchSpace(input=(own.input,), outputs=own.outputs, blocks=(Mlp(widths=list(own.widths)),))
        return space.decode(()).architecture

    @property
    def our_bops(self) -> float | None:
        """Bit operations of the network by our rule at 32 bits; None if it is not known."""
        network = self.architecture
        return None if network is None else bops(network)


class Claim(_Strict):
    """What a study says besides, or what is known of its numbers.

    Attributes:
        text: The claim.
        read: Where it was read, if not in the study.
    """

    text: str
    read: str = ""


class Study(_Strict):
    """A published study.

    Attributes:
        title: Its tables.
        runs: Names of run files whose runs are compared with it.
        metric: The task metric of the published values.
        bops_rule: How it counts bit operations, a key of :data:`kerasnac.core.network.published_bops.RULES`; empty if it is
            not known.
        rows: Its networks.
        claims: What it says besides.
    """

    title: str
    runs: Annotated[tuple[str, ...], Field(min_length=1)]
    metric: str
    bops_rule: str = ""
    rows: tuple[Row, ...] = ()
    claims: tuple[Claim, ...] = ()


@functools.cache
def studies() -> Mapping[str, Study]:
    """Return the published studies by name."""
    text = (resources.files(__package__) / "published.yaml").read_text(encoding="utf-8")
    found: Mapping[str, Any] = yaml.safe_load(text)
    return {name: Study.model_validate(study) for name, study in found.items()}


def study_of(run: SavedRun) -> Study:
    """Return the study that a run is compared with.

    Raises:
        RunError: If there is none; names the run files that have one.
    """
    for study in studies().values():
        if run.name in study.runs and study.rows:
            return study
    known = ", ".join(name for study in studies().values() if study.rows for name in study.runs)
    raise RunError(f"{run.folder}: no published numbers are known for {run.name!r}; there are some for {known}")
