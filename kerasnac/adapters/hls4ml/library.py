"""hls4ml, taught the layers of :mod:`kerasnac.adapters.keras.custom`."""

from __future__ import annotations

import math
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from kerasnac.adapters.hls4ml.extensions import register
from kerasnac.adapters.keras.runtime import legacy_keras, tensorflow
from kerasnac.adapters.keras.table import SoftmaxTables, table
from kerasnac.core.network.channel_formats import formats_of, limits_of
from kerasnac.core.network.layer_norms import LayerNormTables
from kerasnac.core.network.learned_tables import by_raw
from kerasnac.core.network.means import reciprocal, reciprocals
from kerasnac.core.network.precision import Precision
from kerasnac.errors import EnvironmentProblem


@cache
def hls4ml() -> ModuleType:
    """Import hls4ml with parsers for our layers.

    Raises:
        EnvironmentProblem: If it cannot be imported.
    """
    tensorflow()
    try:
        with legacy_keras():
            import hls4ml as library
            from hls4ml.converters import register_keras_v2_layer_handler
    except ImportError as error:
        raise EnvironmentProblem(f"hls4ml cannot be imported ({error}): pip install kerasnac with its dependencies") from error
    parsers = {
        "TableActivation": _parse_table,
        "Lookup": _parse_lookup,
        "TableSoftmax": _parse_softmax,
        "ExactLayerNorm": _parse_layer_norm,
        "Scale": _parse_scale,
        "ExactMean": _parse_mean,
        "Mask": _parse_mask,
        "MaskedMean": _parse_masked_mean,
        "MaskedSoftmax": _parse_masked_softmax,
        "MatMul": _parse_matmul,
        "Sign": _parse_sign,
        "Quantizer": _parse_quantizer,
        "Tables": _parse_tables,
    }
    for name, parser in parsers.items():
        register_keras_v2_layer_handler(name, parser)
    register()
    return library  # type: ignore[no-any-return]


def _parse_table(
    keras_layer: dict[str, Any], input_names: list[str], input_shapes: list[Any], reader: Any
) -> tuple[dict[str, Any], list[Any]]:
    """Parse a ``TableActivation``: hls4ml gets the very table that Keras reads."""
    from hls4ml.converters.keras_v2_to_hls import parse_default_keras_layer

    config = keras_layer["config"]
    inputs, outputs = Precision.parse(config["inputs"]), Precision.parse(config["outputs"])
    layer = parse_default_keras_layer(keras_layer, input_names)
    layer |= {
        "class_name": "UnaryLUT",
        "activation": "unary_lut",
        "table_data": table(config["fn"], inputs, outputs),
    }
    return layer, list(input_shapes[0])


def _parse_lookup(
    keras_layer: dict[str, Any], input_names: list[str], input_shapes: list[Any], reader: Any
) -> tuple[dict[str, Any], list[Any]]:
    """Parse a ``Lookup``: hls4ml gets the very table that Keras reads."""
    from hls4ml.converters.keras_v2_to_hls import parse_default_keras_layer

    layer = parse_default_keras_layer(keras_layer, input_names)
    values = reader.get_weights_data(layer["name"], "values")
    layer |= {"class_name": "UnaryLUT", "activation": "unary_lut", "table_data": values.astype(float)}
    return layer, list(input_shapes[0])


def _parse_softmax(
    keras_layer: dict[str, Any], input_names: list[str], input_shapes: list[Any], reader: Any
) -> tuple[dict[str, Any], list[Any]]:
    """Parse a ``TableSoftmax``: hls4ml's stable softmax with the formats of :class:`SoftmaxTables`."""
    from hls4ml.converters.keras_v2_to_hls import parse_default_keras_layer
    from hls4ml.model.types import FixedPrecisionType

    config, (_, *outer, size) = keras_layer["config"], input_shapes[0]
    tables = SoftmaxTables(Precision.parse(config["inputs"]), size, Precision.parse(config["outputs"]))

    def hls(grid: Precision, *modes: str) -> Any:
        return FixedPrecisionType(grid.bits, grid.integer, grid.signed, *modes)

    rounding = ("RND", "SAT")
    layer = parse_default_keras_layer(keras_layer, input_names)
    layer |= {
        "class_name": "Softmax",
        "activation": "softmax",
        "implementation": "stable",
        "axis": -1,
        "n_outer": math.prod(outer),
        "n_inner": 1,
        "parallelization_factor": 1,
        "inp_norm_t": hls(tables.difference),
        "exp_table_t": hls(tables.entry, *rounding),
        "exp_table_size": 2**tables.difference.bits,
        "accum_t": hls(tables.sum),
        "inv_inp_t": hls(tables.index, *rounding),
        "inv_table_t": hls(tables.entry, *rounding),
        "inv_table_size": 2**tables.index.bits,
    }
    return layer, list(input_shapes[0])


