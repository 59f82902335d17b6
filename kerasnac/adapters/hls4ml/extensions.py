"""Layers that hls4ml lacks: their classes, and the C++ that ships with every project.

The C++ is in ``nnet_utils/`` beside this file, for hls4ml's backends Vivado and Vitis; other backends refuse the layers, see
:data:`kerasnac.adapters.hls4ml.backends.LACKING`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

#: Backends whose compilers the C++ is for.
COMPILERS = ("Vivado", "Vitis")


@dataclass(frozen=True)
class Extension:
    """A layer that hls4ml lacks, and its C++.

    Attributes:
        name: Name of its class, in hls4ml and in Keras.
        header: File in ``nnet_utils/`` with its function.
        function: Name of the function: it takes the inputs, the result and the weights.
        constants: Numbers of its configuration; attributes of the layer.
        types: Types of its configuration, which the parser gives as text.
        weights: Its arrays, each with a type of its own; the C++ variable has the first letter as its name.
        accumulator: True if it has a type ``accum``, which the configuration of a project sets.
    """

    name: str
    header: str
    function: str
    constants: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    accumulator: bool = False

    @property
    def own_types(self) -> tuple[str, ...]:
        """Types that the configuration of a project sets."""
        return (*self.weights, *(["accum"] if self.accumulator else []))

    @property
    def config(self) -> str:
        """Template of its configuration."""
        constants = "".join(f"    static const unsigned {name} = {{{name}}};\n" for name in self.constants)
        types = "".join(f"    typedef {{{name}}} {name};\n" for name in self.types)
        own = "".join(f"    typedef {{{name}_t.name}} {name}_t;\n" for name in self.own_types)
        return f"struct config{{index}} {{{{\n{constants}{types}{own}}}}};\n"


EXTENSIONS = (
    Extension(
        "ExactLayerNorm",
        "nnet_exact_layer_norm.h",
        "exact_layer_norm",
        ("n_in", "size", "table_size"),
        ("count_t", "sum_t", "squares_t", "index_t"),
        ("root", "scale", "bias"),
    ),
    Extension(
        "ExactMean",
        "nnet_exact_mean.h",
        "exact_mean",
        ("in_height", "in_width", "n_filt", "pool_height", "pool_width", "stride", "out_height", "out_width", "ways"),
        weights=("reciprocal",),
        accumulator=True,
    ),
    Extension(
        "Tables", "nnet_tables.h", "tables", ("n_in", "n_out", "entries"), ("index_t",), weights=("kernel",), accumulator=True
    ),
    Extension("Sign", "nnet_sign.h", "sign", ("n_in",)),
    Extension("Quantizer", "nnet_quantizer.h", "quantizer", ("n_in", "n_filt"), weights=("offset", "shift", "low", "high")),
    Extension("Mask", "nnet_masks.h", "particle_mask", ("n_in", "n_filt")),
    Extension("MaskedMean", "nnet_masks.h", "masked_mean", ("n_in", "n_filt"), weights=("reciprocal",), accumulator=True),
    Extension(
        "MaskedSoftmax",
        "nnet_masks.h",
        "masked_softmax",
        ("n_in", "n_outer", "exponentials", "reciprocals"),
        ("difference_t", "sum_t", "index_t"),
        ("exponential", "reciprocal"),
    ),
)


@cache
def register() -> None:
    """Teach hls4ml the layers and their C++; call it after hls4ml is imported."""
    for extension in EXTENSIONS:
        _register(extension)


def _register(extension: Extension) -> None:
    from hls4ml.backends import get_backend
    from hls4ml.backends.template import FunctionCallTemplate, LayerConfigTemplate
    from hls4ml.model.attributes import TypeAttribute, WeightAttribute
    from hls4ml.model.layers import Layer, register_layer

    class Extended(Layer):  # type: ignore[misc]
        _expected_attributes = [  # noqa: RUF012
            *map(WeightAttribute, extension.weights),
            *map(TypeAttribute, extension.own_types),
        ]

        def initialize(self) -> None:
            self.add_output_variable(self.get_attr("out_shape") or self.get_input_variable().shape)
            for name in extension.weights:
                self.add_weights_variable(name=name, var_name=f"{name[0]}{{index}}")

    class Config(LayerConfigTemplate):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(Extended)

        def format(self, node: Any) -> str:
            return extension.config.format(**self._default_config_params(node))

    class Call(FunctionCallTemplate):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(Extended, include_header=[f"nnet_utils/{extension.header}"])

        def format(self, node: Any) -> str:
            inputs = [node.get_input_variable(name) for name in node.inputs]
            output = node.get_output_variable()
            types = [variable.type.name for variable in (*inputs, output)]
            names = [*(variable.name for variable in (*inputs, output)), *(node.get_weights(w).name for w in extension.weights)]
            return f"nnet::{extension.function}<{', '.join(types)}, config{node.index}>({', '.join(names)});"

    Extended.__name__ = extension.name  # by which hls4ml knows the templates
    register_layer(extension.name, Extended)
    for name in COMPILERS:
        backend = get_backend(name)
        for template in (Config, Call):
            backend.register_template(template)
        backend.register_source(Path(__file__).parent / "nnet_utils" / extension.header)
