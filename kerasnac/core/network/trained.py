"""Trained networks, with their weights and where they come from."""

from __future__ import annotations

import hashlib
import json
import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from io import BytesIO
from numbers import Integral, Real
from pathlib import Path
from tokenize import TokenError
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np

from kerasnac.core.display import html_table, listed, number
from kerasnac.core.network.architecture import Architecture, short
from kerasnac.core.network.bops import LayerCost, costs
from kerasnac.core.network.learned import mean_bits
from kerasnac.core.network.origin import Origin
from kerasnac.core.network.origin import from_dict as origin_from_dict
from kerasnac.core.network.origin import to_dict as origin_to_dict
from kerasnac.core.network.training import Training
from kerasnac.core.network.weights import Weights, quantized_weights, sparsity
from kerasnac.core.store.files import new_folder, read_object, write_bytes, write_json, writing
from kerasnac.core.store.keys import content_key
from kerasnac.core.store.names import check_name
from kerasnac.errors import ConfigError, Infeasible, KerasnacError, RunError

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
    ArithmeticError,
    MemoryError,
    SyntaxError,
    TokenError,
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

    Raises:
        ConfigError: If the name cannot be that of a folder, a metric is no number, or the seed no integer.
    """

    name: str
    architecture: Architecture
    weights: Weights = field(repr=False, compare=False)
    training: Training
    metrics: Mapping[str, float]
    seed: int
    origin: Origin | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        for metric, value in self.metrics.items():
            if not isinstance(value, Real):
                raise ConfigError(f"{self.name}: the metric {metric} is {value!r:.40}, no number")
        if not isinstance(self.seed, Integral):
            raise ConfigError(f"{self.name}: the seed {self.seed!r:.40} is no integer")
        # The order in which files have them: tables show a model that was read like one that was made.
        object.__setattr__(self, "metrics", dict(sorted(self.metrics.items())))

    def __repr__(self) -> str:
        values = (f"{name}={number(value)}" for name, value in self.metrics.items())
        return f"Trained({listed(f'{self.name}: {self.architecture}', *values)})"

    def _repr_html_(self) -> str:
        costs = {cost.layer: cost for cost in self.layer_costs}
        rows = []
        for node in self.architecture.nodes:
            layer, cost = node.layer, costs.get(node.name)
            kept = (layer.weight, layer.bias, layer.activation) if self.architecture.quantized else ()
            own = ["", ""] if cost is None else [f"{cost.sparsity:.1%}", round(cost.bops)]
            rows.append([node.name, short(layer), "x".join(map(str, node.output)), *(one or "" for one in kept), *own])
        formats = ["weights", "biases", "outputs"] if self.architecture.quantized else []
        title = listed(self.name, *(f"{name} {number(value)}" for name, value in self.metrics.items()))
        return html_table(title, ("layer", "kind", "output", *formats, "zeros", "BOPs"), rows)

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
        return sum(layer.bops for layer in self.layer_costs)

    @cached_property
    def layer_costs(self) -> tuple[LayerCost, ...]:
        """Costs of the layers that multiply, with this network's formats and zeros (32 bits where it is float)."""
        # A float network is one of 32 bits, whatever it is going to be quantized to.
        network = self.architecture if self.architecture.quantized else self.architecture.plain
        means = mean_bits(network, quantized_weights(network, self.weights)) if network.quantized else {}
        return costs(network, sparsity=self.layer_sparsity, means=means)

    def save(self, folder: Path | str) -> Path:
        """Write ``model.json`` and ``weights.npz``; the folder appears whole or not at all.

        Args:
            folder: The folder; replaced if it exists.

        Raises:
            EnvironmentProblem: If it cannot be written.
        """
        folder = Path(folder)
        content = BytesIO()  # On a full disk, zipfile would leave its file in a state in which it cannot be closed.
        with writing(folder):
            np.savez_compressed(content, **self.weights)  # type: ignore[arg-type]
        with new_folder(folder) as temporary:
            write_bytes(temporary / "weights.npz", content.getvalue())
            own = self.to_dict()
            write_json(temporary / "model.json", {**own, "digest": _digest(own, content.getvalue())})
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

    @property
    def digest(self) -> str:
        """Hash of :attr:`identity`."""
        return content_key("trained", **self.identity)

    @classmethod
    def find_same(cls, folder: Path, digest: object, name: str | None = None) -> Trained | None:
        """Return the model of a folder as :meth:`find` does; None if its :attr:`digest` is another one, or none is given."""
        model = cls.find(folder, name) if isinstance(digest, str) else None
        return model if model is not None and model.digest == digest else None

    @classmethod
    def find(cls, folder: Path, name: str | None = None) -> Trained | None:
        """Return the model of a folder; None if there is none, or, with a warning, if it is damaged.

        For callers that can train it again, with the same result.

        Args:
            folder: Of :meth:`save`.
            name: Name that the model must have; by default that of the folder.
        """
        if not folder.exists():
            return None
        try:
            model = cls.load(folder)
        except RunError as damage:
            log.warning("%s; it is trained again", damage)
            return None
        if model.name != (name or folder.name):
            log.warning("%s holds a model of another name, %s; its own is trained again", folder, model.name)
            return None
        return model

    @classmethod
    def load(cls, folder: Path | str) -> Trained:
        """Read what :meth:`save` wrote.

        Raises:
            RunError: If the folder holds no model, or a file of it is damaged.
        """
        folder = Path(folder)
        path = folder / "model.json"
        if not path.is_file():
            raise RunError(f"{folder} holds no saved model: {path.name} is missing")
        try:
            data = read_object(path)
            digest = data.pop("digest", None)  # Earlier versions wrote none.
            described = dict(data)
            architecture = Architecture.from_dict(data["architecture"])
            expected = {f"{node.name}/{part}": w.shape for node in architecture.nodes for part, w in node.weights.items()}
            training, origin = Training(**data["training"]), origin_from_dict(data["origin"])
            model = cls(weights={}, **data | {"architecture": architecture, "training": training, "origin": origin})
            path = folder / "weights.npz"
            content = path.read_bytes()
            with np.load(BytesIO(content)) as arrays:
                weights = {key: arrays[key] for key in arrays.files}
            for key, shape in expected.items():
                found = weights[key].shape if key in weights else "no such array"
                if found != shape:
                    raise RunError(f"{path} is not of this network: {key} is {found}, not {shape}")
                if weights[key].dtype.kind != "f":
                    raise RunError(f"{path} is damaged: {key} holds {weights[key].dtype}, no floating-point numbers")
            if digest not in (None, _digest(described, content)):
                raise RunError(f"{folder} is damaged: model.json or weights.npz has changed since they were saved")
            return replace(model, weights=weights)
        except FileNotFoundError as error:
            raise RunError(f"{folder} holds no saved model: {path.name} is missing") from error
        except _DAMAGE as error:
            reason = error if isinstance(error, KerasnacError) else repr(error)
            raise RunError(f"{path} is damaged, or of another version of kerasnac: {reason}") from error


def _digest(described: Mapping[str, Any], weights: bytes) -> str:
    """Return a hash of all that is saved: a file may be damaged and still be that of a network, of another one."""
    text = json.dumps(described, sort_keys=True)
    return hashlib.sha256(text.encode() + b"\0" + weights).hexdigest()