def _parse_layer_norm(
    keras_layer: dict[str, Any], input_names: list[str], input_shapes: list[Any], reader: Any
) -> tuple[dict[str, Any], list[Any]]:
    """Parse an ``ExactLayerNorm``: hls4ml gets the very table that Keras reads, and formats that hold every sum."""
    from hls4ml.converters.keras_v2_to_hls import parse_default_keras_layer

    config, (_, *shape) = keras_layer["config"], input_shapes[0]
    size = math.prod(shape) if config["axes"] == "all" else shape[-1]
    formats = (Precision.parse(config[name]) for name in ("spread", "root"))
    tables = LayerNormTables(Precision.parse(config["inputs"]), size, *formats)
    layer = parse_default_keras_layer(keras_layer, input_names)
    weights = {name: reader.get_weights_data(layer["name"], name).ravel() for name in ("gamma", "beta")}
    layer |= {
        "class_name": "ExactLayerNorm",
        "n_in": math.prod(shape),
        "size": size,
        "table_size": len(tables.roots),
        "count_t": f"ap_uint<{size.bit_length()}>",
        "sum_t": str(tables.sum),
        "squares_t": str(tables.squares),
        "index_t": f"{str(tables.index)[:-1]},AP_TRN,AP_SAT>",
        "root_data": tables.roots,
        "scale_data": weights["gamma"],
        "bias_data": weights["beta"],
    }
    return layer, list(input_shapes[0])


def _parse_scale(
    keras_layer: dict[str, Any], input_names: list[str], input_shapes: list[Any], reader: Any
) -> tuple[dict[str, Any], list[Any]]:
    """Parse a ``Scale``: hls4ml's batch norm, whose product and sum are exact in the formats that it is told."""
    from hls4ml.converters.keras_v2_to_hls import parse_default_keras_layer

    (_, *shape) = input_shapes[0]
    layer = parse_default_keras_layer(keras_layer, input_names)
    scale, bias = (reader.get_weights_data(layer["name"], part) for part in ("kernel", "bias"))
    layer |= {
        "class_name": "BatchNormalization",
        "n_in": math.prod(shape),
        "n_filt": shape[-1] if len(shape) > 1 else -1,
        "scale_data": scale,
        "bias_data": bias,
    }
    return layer, list(input_shapes[0])


