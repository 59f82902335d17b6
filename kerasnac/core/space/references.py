"""Named architectures that seed a search and stand in its tables and plots."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    PlainSerializer,
    PlainValidator,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    model_serializer,
    model_validator,
)

from kerasnac.core.checks import Checked, cut, explained, shown
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.space.baselines import BASELINES, get
from kerasnac.errors import ConfigError, ConversionError, Infeasible, RunError

#: Files of Keras models; their weights are left out.
KERAS_FILES = (".keras", ".h5", ".hdf5")

#: Trainable parameters that a network from outside may have.
MOST_PARAMETERS = 10**8


def _architecture(value: Any) -> Architecture:
    """Return an architecture that can be built.

    Raises:
        ConfigError: If a layer of it is wrong or does not fit those before it, or there are too many parameters.
    """
    architecture = value if isinstance(value, Architecture) else Architecture.from_dict(value)
    if architecture.quantized:  # It is trained like a candidate, which gets formats later.
        architecture = architecture.unquantized
    try:
        parameters = architecture.parameters
    except Infeasible as reason:
        raise ConfigError(f"its layers do not fit each other: {reason}") from None
    if not architecture.layers or parameters > MOST_PARAMETERS:
        raise ConfigError(f"it has {len(architecture.layers)} layers and {parameters:.3g} parameters: no network to train")
    return architecture


class Reference(Checked):
    """An architecture with a name.

    Validated from the name of a baseline, the path of a JSON file, of a saved model's folder or of a Keras model (relative
    to the folder in the validation context), an :class:`Architecture`, or a mapping with ``name`` and ``architecture``.

    Attributes:
        name: For tables and plots.
        architecture: A float network.
    """

    name: str
    architecture: Annotated[Architecture, PlainValidator(_architecture), PlainSerializer(Architecture.to_dict)]

    @classmethod
    def read(cls, text: str) -> Reference:
        """Return a reference by the name of a baseline or by a path.

        Raises:
            ConfigError: If it is neither, or the file holds no architecture.
        """
        try:
            return cls.model_validate(text)
        except ValidationError as error:
            raise ConfigError(explained(error, "")) from None

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, Architecture):
            return {"name": value.id, "architecture": value}
        if not isinstance(value, str | Path):
            return value
        if value in BASELINES:
            return {"name": value, "architecture": get(str(value))}
        return _read((info.context or {}).get("folder", Path()) / value)

    @model_serializer(mode="wrap")
    def _short(self, serialize: SerializerFunctionWrapHandler) -> Any:
        return self.name if self == _baseline(self.name) else serialize(self)


def _baseline(name: str) -> Reference | None:
    return Reference(name=name, architecture=get(name)) if name in BASELINES else None


def is_keras_file(path: Path) -> bool:
    """Return True if a path looks like a Keras model with its weights: nothing is read."""
    return path.suffix in KERAS_FILES or os.path.isfile(path / "saved_model.pb")  # pathlib raises for names that are too long


def _read(path: Path) -> dict[str, Any]:
    """Read a file with an architecture's JSON or a saved model's, the folder of a saved model, or a Keras model."""
    if is_keras_file(path):
        try:  # Any format of the input will do: it is left out again.
            return {"name": path.stem, "architecture": _architecture(Architecture.from_keras(path, input_grid="ap_fixed<8,4>"))}
        except (ConversionError, RunError) as error:
            raise ConfigError(f"{path}: {error}") from error
    file = path
    try:
        file = path / "model.json" if path.is_dir() else path
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{cut(str(path), 200)} is neither a JSON file nor a baseline: {', '.join(BASELINES)}") from None
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"{cut(str(file), 200)} cannot be read as JSON: {reason}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{file} holds no architecture: it is {shown(data)}, not keys and values")
    parts = data.get("architecture", {key: value for key, value in data.items() if key != "name"})
    try:
        return {"name": data.get("name", path.stem), "architecture": _architecture(parts)}
    except ConfigError as error:
        raise ConfigError(f"{file} holds no architecture: {error}") from error
