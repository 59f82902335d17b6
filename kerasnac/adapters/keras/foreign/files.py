"""Files of Keras models."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from kerasnac.adapters.keras.custom import custom
from kerasnac.adapters.keras.runtime import qkeras, qkeras_objects, quiet_serialization, tensorflow
from kerasnac.core.space.references import is_keras_file
from kerasnac.errors import RunError

#: What a model's file may be, for messages.
FORMATS = "a .keras or .h5 file, the folder of a SavedModel, or a .json file beside weights in .h5"


def is_model_file(path: Path) -> bool:
    """Return True if a path looks like a Keras model: nothing is read."""
    return is_keras_file(path) or path.suffix == ".json"


def load_model_file(path: Path | str) -> Any:
    """Read a Keras or QKeras model from :data:`FORMATS`.

    The weights of ``NAME.json`` are in ``NAME.h5``, ``NAME.weights.h5`` or ``NAME_weights.h5`` beside it.

    Raises:
        RunError: If it cannot be read; a model of Keras 3 is told so.
    """
    path = Path(path)
    if not path.exists():
        raise RunError(f"{path} does not exist; a model is {FORMATS}")
    _check_config(path)
    models = tensorflow().keras.models
    objects = {**qkeras_objects(), **vars(custom()), "QActivation": _ReadActivation}
    try:
        if path.suffix == ".json":
            weights = _weights_beside(path)
            model = models.model_from_json(path.read_text(encoding="utf-8"), custom_objects=objects)
            model.load_weights(str(weights))
            return model
        with quiet_serialization():
            return models.load_model(str(path), custom_objects=objects, compile=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        reason = str(error).strip().split("\n")[0]
        raise RunError(f"{path} cannot be read as a Keras model ({reason:.200}); give {FORMATS}") from error


class _ReadActivation:
    """Stands in for ``QActivation`` while a file is read: QKeras reads a quantizer back from text alone, not as an object."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Return the layer of QKeras."""
        activation = config["activation"]
        if isinstance(activation, dict):
            quantizer = getattr(qkeras().quantizers, activation["class_name"])
            activation = quantizer(**activation["config"])
        return qkeras().QActivation(**{**config, "activation": activation})


def _weights_beside(path: Path) -> Path:
    names = [path.with_suffix(".h5"), path.with_suffix(".weights.h5"), path.with_name(f"{path.stem}_weights.h5")]
    for name in names:
        if name.is_file():
            return name
    raise RunError(f"{path} has no weights beside it: {' or '.join(name.name for name in names)}")


def _check_config(path: Path) -> None:
    """Refuse a file of Keras 3, or one with code in it, before Keras reads it: it would run the code of a Lambda.

    Raises:
        RunError: With the version, or the name of the layer.
    """
    version, config = _config(path)
    if version.split(".")[0].isdigit() and int(version.split(".")[0]) >= 3:
        raise RunError(
            f"{path} is a model of Keras {version}, which QKeras and hls4ml do not read: build it under TF_USE_LEGACY_KERAS=1, "
            "and load its weights from an .h5 file"
        )
    for layer in _dictionaries(config):
        if layer.get("class_name") == "Lambda":
            name = layer.get("config", {}).get("name", "lambda")
            raise RunError(f"{path}: {name}: Lambda: code in a file is not run; use layers of Keras and QKeras")


def _config(path: Path) -> tuple[str, Any]:
    """Return the version of Keras that wrote a file, empty if it is not known, and its layers as JSON."""
    try:
        if path.suffix == ".keras" and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                version = json.loads(archive.read("metadata.json")).get("keras_version", "")
                return str(version), json.loads(archive.read("config.json"))
        if path.suffix in (".h5", ".hdf5") and h5py.is_hdf5(path):
            with h5py.File(path) as file:
                return str(file.attrs.get("keras_version", "")), json.loads(file.attrs.get("model_config", "{}"))
        if path.suffix == ".json":
            config = json.loads(path.read_text(encoding="utf-8"))
            return str(config.get("keras_version", "")), config
    except (OSError, KeyError, ValueError, AttributeError) as error:
        raise RunError(f"{path} cannot be read as a Keras model ({error}); give {FORMATS}") from error
    return "", {}


def _dictionaries(value: Any) -> Iterator[dict[str, Any]]:
    """Yield all dictionaries in a JSON value."""
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _dictionaries(part)
