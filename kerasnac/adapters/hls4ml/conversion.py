"""Networks as hls4ml projects, every number format set explicitly."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kerasnac.adapters.hls4ml.backends import BACKENDS, check_layers, check_options, require_packages
from kerasnac.adapters.hls4ml.csim import INTERFACE
from kerasnac.adapters.hls4ml.library import hls4ml
from kerasnac.adapters.hls4ml.project_files import PROJECT, STAMP, check_headers, make_movable, read_types
from kerasnac.adapters.keras.build import INPUT, Model, build, set_weights
from kerasnac.adapters.keras.runtime import legacy_keras, tensorflow
from kerasnac.adapters.keras.table import SoftmaxTables
from kerasnac.core.hardware.hls_options import HlsOptions
from kerasnac.core.network.architecture import Architecture, Node
from kerasnac.core.network.arithmetic import Dtype, exact_arithmetic
from kerasnac.core.network.exactness import KERNEL_KINDS, NOT_IN_FIRMWARE, output_formats
from kerasnac.core.network.layers import Unsupported
from kerasnac.core.network.precision import WIDEST, Precision
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.weights import quantized_weights
from kerasnac.core.store.files import write_json
from kerasnac.errors import ConversionError

#: Output format of the softmax on the chip.
SOFTMAX_OUTPUT = Precision(16, 1, signed=False)

#: End of the name of the emulation's function, by the dtype of its inputs and outputs.
FUNCTIONS: Mapping[Dtype, str] = {"float32": "float", "float64": "double"}

#: The format, strategy and reuse factor are never used: every layer has its own.
_MODEL_CONFIG = {
    "Precision": {"default": "fixed<32,16>"},
    "Strategy": "Latency",
    "ReuseFactor": 1,
    "BramFactor": 1_000_000_000,  # Weights stay on the chip, never become ports.
}


def check_convertible(network: Trained, options: HlsOptions) -> dict[str, Precision]:
    """Check that a network has exact firmware with some options; needs no tool.

    Args:
        network: A quantized network, without a window.
        options: What the project is for.

    Returns:
        The exact format of what leaves every layer, by the layer's name.

    Raises:
        ConfigError: If the part or an option cannot be right.
        ConversionError: If it has none; names the layer and the reason.
    """
    check_options(options)
    options.check(network.architecture)
    check_layers(network.architecture, options)
    return output_formats(network.architecture, network.weights)


def convert(trained: Trained, options: HlsOptions, *, folder: Path, softmax: bool = False) -> Any:
    """Write an hls4ml project; what hls4ml says goes to ``convert.log`` in the project.

    Args:
        trained: A quantized network.
        options: What the project is for.
        folder: Where to write. It can be moved afterwards, compiled or not.
        softmax: Append a softmax to the linear outputs; unlike all else it is an approximation.

    Returns:
        The ``hls4ml.model.ModelGraph``.

    Raises:
        ConfigError: If the part or an option cannot be right.
        ConversionError: If the network has no exact firmware, or hls4ml fails.
        EnvironmentProblem: If hls4ml, or da4ml for its strategy, is missing.
    """
    architecture, formats = trained.architecture, check_convertible(trained, options)
    require_packages(options)
    dtype = exact_arithmetic(architecture, trained.weights).dtype
    model = build(_with_plain_kernels(architecture), dtype=dtype)
    set_weights(model, architecture, quantized_weights(architecture, trained.weights))
    layers = _layer_config(architecture, formats, options, reuse_factors(architecture, options))
    if softmax:
        model = _with_softmax(model)
        layers["softmax"] = _softmax_config(math.prod(architecture.output_shape))
    folder.mkdir(parents=True, exist_ok=True)
    with legacy_keras(), _logged(folder / "convert.log"):
        graph = hls4ml().converters.convert_from_keras_model(
            model,
            output_dir=str(folder),
            project_name=PROJECT,
            backend=options.backend,
            part=options.part,
            clock_period=options.clock_period,
            io_type=options.io_type,
            bit_exact=False,  # hls4ml's own inference, for HGQ models; every format is given here.
            hls_config={"Model": _MODEL_CONFIG, "LayerName": layers},
        )
        graph.config.trace_output = True  # hls4ml reads it where no configuration of it ends up
        graph.write()
    check_headers(folder)
    make_movable(folder, str(graph.config.get_config_value("Stamp")))
    interface = {
        "inputs": math.prod(architecture.input_shape),
        "outputs": math.prod(architecture.output_shape),
        "function": f"{PROJECT}_{FUNCTIONS[dtype]}",
        "library": f"firmware/{PROJECT}-{STAMP}.so",
        "not_emulated": BACKENDS[options.backend].emulated,
        "layers": _visible_layers(graph),
        "types": read_types(folder),
    }
    write_json(folder / INTERFACE, interface)
    return graph


def _visible_layers(graph: Any) -> list[dict[str, Any]]:
    """Return the layers whose outputs the emulation can show, in order: name, number of values, names of types."""
    layers = []
    for layer in graph.get_layers():
        if layer.get_attr("function_cpp", None) and layer.get_attr("trace", False):
            variable = layer.get_output_variable()
            own = [weight.type.name for weight in layer.get_weights()] + [layer.types[k].name for k in layer.types]
            layers.append(
                {
                    "name": layer.name,
                    "size": int(variable.size()),
                    "type": variable.type.name,
                    "types": sorted({variable.type.name, *own}),
                }
            )
    return layers


def _rounding(grid: Precision) -> str:
    """Return the format as QKeras rounds to it: half to even, saturating."""
    return f"{str(grid)[:-1]},AP_RND_CONV,AP_SAT>"


def _layer_config(
    architecture: Architecture, formats: Mapping[str, Precision], options: HlsOptions, reuse: Mapping[str, int]
) -> dict[str, Any]:
    """Return the configuration of every layer, by the name that hls4ml gives the layer.

    Args:
        architecture: Quantized, without a window.
        formats: The exact format of what leaves every layer, by the layer's name.
        options: What the project is for.
        reuse: Reuse factors of the layers with a kernel, by name.
    """
    assert architecture.input is not None
    config: dict[str, Any] = {INPUT: {"Precision": {"result": str(architecture.input)}}}
    for node in architecture.nodes:
        name, layer, exact = node.name, node.layer, formats[node.name].fixed
        precision = PRECISIONS[layer.kind]
        assert not isinstance(precision, Unsupported), f"{name} has an exact format: {exact}"
        config[name] = {"Precision": precision(node, exact)}
        if layer.kind in KERNEL_KINDS:
            config[name] |= {"Strategy": options.strategy_of(name), "ReuseFactor": reuse[name]}
            # hls4ml splits the linear activation off. A format of its own on the accumulator is also what keeps the
            # quantizer that follows: hls4ml merges a linear activation into a layer whose result it may choose.
            config[f"{name}_linear"] = {"Precision": {"result": str(exact)}}
    # Emulation only: the code is left out of synthesis, and does nothing until it is asked.
    return {name: {**settings, "Trace": True} for name, settings in config.items()}


def _kernel_precision(node: Node, exact: Precision) -> dict[str, str]:
    assert node.layer.weight is not None
    assert node.layer.bias is not None
    weight = str(node.layer.weight.fixed)
    return {"accum": str(exact), "result": str(exact), "weight": weight, "bias": str(node.layer.bias.fixed)}


def _scale_precision(node: Node, exact: Precision) -> dict[str, str]:
    return {"result": str(exact), "scale": str(node.layer.weight), "bias": str(node.layer.bias)}


def _activation_precision(node: Node, exact: Precision) -> dict[str, str]:
    if node.layer.signs:
        return {"result": str(exact)}
    table_of_its_own = {"table": str(exact)} if node.layer.looks_up else {}
    return {"result": _rounding(exact), **table_of_its_own}


def _lookup_precision(node: Node, exact: Precision) -> dict[str, str]:
    return {"result": _rounding(exact), "table": str(exact)}


def _quantizer_precision(node: Node, exact: Precision) -> dict[str, str]:
    """Return the formats of a quantizer: beside its output, of its limits, shifts and halves of steps."""
    steps = f"ap_fixed<{exact.bits + 1},{exact.bits + 1}>"
    half = Precision(exact.bits + 1, exact.integer, signed=False)
    return {"result": str(exact), "low": steps, "high": steps, "shift": "ap_uint<5>", "offset": str(half)}


def _tables_precision(node: Node, exact: Precision) -> dict[str, str]:
    return {"result": str(exact), "accum": str(exact), "kernel": str(node.layer.weight)}


def _layer_norm_precision(node: Node, exact: Precision) -> dict[str, str]:
    layer = node.layer
    return {"result": _rounding(exact), "root": layer["root"], "scale": str(layer.weight), "bias": str(layer.bias)}


def _softmax_precision(node: Node, exact: Precision) -> dict[str, str]:
    return {"result": _rounding(exact)}


def _pool_precision(node: Node, exact: Precision) -> dict[str, str]:
    """Return the formats of a pool: with room for the sum before a mean divides it, and for the fraction after."""
    if node.layer.weight is not None:
        return _mean_precision(node.layer.weight, exact)
    more = min(math.prod(node.shapes[0][:-1]).bit_length(), WIDEST - exact.bits)
    return {"result": str(exact), "accum": str(Precision(exact.bits + more, exact.integer + more, exact.signed))}


def _masked_mean_precision(node: Node, exact: Precision) -> dict[str, str]:
    assert node.layer.weight is not None
    return _mean_precision(node.layer.weight, exact)


def _mean_precision(weight: Precision, exact: Precision) -> dict[str, str]:
    """Return the formats of a mean; a product has no fewer bits than its first factor, the sum."""
    accum = Precision(exact.bits, exact.integer + weight.fractional, exact.signed)
    return {"result": str(exact), "accum": str(accum), "reciprocal": str(weight)}


def _masked_softmax_precision(node: Node, exact: Precision) -> dict[str, str]:
    entry = str(SoftmaxTables.entries_of(exact))
    return {"result": _rounding(exact), "exponential": entry, "reciprocal": entry}


def _exact_precision(node: Node, exact: Precision) -> dict[str, str]:
    return {"result": str(exact), "accum": str(exact)}


#: For every kind: the formats that hls4ml is told, from the node and its exact output format.
PRECISIONS: Mapping[str, Callable[[Node, Precision], dict[str, str]] | Unsupported] = {
    "dense": _kernel_precision,
    "conv1d": _kernel_precision,
    "conv2d": _kernel_precision,
    "scale": _scale_precision,
    "activation": _activation_precision,
    "softmax": _softmax_precision,
    "mask": _exact_precision,
    "masked_mean": _masked_mean_precision,
    "masked_softmax": _masked_softmax_precision,
    "pool": _pool_precision,
    "matmul": _exact_precision,
    "concatenate": _exact_precision,
    "layer_norm": _layer_norm_precision,
    "lookup": _lookup_precision,
    "quantizer": _quantizer_precision,
    "tables": _tables_precision,
    "add": _exact_precision,
    "flatten": _exact_precision,
    "reshape": _exact_precision,
    **NOT_IN_FIRMWARE,
}


def _with_plain_kernels(architecture: Architecture) -> Architecture:
    """Return the same network for weights that are on their grids already, without quantizers for them.

    hls4ml lets the quantizer of a kernel or bias override the format that it is told, and takes
    ``quantized_bits(b, b)``, which is ``ap_fixed<b, b + 1>``, for ``ap_int<b>``.
    """
    return architecture.rewritten(
        lambda node: (replace(node.layer, weight=None, bias=None) if "kernel" in node.weights else node.layer,)
    )


def reuse_factors(architecture: Architecture, options: HlsOptions) -> dict[str, int]:
    """Choose the closest reuse factor that every layer with a kernel can have, by the layer's name.

    Other factors give wrong sums without a word. hls4ml looks for a possible one too, but forgets it where it
    replaces a 1x1 convolution, and believes that a parallel convolution could reuse a multiplier more often than one
    output has inputs, where its C++ reads beyond the inputs.
    """
    chooser = hls4ml().backends.get_backend(options.backend)
    factors = {}
    for node in architecture.nodes:
        if node.layer.kind in KERNEL_KINDS and node.products is not None:
            inputs, wanted = node.products.inputs, options.reuse_factor_of(node.name)
            possible = chooser.get_valid_reuse_factors(inputs, node.products.outputs)
            if node.layer.kind != "dense" and options.io_type == "io_parallel":
                possible = [factor for factor in possible if factor <= inputs]
            resource = options.strategy_of(node.name) == "resource"
            factors[node.name] = chooser.get_closest_reuse_factor(possible, wanted) if resource else wanted
    return factors


def _with_softmax(model: Model) -> Model:
    """Append a softmax to a Keras model."""
    keras = tensorflow().keras
    return keras.Model(model.input, keras.layers.Activation("softmax", name="softmax")(model.output), name=model.name)


def _softmax_config(classes: int) -> dict[str, Any]:
    """Return formats and table sizes of hls4ml's stable softmax: exp(x - max) and 1 / sum from tables.

    hls4ml's defaults let ``max - x`` and the sum wrap around; here the first saturates at 16, where exp is below
    the output's last bit, and the second has room for all classes.
    """
    index_bits, table_bits, whole = 12, 18, classes.bit_length()
    return {
        "Precision": {"result": _rounding(SOFTMAX_OUTPUT), "accum": f"ufixed<{table_bits + whole},{1 + whole}>"},
        # hls4ml takes these formats outside "Precision" only.
        "inp_norm_t": f"ufixed<{index_bits},4,AP_RND,AP_SAT>",
        "exp_table_t": f"ufixed<{table_bits},1,AP_RND,AP_SAT>",
        "inv_inp_t": f"ufixed<{index_bits},{whole},AP_RND,AP_SAT>",
        "inv_table_t": f"ufixed<{table_bits},1,AP_RND,AP_SAT>",
        "exp_table_size": 2**index_bits,
        "inv_table_size": 2**index_bits,
        "implementation": "stable",
    }


@contextlib.contextmanager
def _logged(log: Path) -> Iterator[None]:
    """Send what is printed to a file, and name the log when hls4ml fails."""
    with log.open("w", encoding="utf-8") as stream:
        try:
            with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
                yield
        except Exception as error:  # hls4ml raises bare Exception
            raise ConversionError(f"hls4ml cannot convert the network: {error} (all it said is in {log.name})") from error
