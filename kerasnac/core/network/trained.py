"""Trained networks, with their weights and where they come from."""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np

from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.bops import bops
from kerasnac.core.network.origin import Origin
from kerasnac.core.network.origin import from_dict as origin_from_dict
from kerasnac.core.network.origin import to_dict as origin_to_dict
from kerasnac.core.network.training import Training
from kerasnac.core.network.weights import Weights, sparsity
from kerasnac.core.store.files import new_folder, write_json
from kerasnac.errors import Infeasible, RunError

log = logging.getLogger("kerasnac")

AnyOrigin = TypeVar("AnyOrigin")

#: Errors that reading a damaged file, or one of another version, raises.
_DAMAGE = (
    LookupError,
    TypeError,
    AttributeError,
    ValueError,
    OSError,
    EOFError,
    RuntimeError,
    BadZipFile,
    zlib.error,
    Infeasible,
)


@dataclass(frozen=True)
class Trained:
    """A trained network.

    Attributes:
        name: For tables and folder names, unique within a run.
        architecture: Float or quantized.
        weights: Latent weights; a quantized network rounds them to its formats when it computes.
        training: How it was trained last.
        metrics: Metrics on validation, by name.
        seed: Seed of the training.
        origin: The stage that made it, and its source; None for a network that no stage made.
    """

    name: str
    architecture: Architecture
    weights: Weights = field(repr=False, compare=False)
    training: Training
    metrics: Mapping[str, float]
    seed: int
    origin: Origin | None = None

    def __post_init__(self) -> None:
        # The order in which files have them: tables show a model that was read like one that was made.
        object.__setattr__(self, "metrics", dict(sorted(self.metrics.items())))

    def origin_as(self, kind: type[AnyOrigin]) -> AnyOrigin:
        """Return the origin of a network that a certain stage has made.

        Raises:
            TypeError: If another stage has made it, or none.
        """
        if not isinstance(self.origin, kind):
            raise TypeError(f"{self.name} has the origin {self.origin}, not a {kind.__name__}")
        return self.origin

    @cached_property
    def _zeros(self) -> tuple[float, dict[str, float]]:
        return sparsity(self.architecture, self.weights)  # quantizes all weights: once is enough

    @property
    def sparsity(self) -> float:
        """Fraction of zero weights in the kernels, after quantization."""
        return self._zeros[0]

    @property
    def layer_sparsity(self) -> dict[str, float]:
        """:attr:`sparsity` of every layer with a kernel, by its name."""
        return self._zeros[1]

    @cached_property
    def bops(self) -> float:
        """Bit operations with this network's formats and zeros (32 bits where it is float)."""
        # A float network is one of 32 bits, whatever it is going to be quantized to.
        network = self.architecture if self.architecture.quantized else self.architecture.plain
        return bops(network, sparsity=self.layer_sparsity)

    def save(self, folder: Path | str) -> Path:
        """Write ``model.json`` and ``weights.npz``; the folder appears whole or not at all."""
        folder = Path(folder)
        with new_folder(folder) as temporary:
            np.savez_compressed(temporary / "weights.npz", **self.weights)  # type: ignore[arg-type]
            write_json(temporary / "model.json", self.to_dict())
        return folder

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the weights, JSON-ready."""
        return {
            "name": self.name,
            "architecture": self.architecture.to_dict(),
            "training": self.training.to_dict(),
            "metrics": dict(self.metrics),
            "seed": self.seed,
            "origin": origin_to_dict(self.origin),
        }

    @property
    def identity(self) -> dict[str, Any]:
        """Fields that make the model, and its weights, for :func:`kerasnac.core.store.keys.content_key`."""
        return {
            "name": self.name,
            "architecture": self.architecture.id,
            "training": self.training.identity,
            "metrics": dict(self.metrics),
            "seed": self.seed,
            "origin": origin_to_dict(self.origin),
        }

    @classmethod
    def find(cls, folder: Path) -> Trained | None:
        """Return the model of a folder; None if there is none, or, with a warning, if it is damaged.

        For callers that can train it again, with the same result.
        """
        if not folder.exists():
            return None
        try:
            return cls.load(folder)
        except RunError as damage:
            log.warning("%s; it is trained again", damage)
            return None

    @classmethod
    def load(cls, folder: Path | str) -> Trained:
        """Read what :meth:`save` wrote.

        Raises:
            RunError: If the folder holds no model, or a file of it is damaged.
        """
        folder = Path(folder)
        path = folder / "model.json"
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            architecture = Architecture.from_dict(data["architecture"])
            expected = {f"{node.name}/{part}": w.shape for node in architecture.nodes for part, w in node.weights.items()}
            training, origin = Training(**data["training"]), origin_from_dict(data["origin"])
            rest = data | {"architecture": architecture, "training": training, "origin": origin}
            path = folder / "weights.npz"
            with np.load(path) as arrays:
                weights = {key: arrays[key] for key in arrays.files}
            for key, shape in expected.items():
                found = weights[key].shape if key in weights else "no such array"
                if found != shape:
                    raise RunError(f"{path} is not of this network: {key} is {found}, not {shape}")
            return cls(weights=weights, **rest)
        except FileNotFoundError as error:
            raise RunError(f"{folder} holds no saved model: {error.filename} is missing") from error
        except _DAMAGE as error:
            reason = f"{path.name} is damaged, or of another version of kerasnac: {error!r}"
            raise RunError(f"{folder} holds no readable model: {reason}") from error
