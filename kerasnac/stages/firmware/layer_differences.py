"""The first layer of a firmware project that differs from Keras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.hls4ml.csim import INTERFACE, emulate_layers, interface
from kerasnac.adapters.hls4ml.project_files import read_types
from kerasnac.adapters.keras.predict import layer_outputs
from kerasnac.adapters.programs import Limits
from kerasnac.core.network.trained import Trained
from kerasnac.errors import ConversionError

#: Samples whose layers are compared: of those that differ, the first.
COMPARED = 100


@dataclass(frozen=True)
class LayerDifference:
    """The first layer that computes another number than Keras.

    Attributes:
        layer: Its name; empty if no layer differs, and yet the outputs do.
        sample: The first sample in which it differs.
        index: The first of its values in that sample, counted with channels last.
        keras: The value in Keras.
        firmware: The value in the emulation.
        declared: Its result type, as the project has it.
        proven: The type that was proved to be exact, as the conversion wrote it.
        changed: All types of the project that are not as the conversion wrote them: name to (proven, declared).
    """

    layer: str
    sample: int = -1
    index: int = -1
    keras: float = 0.0
    firmware: float = 0.0
    declared: str = ""
    proven: str = ""
    changed: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the difference, with all types that are not the proven ones."""
        if not self.layer:
            text = "no layer differs of those that can be seen: the outputs are changed after the last one"
        else:
            same = "as proven" if self.declared == self.proven else f"proven {self.proven}"
            text = (
                f"the first layer that differs is {self.layer}: sample {self.sample}, value {self.index}: "
                f"Keras {self.keras!r}, firmware {self.firmware!r}; its result type is {self.declared} ({same})"
            )
        return "\n".join((text, *type_lines(self.changed)))


def changed_types(project: Path) -> dict[str, tuple[str, str]]:
    """Return the types of a project that are not as the conversion wrote them: name to (proven, declared).

    Raises:
        ConversionError: If the project does not say what it declares, or what was proven.
    """
    proven = interface(project).get("types", {})
    declared = read_types(project)
    return {name: (kind, declared.get(name, "")) for name, kind in proven.items() if declared.get(name) != kind}


def type_lines(changed: Mapping[str, tuple[str, str]]) -> list[str]:
    """Return changed types as text."""
    return [f"  type {name} is {declared or 'missing'}, proven {proven}" for name, (proven, declared) in changed.items()]


def first_difference(
    project: Path,
    network: Trained,
    x: NDArray[np.float32],
    outputs: NDArray[Any],
    expected: NDArray[Any],
    *,
    limits: Limits | None = None,
) -> LayerDifference | None:
    """Compare every layer of a compiled project with its Keras twin, if their outputs differ.

    Args:
        project: A compiled project of :func:`kerasnac.adapters.hls4ml.conversion.convert`.
        network: What it was converted from, without a window.
        x: Samples on the input grid, shape (samples, ...), float32.
        outputs: Outputs of the emulation, shape (samples, outputs), float32 or float64; of the samples that differ, the layers
            of the first :data:`COMPARED` are compared.
        expected: Outputs of Keras, of the same shape.
        limits: When the emulation is stopped.

    Returns:
        The first layer that differs; None if no output does.

    Raises:
        ConversionError: If the emulation fails, or has other layers than the network.
    """
    different = np.flatnonzero((outputs != expected).any(axis=1))
    if not len(different):
        return None
    known, types = interface(project), read_types(project)
    if not {"types", "layers"} <= known.keys():
        raise ConversionError(f"{project / INTERFACE} names no types or no layers: it is damaged")
    before: Mapping[str, str] = known["types"]
    changed = changed_types(project)
    chosen = different[:COMPARED]
    firmware = emulate_layers(project, x[chosen], limits=limits)
    keras = layer_outputs(network.architecture, network.weights, x[chosen])
    for layer in known["layers"]:
        # hls4ml splits off the linear activation of every kernel layer.
        name = layer["name"].removesuffix("_linear")
        if name not in keras:
            continue  # A softmax that was appended has no twin.
        ours, theirs = firmware[layer["name"]], keras[name]
        if ours.shape != theirs.shape:
            raise ConversionError(f"{name}: the emulation has {ours.shape[1]} values, Keras has {theirs.shape[1]}")
        where = np.argwhere(ours != theirs)
        if len(where):
            sample, index = (int(i) for i in where[0])
            return LayerDifference(
                layer=name,
                sample=int(chosen[sample]),
                index=index,
                keras=float(theirs[sample, index]),
                firmware=float(ours[sample, index]),
                declared=types.get(layer["type"], "missing"),
                proven=before[layer["type"]],
                changed=changed,
            )
    return LayerDifference("", changed=changed)
