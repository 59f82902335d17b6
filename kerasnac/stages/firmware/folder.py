"""Folders with firmware or Verilog: what kerasnac puts beside the sources, and its reports."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.hls4ml import csim, standalone
from kerasnac.adapters.keras.build import save_keras
from kerasnac.adapters.keras.foreign.files import is_model_file, load_model_file
from kerasnac.adapters.keras.foreign.model import ForeignModel, read_model
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.trained import Trained
from kerasnac.core.store.files import read_object, write_json
from kerasnac.core.store.versions import versions
from kerasnac.errors import RunError

#: The network, and the report of all comparisons.
MODEL, REPORT = Path("kerasnac/model"), "report.json"

#: The samples of the comparison on the input grid, and the outputs of Keras.
VECTORS = Path("kerasnac/vectors.npz")

#: The QKeras model, and the network as JSON.
KERAS, ARCHITECTURE = "model.keras", "architecture.json"

#: The second project, with softmax, if there is one.
SOFTMAX = Path("softmax")

#: Samples that are written for hls4ml's test bench; RTL co-simulation is slow.
TEST_VECTORS = 1000


def write_vectors(project: Path, x: NDArray[np.float32], keras: NDArray[Any]) -> None:
    """Write the samples of a comparison: all for kerasnac, the first for hls4ml's test bench.

    Args:
        project: Folder of the project.
        x: Samples on the input grid, shape (samples, ...), float32.
        keras: Outputs of Keras, shape (samples, outputs), float32 or float64.
    """
    np.savez_compressed(project / VECTORS, x=x, keras=keras)
    bench = project / "tb_data"
    bench.mkdir(exist_ok=True)
    for name, values in (("tb_input_features.dat", x), ("tb_output_predictions.dat", keras)):
        np.savetxt(bench / name, values[:TEST_VECTORS].reshape(-1, values[0].size), fmt="%.17g")


def write_models(project: Path, network: Trained, original: Trained) -> None:
    """Write the network in three forms.

    Args:
        project: Folder of the project.
        network: The network of the firmware, without a window: as a QKeras model, and its layers as JSON.
        original: The network as it was given: as :meth:`Trained.save` does.
    """
    original.save(project / MODEL)
    save_keras(network.architecture, network.weights, project / KERAS)
    write_json(project / ARCHITECTURE, network.architecture.to_dict())


def write_scripts(project: Path) -> None:
    """Write ``validate.py``, which repeats the comparison without kerasnac, and the script that it runs."""
    shutil.copy(csim.__file__, project / "kerasnac" / "emulate.py")
    shutil.copy(standalone.__file__, project / "validate.py")


def load_any(
    path: Path | str,
    samples: NDArray[Any] | None = None,
    *,
    input_grid: Precision | str | None = None,
    float_bits: int | None = None,
) -> Trained | ForeignModel:
    """Read the network in a folder of :meth:`Trained.save`, in a firmware folder, or in a file of a Keras model.

    Args:
        path: The folder, or the file.
        samples: For a Keras model, see :func:`kerasnac.from_keras`.
        input_grid: The same.
        float_bits: The same.

    Raises:
        RunError: If there is none.
        ConversionError: If a layer of a Keras model cannot be read.
    """
    path = Path(path)
    if is_model_file(path):
        return read_model(load_model_file(path), samples=samples, input_grid=input_grid, float_bits=float_bits)
    inside = path / MODEL
    return Trained.load(inside if inside.is_dir() else path)


def load_model(path: Path | str, samples: NDArray[Any] | None = None, *, input_grid: Precision | str | None = None) -> Trained:
    """Read a network as :func:`load_any` does, a Keras model as a trained network, too."""
    found = load_any(path, samples, input_grid=input_grid)
    return found if isinstance(found, Trained) else found.trained()


def check_free(folder: Path, own: Iterable[str], content: str) -> None:
    """Check that a folder, which is going to be replaced, is missing, empty or one of ours.

    Args:
        folder: The folder.
        own: Names of files, one of which every folder of ours has.
        content: What a folder of ours holds, for the message.

    Raises:
        RunError: If it holds something else.
    """
    ours = folder.is_dir() and any((folder / name).is_file() for name in own)
    if folder.exists() and not ours and not (folder.is_dir() and not any(folder.iterdir())):
        raise RunError(f"{folder} is there already and holds something else than {content} of kerasnac; choose another folder")


def report_head(schema: int) -> dict[str, Any]:
    """Return the keys of a report that say how to read it."""
    return {"schema": schema, "kerasnac": versions()["kerasnac"]}


def read_report(path: Path, schema: int, content: str) -> dict[str, Any]:
    """Read a report as JSON.

    Args:
        path: The file.
        schema: Layout that this version reads.
        content: What its folder should hold, for the message.

    Raises:
        RunError: If it is missing or damaged, or another version of kerasnac has written it.
    """
    if not path.is_file():
        raise RunError(f"{path.parent} holds no {content} of kerasnac: {path.name} is missing")
    data = read_object(path)
    if data.get("schema") != schema:
        writer = f"kerasnac {data['kerasnac']}" if "kerasnac" in data else "an earlier version of kerasnac"
        raise RunError(
            f"{path} is of another schema: {writer} wrote it and reads it, this is {versions()['kerasnac']}; make the folder "
            "again, or install that version"
        )
    return data
