"""Callbacks of Keras that a user wants to see trainings with: TensorBoard, or functions of the user's that make them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.core.plugins import Kind, guarded
from kerasnac.errors import EnvironmentProblem, PluginError

#: Callbacks by name; one of the user's is a function of a folder that returns a callback of Keras.
CALLBACK: Kind[Callable[[Path], Any]] = Kind(
    "callback", "kerasnac.callbacks", ("tensorboard",), "a function of a folder that returns a callback of Keras", callable
)


def check_callbacks(names: Sequence[str]) -> None:
    """Check that callbacks can be had, before anything is trained.

    Raises:
        PluginError: If there is none of a name.
        EnvironmentProblem: If TensorBoard is not installed.
    """
    for name in names:
        if CALLBACK.foreign(name) is None and find_spec("tensorboard") is None:
            raise EnvironmentProblem("callback tensorboard: TensorBoard is not installed: pip install 'kerasnac[tensorboard]'")


def make_callbacks(names: Sequence[str], folder: Path) -> list[Any]:
    """Return the callbacks for one training.

    Args:
        names: ``tensorboard``, or functions of the user's.
        folder: Folder for what they write.

    Raises:
        PluginError: If a function fails, or returns something else.
    """
    callbacks = tensorflow().keras.callbacks
    made = []
    for name in names:
        function = CALLBACK.foreign(name)
        if function is None:
            made.append(callbacks.TensorBoard(str(folder), write_graph=False, profile_batch=0))
            continue
        with guarded(f"callback {name}", function):
            found = function(folder)
        if not isinstance(found, callbacks.Callback):
            raise PluginError(f"callback {name}: it returned {type(found).__name__}; return a tf.keras.callbacks.Callback")
        made.append(found)
    return made
