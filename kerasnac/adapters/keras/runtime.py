"""TensorFlow with legacy Keras, and the shims that make QKeras and hls4ml run beside Keras 3."""

from __future__ import annotations

import os
import random
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from numbers import Real
from typing import Any

import numpy as np

from kerasnac.errors import EnvironmentProblem

#: Held while ``keras`` is another module, or a function of TensorFlow another one.
_swap = threading.RLock()


@cache
def tensorflow() -> Any:
    """Import TensorFlow so that ``tf.keras`` is legacy Keras (tf_keras), which QKeras and TFMOT need.

    Returns:
        The module ``tensorflow``.

    Raises:
        EnvironmentProblem: If TensorFlow was imported under Keras 3 before, or is missing.
    """
    if "tensorflow" not in sys.modules:
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with _stderr_silenced():
            import tensorflow as tf
    except ImportError as error:
        raise EnvironmentProblem(
            f"TensorFlow cannot be imported ({error}): pip install kerasnac with its dependencies"
        ) from error
    if tf.keras.__name__.startswith("keras.") or not hasattr(tf.keras, "__internal__"):
        raise EnvironmentProblem(
            "TensorFlow was imported under Keras 3 before kerasnac needed it: "
            "set TF_USE_LEGACY_KERAS=1 in the environment, or import kerasnac and call kerasnac.setup() before TensorFlow"
        )
    return tf


@contextmanager
def _stderr_silenced() -> Iterator[None]:
    """Drop everything written to stderr, C++ included.

    On import, TensorFlow writes a page on missing GPUs before its logging can be set up.
    """
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


@cache
def qkeras() -> Any:
    """Import QKeras on top of :func:`tensorflow`, with NumPy 2, negative exponents and float64 made to work.

    Returns:
        The module ``qkeras``.

    Raises:
        EnvironmentProblem: See :func:`tensorflow`.
    """
    tensorflow()
    if not hasattr(np, "product"):
        np.product = np.prod  # type: ignore[attr-defined]  # QKeras 0.9.0 calls what NumPy 2 removed
    import qkeras as package
    from qkeras import quantizers

    quantizers.K = _Backend(quantizers.K)
    return package


class _Backend:
    """The Keras backend for QKeras' quantizers: powers take negative whole exponents, and float64 stays float64.

    QKeras computes ``K.pow(2, integer)`` with integer tensors, which TensorFlow refuses below zero; without this
    no format finer than ``ap_fixed<b, 1>`` could be used for small weights. And it casts inputs to float32 (a ReLU whatever
    Keras' floatx is), which rounds long sums twice. Here a float64 tensor is left as it is, and scales are Python numbers,
    which take part in arithmetic of either dtype.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def pow(self, base: Any, exponent: Any) -> Any:
        """Return ``base ** exponent``: a number if both are known scalars, else a tensor in floatx, or float64."""
        tf = tensorflow()
        known = [tf.get_static_value(value) if tf.is_tensor(value) else value for value in (base, exponent)]
        if all(value is not None and np.ndim(value) == 0 for value in known):
            return float(known[0]) ** float(known[1])
        exponent = tf.convert_to_tensor(self.cast_to_floatx(exponent))
        return tf.pow(tf.cast(base, exponent.dtype), exponent)

    def cast(self, x: Any, dtype: str) -> Any:
        """Cast as Keras does, except that float64 is not narrowed to float32 and a number remains one."""
        if dtype == "float32" and (isinstance(x, Real) or _is_double(x)):
            return self.cast_to_floatx(x)
        return self._backend.cast(x, dtype)

    def cast_to_floatx(self, x: Any) -> Any:
        """Cast to Keras' floatx, with the exceptions of :meth:`cast`."""
        if isinstance(x, Real):
            return float(x)
        return x if _is_double(x) else self._backend.cast_to_floatx(x)


def _is_double(x: Any) -> bool:
    return bool(tensorflow().is_tensor(x) and x.dtype == tensorflow().float64)


def qkeras_objects() -> dict[str, Any]:
    """Return the layers and quantizers of QKeras by name, for Keras to make models of files and configurations."""
    objects: dict[str, Any] = {}
    qkeras().utils._add_supported_quantized_objects(objects)
    return objects | {"quantized_hswish": qkeras().quantizers.quantized_hswish}


@contextmanager
def undisturbed() -> Iterator[None]:
    """Leave the random numbers of the caller as they are: every model that is built draws its first weights."""
    tensorflow()
    from tf_keras.src.backend import _SEED_GENERATOR

    generator = getattr(_SEED_GENERATOR, "generator", random)
    state = generator.getstate()
    try:
        yield
    finally:
        generator.setstate(state)


@contextmanager
def quiet_serialization() -> Iterator[None]:
    """Silence the warning of Keras about QKeras' quantizers, which stand where constraints are expected."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*keras.constraints.serialize")
        yield


@contextmanager
def legacy_keras() -> Iterator[None]:
    """Let ``import keras`` give tf_keras while hls4ml or rule4ml are used.

    Both choose their parser by the version of ``keras`` and misread a legacy model when they find Keras 3. All threads
    of the process see the swap, so it holds a lock.
    """
    tensorflow()
    import tf_keras

    with _swap:
        ours = _take_out_keras()
        sys.modules["keras"] = tf_keras
        try:
            yield
        finally:
            _take_out_keras()
            sys.modules.update(ours)


def _take_out_keras() -> dict[str, Any]:
    """Remove ``keras`` and its submodules from the imported modules, and return them by name."""
    names = [name for name in sys.modules if name == "keras" or name.startswith("keras.")]
    return {name: sys.modules.pop(name) for name in names}


@contextmanager
def unknown_branch_arguments() -> Iterator[None]:
    """Trace choices between branches so that XLA does not look for constants among what the branches read.

    To find them it would compute everything that leads there with an interpreter, matrix products included: two thirds of
    the compilation of perceptrons, nine tenths of that of an attention. The compiled code is the same.
    """
    tensorflow()
    from tensorflow.python.ops import control_flow_util_v2 as util

    with _swap:
        original = util.maybe_propagate_compile_time_consts_in_xla
        util.maybe_propagate_compile_time_consts_in_xla = lambda operation: None
        try:
            yield
        finally:
            util.maybe_propagate_compile_time_consts_in_xla = original


def become_worker() -> None:
    """Give this process one TensorFlow thread and deterministic kernels.

    Sums then have one order, so that results do not depend on how many processes share a machine. Where TensorFlow runs
    already, as in a notebook, its threads stay as they are.
    """
    tf = tensorflow()
    tf.get_logger().setLevel("ERROR")  # every candidate is a new model, and every new model is traced: no news
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        return  # TensorFlow already runs in this process.
    tf.config.experimental.enable_op_determinism()
