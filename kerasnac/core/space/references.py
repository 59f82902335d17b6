"""Named architectures that seed a search and stand in its tables and plots."""

from __future__ import annotations

import json
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

from kerasnac.core.checks import Checked, explained
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.space.baselines import BASELINES, get
from kerasnac.errors import ConfigError


def _architecture(value: Any) -> Architecture:
    return value if isinstance(value, Architecture) else Architecture.from_dict(value)


class Reference(Checked):
    """An architecture with a name.

    Validated from the name of a baseline, the path of a JSON file or of a saved model's folder (relative to the
    folder in the validation context), an :class:`Architecture`, or a mapping with ``name`` and ``architecture``.

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


def _read(path: Path) -> dict[str, Any]:
    """Read a file with an architecture's JSON or a saved model's, or the folder of a saved model."""
    file = path / "model.json" if path.is_dir() else path
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} is neither a JSON file nor a baseline: {', '.join(BASELINES)}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read as JSON: {error}") from error
    try:
        return {"name": data.get("name", path.stem), "architecture": Architecture.from_dict(data.get("architecture", data))}
    except (AttributeError, KeyError, TypeError, ConfigError) as error:
        raise ConfigError(f"{file} holds no architecture: {error!r}") from error
