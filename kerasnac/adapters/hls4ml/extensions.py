"""Layers that hls4ml lacks: their classes, and the C++ that ships with every project.

The C++ is in ``nnet_utils/`` beside this file, for hls4ml's backends Vivado and Vitis; other backends refuse the layers, see
:data:`kerasnac.adapters.hls4ml.backends.LACKING`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

#: Backends whose compilers the C++ is for.
COMPILERS = ("Vivado", "Vitis")

_NORM_CONFIG = """struct config{index} {{
    static const unsigned n_in = {n_in};
    static const unsigned size = {size};
    static const unsigned table_size = {table_size};
    typedef {count_t} count_t;
    typedef {sum_t} sum_t;
    typedef {squares_t} squares_t;
    typedef {index_t} index_t;
    typedef {root_t.name} root_t;
    typedef {scale_t.name} scale_t;
    typedef {bias_t.name} bias_t;
}};\n"""

_NORM_CALL = "nnet::exact_layer_norm<{input_t}, {output_t}, {config}>({input}, {output}, {r}, {s}, {b});"

_SIGN_CONFIG = """struct config{index} {{
    static const unsigned n_in = {n_in};
    static const unsigned io_type = nnet::{iotype};
    static const unsigned reuse_factor = {reuse};
}};\n"""

_SIGN_CALL = "nnet::sign<{input_t}, {output_t}, {config}>({input}, {output});"


@cache
def register() -> None:
    """Teach hls4ml the layers and their C++; call it after hls4ml is imported."""
    from hls4ml.backends import get_backend
    from hls4ml.backends.template import FunctionCallTemplate, LayerConfigTemplate
    from hls4ml.model.attributes import Attribute, TypeAttribute, WeightAttribute
    from hls4ml.model.layers import Layer, register_layer

    class ExactLayerNorm(Layer):  # type: ignore[misc]
        """Layer norm of :mod:`kerasnac.core.network.layer_norms`."""

        _expected_attributes = [  # noqa: RUF012
            *(WeightAttribute(name) for name in ("root", "scale", "bias")),
            *(TypeAttribute(name) for name in ("root", "scale", "bias")),
        ]

        def initialize(self) -> None:
            self.add_output_variable(self.get_input_variable().shape)
            for name in ("root", "scale", "bias"):
                self.add_weights_variable(name=name, var_name=f"{name[0]}{{index}}")

    class NormConfig(LayerConfigTemplate):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(ExactLayerNorm)

        def format(self, node: Any) -> str:
            return _NORM_CONFIG.format(**self._default_config_params(node))

    class NormCall(FunctionCallTemplate):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(ExactLayerNorm, include_header=["nnet_utils/nnet_exact_layer_norm.h"])

        def format(self, node: Any) -> str:
            weights = {name[0]: node.get_weights(name).name for name in ("root", "scale", "bias")}
            return _NORM_CALL.format(**self._default_function_params(node) | weights)

    class Sign(Layer):  # type: ignore[misc]
        """Layer whose outputs are the smallest step of their type, or its negative."""

        _expected_attributes = [Attribute("n_in")]  # noqa: RUF012

        def initialize(self) -> None:
            self.add_output_variable(self.get_input_variable().shape)

    class SignConfig(LayerConfigTemplate):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(Sign)

        def format(self, node: Any) -> str:
            return _SIGN_CONFIG.format(**self._default_config_params(node))

    class SignCall(FunctionCallTemplate):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(Sign, include_header=["nnet_utils/nnet_sign.h"])

        def format(self, node: Any) -> str:
            return _SIGN_CALL.format(**self._default_function_params(node))

    register_layer("ExactLayerNorm", ExactLayerNorm)
    register_layer("Sign", Sign)
    for name in COMPILERS:
        backend = get_backend(name)
        for template in (NormConfig, NormCall, SignConfig, SignCall):
            backend.register_template(template)
        for header in sorted((Path(__file__).parent / "nnet_utils").glob("*.h")):
            backend.register_source(header)
