"""One model of a run as files that others read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from kerasnac.core.network.trained import Trained
from kerasnac.core.network.weights import quantized_weights
from kerasnac.core.store.files import new_folder, write_json, write_text, writing
from kerasnac.errors import ConfigError
from kerasnac.stages.results.saved import SavedRun
from kerasnac.stages.results.story import Story, story


def export(run: SavedRun, name: str, to: str, out: Path | None = None) -> Path:
    """Write a model of a run as a file or a folder.

    Args:
        run: The run.
        name: Name of the model, or its beginning.
        to: ``keras``: a float model for Keras 2 (tf_keras); ``qkeras``: a quantized one, for :func:`kerasnac.load_keras`;
            ``json``: its layers, for ``seeds`` and ``baselines`` of a run file; ``csv``: a folder with a table per array of
            weights, rounded to their formats where it is quantized; ``onnx``: refused.
        out: Where; by default in the working folder, named after the model.

    Returns:
        What was written.

    Raises:
        RunError: If there is no such model.
        ConfigError: If it cannot be written so.
        EnvironmentProblem: If the file cannot be written.
    """
    found = story(run, name)
    if found.architecture is None:
        raise ConfigError(f"{found.name} is boosted trees, no network: its trees are in {run.folder / 'trees'}")
    ending, write = _WRITERS[to]
    path = out or Path(f"{found.name}{ending}")
    if path.is_dir() and to != "csv":
        raise ConfigError(f"{path} is a folder: give --out a file")
    if ending and to != "csv" and path.suffix != ending:
        raise ConfigError(f"{path}: the name of the file must end in {ending}")
    write(found, path)
    return path


def _trained(found: Story) -> Trained:
    if found.model is None:
        raise ConfigError(
            f"{found.name} is a candidate that was not chosen: the search keeps no weights, only --to json is possible"
        )
    return found.model


def _keras(found: Story, path: Path) -> None:
    model = _trained(found)
    if model.architecture.quantized:
        raise ConfigError(f"{found.name} is quantized: export it --to qkeras; its float model is {_parent(found)}")
    _save(model, path)


def _qkeras(found: Story, path: Path) -> None:
    model = _trained(found)
    if not model.architecture.quantized:
        raise ConfigError(f"{found.name} is float: export it --to keras, or one of the {len(found.points)} compressed from it")
    _save(model, path)


def _save(model: Trained, path: Path) -> None:
    from kerasnac.adapters.keras.build import save_keras

    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        save_keras(model.architecture, model.weights, path)


def _parent(found: Story) -> str:
    return found.tuned.name if found.tuned is not None else "not here"


def _json(found: Story, path: Path) -> None:
    assert found.architecture is not None
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, found.architecture.to_dict())


def _csv(found: Story, path: Path) -> None:
    if path.exists() and not (path.is_dir() and (not any(path.iterdir()) or (path / INDEX).is_file())):
        raise ConfigError(f"{path} is there already, and holds something else than exported weights: give --out another folder")
    model = _trained(found)
    network = model.architecture
    values = quantized_weights(network, model.weights) if network.quantized else model.weights
    rows = ["file,layer,part,shape,format,nonzero,size"]
    with new_folder(path) as folder:
        for node in network.nodes:
            for part in node.weights:
                array = np.asarray(values[f"{node.name}/{part}"], np.float64)
                name = f"{node.name}-{part}.csv"
                np.savetxt(
                    folder / name, array.reshape(-1, array.shape[-1]) if array.ndim else array, fmt="%.17g", delimiter=","
                )
                kept = {"kernel": node.layer.weight, "bias": node.layer.bias}.get(part)
                shape = "x".join(map(str, array.shape))
                rows.append(f'{name},{node.name},{part},{shape},"{kept or ""}",{np.count_nonzero(array)},{array.size}')
        write_text(folder / INDEX, "\n".join(rows) + "\n")


def _onnx(found: Story, path: Path) -> None:
    raise ConfigError(
        "there is no export to ONNX: none of the packages that kerasnac uses converts Keras models to it, and ONNX has no "
        "operators for fixed-point formats and for layers of kerasnac's own; export --to qkeras, json or csv, or a float model "
        "--to keras, for a converter of your own"
    )


#: Table of the arrays in a folder of weights.
INDEX = "weights.csv"

#: Ending of the default name, and what writes a model, by the format.
_WRITERS: Mapping[str, tuple[str, Callable[[Story, Path], None]]] = {
    "keras": (".keras", _keras),
    "qkeras": (".keras", _qkeras),
    "json": (".json", _json),
    "csv": ("-weights", _csv),
    "onnx": (".onnx", _onnx),
}

#: Formats.
FORMATS = tuple(_WRITERS)