def _parse_mean(
    keras_layer: dict[str, Any], input_names: list[str], input_shapes: list[Any], reader: Any
) -> tuple[dict[str, Any], list[Any]]:
    """Parse an ``ExactMean``: sums over windows, and the constant that Keras multiplies them by."""
    from hls4ml.converters.keras_v2_to_hls import parse_default_keras_layer

    config, (batch, *positions, channels) = keras_layer["config"], input_shapes[0]
    size = config["size"]
    sizes = [size] * len(positions) if size else positions
    stride = config["stride"] if size else max(sizes)
    windows = [(axis - own) // stride + 1 for axis, own in zip(positions, sizes, strict=True)]
    layer = parse_default_keras_layer(keras_layer, input_names)
    sides = {"in": positions, "pool": sizes, "out": windows}
    for name, axes in sides.items():
        layer[f"{name}_height"], layer[f"{name}_width"] = [1, *axes][-2:]
    layer |= {
        "class_name": "ExactMean",
        "n_filt": channels,
        "stride": stride,
        "ways": -(-max(sizes) // stride),
        "out_shape": [*windows, channels] if size else [channels],
        "reciprocal_data": np.array([reciprocal(math.prod(sizes), Precision.parse(config["reciprocal"]))]),
    }
    return layer, [batch, *layer["out_shape"]]


def _parse_mask(
    keras_layer: dict[str, Any], input_names: list[str], input_shapes: list[Any], reader: Any
) -> tuple[dict[str, Any], list[Any]]:
    """Parse a ``Mask``."""
    from hls4ml.converters.keras_v2_to_hls import parse_default_keras_layer

    batch, particles, features = input_shapes[0]
    layer = parse_default_keras_layer(keras_layer, input_names)
    return layer | {"n_in": particles, "n_filt": features, "out_shape": [particles, 1]}, [batch, particles, 1]


def _parse_masked_mean(
    keras_layer: dict[str, Any], input_names: list[str], input_shapes: list[Any], reader: Any
) -> tuple[dict[str, Any], list[Any]]:
    """Parse a ``MaskedMean``: hls4ml gets the very table of reciprocals that Keras reads."""
    from hls4ml.converters.keras_v2_to_hls import parse_default_keras_layer

    batch, particles, channels = input_shapes[0]
    table = reciprocals(particles, Precision.parse(keras_layer["config"]["reciprocal"]))
    layer = parse_default_keras_layer(keras_layer, input_names)
    layer |= {"n_in": particles, "n_filt": channels, "out_shape": [channels], "reciprocal_data": np.array(table)}
    return layer, [batch, channels]


def _parse_masked_softmax(
    keras_layer: dict[str, Any], input_names: list[str], input_shapes: list[Any], reader: Any
) -> tuple[dict[str, Any], list[Any]]:
    """Parse a ``MaskedSoftmax``: hls4ml gets the very tables that Keras reads."""
    from hls4ml.converters.keras_v2_to_hls import parse_default_keras_layer

    config, (_, *outer, size) = keras_layer["config"], input_shapes[0]
    tables = SoftmaxTables(Precision.parse(config["inputs"]), size, Precision.parse(config["outputs"]))
    layer = parse_default_keras_layer(keras_layer, input_names)
    layer |= {
        "n_in": size,
        "n_outer": math.prod(outer),
        "exponentials": len(tables.exponentials),
        "reciprocals": len(tables.reciprocals),
        "difference_t": str(tables.difference),
        "sum_t": str(tables.sum),
        "index_t": f"{str(tables.index)[:-1]},AP_RND,AP_SAT>",
        "exponential_data": tables.exponentials,
        "reciprocal_data": tables.reciprocals,
    }
    return layer, list(input_shapes[0])


def _parse_matmul(
    keras_layer: dict[str, Any], input_names: list[str], input_shapes: list[Any], reader: Any
) -> tuple[dict[str, Any], list[Any]]:
    """Parse a ``MatMul``: an einsum, of tensors whose heads are an axis of their own in the same order of values."""
    from hls4ml.converters.keras_v2_to_hls import parse_default_keras_layer

    (batch, *left), (_, *right), config = *input_shapes, keras_layer["config"]
    transpose, heads = config["transpose"], config["heads"]
    output = [*left[:-1], right[0 if transpose else 1]]
    equation = "ik,jk->ij" if transpose else "ik,kj->ij"
    if heads > 1:
        right = [right[0], heads, right[1] // heads]
        if transpose:
            left = [left[0], heads, left[1] // heads]
            output, equation = [heads, left[0], right[0]], "ihk,jhk->hij"
        else:
            output, equation = [left[1], heads * right[2]], "hik,khj->ihj"
    layer = parse_default_keras_layer(keras_layer, input_names)
    layer |= {
        "class_name": "Einsum",
        "equation": equation,
        "inp0_shape": tuple(left),
        "inp1_shape": tuple(right),
        "out_shape": tuple(output),
    }
    return layer, [batch, *output]


def _parse_sign(
    keras_layer: dict[str, Any], input_names: list[str], input_shapes: list[Any], reader: Any
) -> tuple[dict[str, Any], list[Any]]:
    """Parse a ``Sign``: a layer of our own."""
    from hls4ml.converters.keras_v2_to_hls import parse_default_keras_layer

    layer = parse_default_keras_layer(keras_layer, input_names)
    return layer | {"class_name": "Sign", "n_in": math.prod(input_shapes[0][1:])}, list(input_shapes[0])


def _parse_quantizer(
    keras_layer: dict[str, Any], input_names: list[str], input_shapes: list[Any], reader: Any
) -> tuple[dict[str, Any], list[Any]]:
    """Parse a ``Quantizer``: for every channel half a step, the bits that its numbers lack, and their limits in last bits."""
    from hls4ml.converters.keras_v2_to_hls import parse_default_keras_layer

    config, (_, *shape) = keras_layer["config"], input_shapes[0]
    out = Precision.parse(config["outputs"])
    steps, low, high = limits_of(formats_of(config["bits"], config["integer"], signed=out.signed), out)
    layer = parse_default_keras_layer(keras_layer, input_names)
    layer |= {
        "n_in": math.prod(shape),
        "n_filt": shape[-1],
        "offset_data": steps / 2 * (config["rounding"] == "half_up"),
        "shift_data": np.log2(steps / out.step).round().astype(int),
        "low_data": low / out.step,
        "high_data": high / out.step,
    }
    return layer, list(input_shapes[0])


def _parse_tables(
    keras_layer: dict[str, Any], input_names: list[str], input_shapes: list[Any], reader: Any
) -> tuple[dict[str, Any], list[Any]]:
    """Parse a ``Tables``: hls4ml gets the very tables that Keras reads, one after the other, by the bits of their inputs."""
    from hls4ml.converters.keras_v2_to_hls import parse_default_keras_layer

    batch, inputs = input_shapes[0]
    config = keras_layer["config"]
    grid, units = Precision.parse(config["grid"]), config["units"]
    layer = parse_default_keras_layer(keras_layer, input_names)
    tables = by_raw(reader.get_weights_data(layer["name"], "kernel"), grid)
    layer |= {
        "class_name": "Tables",
        "n_in": inputs,
        "n_out": units,
        "entries": len(tables),
        "index_t": str(grid),
        "out_shape": [units],
        "kernel_data": np.ascontiguousarray(np.moveaxis(tables, 0, -1)),
    }
    return layer, [batch, units]
