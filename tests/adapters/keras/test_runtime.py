"""TensorFlow with legacy Keras, and what surrounds it."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from typing import Any

import pytest

from kerasnac.adapters.keras.runtime import legacy_keras, qkeras, tensorflow, unknown_branch_arguments


def keras_modules() -> dict[str, Any]:
    return {name: module for name, module in sys.modules.items() if name == "keras" or name.startswith("keras.")}


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if key != "TF_USE_LEGACY_KERAS"}
    return subprocess.run(
        [sys.executable, "-c", code], env={**clean, **environment}, capture_output=True, text=True, check=False
    )


def test_keras_is_legacy_keras() -> None:
    assert tensorflow().keras.layers.Dense is import_module("tf_keras").layers.Dense


def test_qkeras_layers_are_layers_of_the_same_keras() -> None:
    assert issubclass(qkeras().QDense, tensorflow().keras.layers.Layer)


def test_legacy_keras_is_undone() -> None:
    tf_keras = import_module("tf_keras")
    import_module("keras.layers")
    before = keras_modules()
    with legacy_keras():
        assert import_module("keras") is tf_keras
        with legacy_keras():
            assert import_module("keras.optimizers") is not before.get("keras.optimizers")
        assert import_module("keras") is tf_keras
    assert keras_modules() == before
    assert import_module("keras").__version__.startswith("3.")


def test_legacy_keras_is_undone_after_an_exception() -> None:
    import_module("keras")
    before = keras_modules()
    with pytest.raises(ZeroDivisionError), legacy_keras():
        raise ZeroDivisionError
    assert keras_modules() == before


def test_the_arguments_of_branches_are_unknown_for_a_while_alone() -> None:
    """XLA is asked to look for constants by an attribute of the operation."""
    tf = tensorflow()

    def asked() -> bool:
        choose = tf.function(lambda x: tf.cond(x[0] > 0, lambda: x + 1, lambda: x), jit_compile=True)
        operations = choose.get_concrete_function(tf.TensorSpec([2])).graph.get_operations()
        (branches,) = [operation for operation in operations if "If" in operation.type]
        return "_xla_propagate_compile_time_consts" in branches.node_def.attr

    with unknown_branch_arguments():
        assert not asked()
    assert asked()
    with pytest.raises(ZeroDivisionError), unknown_branch_arguments():
        raise ZeroDivisionError
    assert asked()


def test_tensorflow_under_keras_3_is_refused() -> None:
    result = python(
        "import tensorflow as tf; tf.keras.layers.Dense\n"
        "from kerasnac.adapters.keras.runtime import tensorflow\n"
        "from kerasnac.errors import EnvironmentProblem\n"
        "try:\n    tensorflow()\nexcept EnvironmentProblem as error:\n    print(error)"
    )
    assert "Keras 3" in result.stdout
    assert "TF_USE_LEGACY_KERAS=1" in result.stdout


def test_tensorflow_imported_first_with_the_variable_set_is_fine() -> None:
    code = "import tensorflow\nfrom kerasnac.adapters.keras.runtime import tensorflow as ours\nprint(ours() is tensorflow)"
    assert python(code, TF_USE_LEGACY_KERAS="1").stdout.strip() == "True"


def test_a_missing_tensorflow_says_what_to_install() -> None:
    result = python(
        "import sys; sys.modules['tensorflow'] = None\n"
        "from kerasnac.adapters.keras.runtime import tensorflow\n"
        "from kerasnac.errors import EnvironmentProblem\n"
        "try:\n    tensorflow()\nexcept EnvironmentProblem as error:\n    print(error)"
    )
    assert "TensorFlow" in result.stdout
    assert "pip install" in result.stdout
