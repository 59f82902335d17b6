"""Sensitivity of a network to the width of each of its layers, and the widths that are worth a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from kerasnac.core.data.dataset import Development, Task
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.exactness import KERNEL_KINDS
from kerasnac.core.network.origin import CompressionOrigin
from kerasnac.core.network.quantization import check_representable
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.widths import Width, Widths, values_of, width_of
from kerasnac.core.settings import CompressSettings, MixedSettings
from kerasnac.core.space.layer_bits import LayerBits, LayerBitsSpace, has_kernel, layer_bits, with_layer_bits
from kerasnac.core.store.journal import Journal
from kerasnac.core.store.keys import content_key, decisive
from kerasnac.core.store.memo import Memo, Record, Shape
from kerasnac.errors import ConfigError
from kerasnac.stages.compress.points import recorded_values
from kerasnac.stages.compress.result import tolerated
from kerasnac.stages.context import Context

#: Validation samples on which the sensitivity of a layer is measured.
SENSITIVITY_SAMPLES = 4096

#: Shape of the record of a sensitivity; widths are texts where they are keys.
_SENSITIVITY = Shape(
    {
        "key": str,
        "layer": str,
        "metric": float,
        "lowered": dict[Annotated[str, Field(pattern=r"^(\d{1,3}|ternary|binary)$")], float],
        "kept": list[Width],
    }
)


@dataclass(frozen=True)
class MixedStart:
    """Start of the search for the widths of one model.

    Attributes:
        parent: Float, tuned.
        point: Its quantized point with the same widths everywhere.
        settings: Of the compression; its ``mixed`` must be given.
        seed: Seed of the run.
        folder: Run folder.
    """

    parent: Trained
    point: Trained
    settings: CompressSettings
    seed: int
    folder: Path

    @property
    def mixed(self) -> MixedSettings:
        """Settings of the search."""
        assert self.settings.mixed is not None
        return self.settings.mixed

    @property
    def widths(self) -> dict[str, Width]:
        """Width of every layer of the starting point."""
        return layer_bits(self.parent.architecture, **self._bits)

    @property
    def _bits(self) -> Widths:
        origin = self.point.origin_as(CompressionOrigin)
        return {"weight_bits": origin.weight_bits, "activation_bits": origin.activation_bits}

    @property
    def journal(self) -> Journal:
        """Journal of sensitivities and points."""
        return Journal(self.folder / "mixed.jsonl")

    def memo(self, task: Task) -> Memo:
        """Read all records of the journal, by key."""
        point = Shape({"key": str, "model": str, **recorded_values(task)})
        return Memo(self.journal, lambda r: _SENSITIVITY if "layer" in r else point, lambda record: record["key"])

    def key(self, data: Development, **parts: object) -> str:
        """Return the hash of all that decides a result of this search, of which the ``parts`` say which."""
        return content_key(
            "mixed",
            parent=self.parent.identity,
            start=self.point.identity,
            sparsity=self.point.sparsity,
            **decisive(self.settings, ("tie_free",)),
            clip_quantile=self.settings.clip_quantile,
            seed=self.seed,
            data=data.fingerprint,
            **parts,
        )

    def quantized(self, data: Development, widths: LayerBits) -> Architecture:
        """Return the network with formats of these widths, made as those of the starting point are."""
        from kerasnac.adapters.keras.train import quantized_start

        own = with_layer_bits(self.parent.architecture, dict(widths.by_layer))
        quantized, _ = quantized_start(
            own,
            self.parent.weights,
            data,
            **self._bits,
            clip_quantile=self.settings.clip_quantile,
            tie_free=self.settings.tie_free,
        )
        check_representable(quantized)
        return quantized


@dataclass(frozen=True)
class LayerJob:
    """The sensitivity of one layer.

    Attributes:
        start: Where the search begins.
        layer: Name of the layer.
        choices: Widths to choose from, ascending, that of the starting point included.
        known: Record of an earlier measurement.
    """

    start: MixedStart
    layer: str
    choices: tuple[Width, ...]
    known: Record | None = None

    def key(self, data: Development) -> str:
        """Return the hash of all that decides the measurement."""
        return self.start.key(data, layer=self.layer, choices=self.choices, max_drop=self.start.mixed.max_drop)


#: How much worse the metric is, relatively, with a layer of a width: by layer name and width.
Drops = Mapping[tuple[str, Width], float]


def width_space(start: MixedStart, context: Context) -> tuple[LayerBitsSpace, Drops]:
    """Return the widths that the layers may have, without those that alone cost too much of the metric, and these costs.

    Raises:
        ConfigError: If no layer has a choice.
    """
    mixed, own = start.mixed, start.widths
    jobs, memo = [], start.memo(context.data.task)
    for node in start.parent.architecture.nodes:
        if node.name in own:
            asked: tuple[Width, ...] = mixed.weight_bits if has_kernel(node) else mixed.activation_bits
            # A scale is never ternary or binary.
            choices = {*(width for width in asked if node.layer.kind in KERNEL_KINDS or isinstance(width, int)), own[node.name]}
            job = LayerJob(start, node.name, tuple(sorted(choices, key=values_of)))
            jobs.append(replace(job, known=memo.get(job.key(context.data))))
    measured = dict(context.workers.map(sensitivity, jobs))
    space = LayerBitsSpace(tuple((job.layer, tuple(measured[i])) for i, job in enumerate(jobs)))
    if not space.genes:
        raise ConfigError(
            f"no layer of {start.point.name} may have another width: give mixed other weight_bits or activation_bits, or a "
            f"max_drop above {mixed.max_drop:g}"
        )
    return space, {(job.layer, bits): drop for i, job in enumerate(jobs) for bits, drop in measured[i].items()}


def sensitivity(data: Development, job: LayerJob) -> dict[Width, float]:
    """Measure how much worse the metric is, relatively and untrained, with a layer of other widths; runs in a worker.

    Returns:
        Width -> loss of the metric, ascending: 0 for those not below that of the starting point. Widths that lose too
        much are left out.
    """
    from kerasnac.adapters.keras.predict import predict

    start, validation = job.start, data.validation
    own, limit = start.widths, start.mixed.max_drop
    record = job.known
    if record is None:
        x, y = validation.x[:SENSITIVITY_SAMPLES], validation.y[:SENSITIVITY_SAMPLES]

        def metric(architecture: Architecture) -> float:
            return float(data.task.score(predict(architecture, start.point.weights, x), y))

        best = metric(start.point.architecture)
        measured: dict[Width, float] = {}
        at = job.choices.index(own[job.layer])
        kept = list(job.choices[at:])
        for bits in reversed(job.choices[:at]):
            measured[bits] = metric(start.quantized(data, LayerBits(tuple((own | {job.layer: bits}).items()))))
            if not tolerated(measured[bits], best, limit, data.task):
                break  # What is narrower still is not better.
            kept.append(bits)
        record = {
            "key": job.key(data),
            "parent": start.parent.name,
            "from": start.point.name,
            "layer": job.layer,
            "metric": best,
            "lowered": {str(bits): value for bits, value in measured.items()},
            "kept": sorted(kept, key=values_of),
        }
        start.journal.append(record)
    sign, before = (1 if data.task.sense == "max" else -1), record["metric"]
    lowered = {width_of(bits): sign * (before - value) / max(abs(before), 1e-12) for bits, value in record["lowered"].items()}
    return {bits: lowered.get(bits, 0.0) for bits in record["kept"]}
