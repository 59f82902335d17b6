"""Networks as hls4ml projects, every number format set explicitly."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from kerasnac.adapters.csim import INTERFACE
from kerasnac.adapters.keras.build import INPUT, Model, build, set_weights
from kerasnac.adapters.keras.runtime import legacy_keras, tensorflow
from kerasnac.adapters.keras.table import SoftmaxTables, table
from kerasnac.core.activations import ACTIVATIONS
from kerasnac.core.architecture import Architecture, Node
from kerasnac.core.exactness import KERNEL_KINDS, output_formats
from kerasnac.core.files import write_json, write_text
from kerasnac.core.precision import Precision
from kerasnac.core.settings import Backend, IoType, Strategy
from kerasnac.core.trained import Trained
from kerasnac.core.weights import quantized_weights
from kerasnac.errors import ConfigError, ConversionError, EnvironmentProblem

#: Name of the project: of its top function and its source files.
PROJECT = "kerasnac"

#: Output format of the softmax on the chip.
SOFTMAX_OUTPUT = Precision(16, 1, signed=False)

#: The format, strategy and reuse factor are never used: every layer has its own.
_MODEL_CONFIG = {
    "Precision": {"default": "fixed<32,16>"},
    "Strategy": "Latency",
    "ReuseFactor": 1,
    "BramFactor": 1_000_000_000,  # Weights stay on the chip, never become ports.
    "TraceOutput": False,
}

#: AMD part names: family and device, package, speed grade (xcvu13p-flga2577-2-e, xc7z020clg400-1).
_PART = re.compile(r"^x[acq][0-9a-z]+(-[0-9a-z]+)*-[0-9][0-9a-z]*(-[a-z]+)*$", re.IGNORECASE)


def convert(
    trained: Trained,
    *,
    folder: Path,
    part: str,
    clock_period: float = 5.0,
    backend: Backend = "Vitis",
    io_type: IoType = "io_parallel",
    strategy: Strategy = "latency",
    reuse_factor: int = 1,
    softmax: bool = False,
) -> Any:
    """Writes an hls4ml project; what hls4ml says goes to ``convert.log`` in the project.

    Args:
        trained: A quantized network.
        folder: Where to write. It can be moved afterwards, compiled or not.
        part: FPGA part, ``xcvu13p-flga2577-2-e`` for example.
        clock_period: Target clock period, ns.
        backend: HLS compiler.
        io_type: Parallel arrays, or one pixel after the other.
        strategy: How kernel layers are implemented.
        reuse_factor: How often a multiplier is used per inference; with the strategy ``resource`` every layer takes
            the closest factor that it can have.
        softmax: Append a softmax to the linear outputs; unlike all else it is an approximation.

    Returns:
        The ``hls4ml.model.ModelGraph``.

    Raises:
        ConfigError: If the part or an option cannot be right.
        ConversionError: If the network has no exact firmware, or hls4ml fails.
        EnvironmentProblem: If hls4ml, or da4ml for its strategy, is missing.
    """
    check_options(part, strategy, reuse_factor)
    architecture = trained.architecture
    formats = output_formats(architecture, trained.weights)
    model = build(_with_plain_kernels(architecture))
    set_weights(model, architecture, quantized_weights(architecture, trained.weights))
    hls4ml = _hls4ml()
    reuse = _reuse_factors(architecture, backend, io_type, strategy, reuse_factor)
    layers = _layer_config(architecture, formats, strategy, reuse)
    if softmax:
        model = _with_softmax(model)
        layers["softmax"] = _softmax_config(math.prod(architecture.output_shape))
    folder.mkdir(parents=True, exist_ok=True)
    with legacy_keras(), _logged(folder / "convert.log"):
        graph = hls4ml.converters.convert_from_keras_model(
            model,
            output_dir=str(folder),
            project_name=PROJECT,
            backend=backend,
            part=part,
            clock_period=clock_period,
            io_type=io_type,
            bit_exact=False,  # hls4ml's own inference, for HGQ models; every format is given here.
            hls_config={"Model": _MODEL_CONFIG, "LayerName": layers},
        )
        graph.write()
    _make_movable(folder)
    interface = {
        "inputs": math.prod(architecture.input_shape),
        "outputs": math.prod(architecture.output_shape),
        "function": f"{PROJECT}_float",
        "library": f"firmware/{PROJECT}-{graph.config.get_config_value('Stamp')}.so",
    }
    write_json(folder / INTERFACE, interface)
    return graph


def check_options(part: str, strategy: Strategy, reuse_factor: int) -> None:
    """Checks what a conversion is told, before anything is computed for it.

    Raises:
        ConfigError: If the part or an option cannot be right.
        EnvironmentProblem: If a strategy needs a package that is missing.
    """
    if not _PART.match(part):
        raise ConfigError(f"part {part!r} does not look like an FPGA part: write it in full, like xcvu13p-flga2577-2-e")
    if reuse_factor < 1:
        raise ConfigError(f"reuse_factor {reuse_factor} is too small: at least 1")
    if strategy == "distributed_arithmetic":
        if reuse_factor != 1:
            raise ConfigError(f"strategy {strategy} has no multipliers to reuse: set reuse_factor to 1, not {reuse_factor}")
        if find_spec("da4ml") is None:
            raise EnvironmentProblem(f"strategy {strategy} needs the package da4ml: pip install da4ml==0.6.0")


def _rounding(grid: Precision) -> str:
    """The format as QKeras rounds to it: half to even, saturating."""
    return f"{str(grid)[:-1]},AP_RND_CONV,AP_SAT>"


def _layer_config(
    architecture: Architecture, formats: Mapping[str, Precision], strategy: Strategy, reuse: Mapping[str, int]
) -> dict[str, Any]:
    """What hls4ml is told about every layer, by the name that it gives the layer."""
    assert architecture.input is not None
    config: dict[str, Any] = {INPUT: {"Precision": {"result": str(architecture.input)}}}
    for node in architecture.nodes:
        name, layer, exact = node.name, node.layer, str(formats[node.name])
        if layer.kind in KERNEL_KINDS:
            precision = {"accum": exact, "result": exact, "weight": str(layer.weight), "bias": str(layer.bias)}
            config[name] = {"Precision": precision, "Strategy": strategy, "ReuseFactor": reuse[name]}
            # hls4ml splits the linear activation off. A format of its own on the accumulator is also what keeps the
            # quantizer that follows: hls4ml merges a linear activation into a layer whose result it may choose.
            config[f"{name}_linear"] = {"Precision": {"result": exact}}
        elif layer.kind == "activation":
            precision = {"result": _rounding(formats[name])}
            if ACTIVATIONS[layer["fn"]].table:
                precision["table"] = exact
            config[name] = {"Precision": precision}
        elif layer.kind == "softmax":
            config[name] = {"Precision": {"result": _rounding(formats[name])}}
        elif layer.kind == "pool":
            config[name] = {"Precision": {"result": exact, "accum": str(_pool_sum(node, formats[name]))}}
        else:
            config[name] = {"Precision": {"result": exact, "accum": exact}}
    return config


def _pool_sum(node: Node, result: Precision) -> Precision:
    """Room for the sum before a mean divides it, and for the fraction after."""
    more = math.prod(node.shapes[0][:-1]).bit_length()
    return Precision(result.bits + more, result.integer + more, result.signed)


def _with_plain_kernels(architecture: Architecture) -> Architecture:
    """The same network for weights that are on their grids already, without quantizers for them.

    hls4ml lets the quantizer of a kernel or bias override the format that it is told, and takes
    ``quantized_bits(b, b)``, which is ``ap_fixed<b, b + 1>``, for ``ap_int<b>``.
    """
    return replace(architecture, layers=tuple(replace(layer, weight=None, bias=None) for layer in architecture.layers))


def _reuse_factors(
    architecture: Architecture, backend: Backend, io_type: IoType, strategy: Strategy, wanted: int
) -> dict[str, int]:
    """The closest reuse factor that every kernel layer can have.

    Other factors give wrong sums without a word. hls4ml looks for a possible one too, but forgets it where it
    replaces a 1x1 convolution, and believes that a parallel convolution could reuse a multiplier more often than one
    output has inputs, where its C++ reads beyond the inputs.
    """
    chooser = _hls4ml().backends.get_backend(backend)
    factors = {}
    for node in architecture.nodes:
        if node.layer.kind in KERNEL_KINDS and node.products is not None:
            inputs = node.products.inputs
            possible = chooser.get_valid_reuse_factors(inputs, node.products.outputs)
            if node.layer.kind != "dense" and io_type == "io_parallel":
                possible = [factor for factor in possible if factor <= inputs]
            factors[node.name] = chooser.get_closest_reuse_factor(possible, wanted) if strategy == "resource" else wanted
    return factors


def _with_softmax(model: Model) -> Model:
    keras = tensorflow().keras
    return keras.Model(model.input, keras.layers.Activation("softmax", name="softmax")(model.output), name=model.name)


def _softmax_config(classes: int) -> dict[str, Any]:
    """Formats and table sizes of hls4ml's stable softmax: exp(x - max) and 1 / sum from tables.

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


@cache
def _hls4ml() -> ModuleType:
    """Imports hls4ml and teaches it the layers of :mod:`kerasnac.adapters.keras.custom`."""
    tensorflow()
    try:
        with legacy_keras():
            import hls4ml
            from hls4ml.converters import register_keras_v2_layer_handler
    except ImportError as error:
        raise EnvironmentProblem(f"hls4ml cannot be imported ({error}): pip install kerasnac with its dependencies") from error
    for name, parser in (("TableActivation", _parse_table), ("TableSoftmax", _parse_softmax), ("MatMul", _parse_matmul)):
        register_keras_v2_layer_handler(name, parser)
    return hls4ml  # type: ignore[no-any-return]


def _parse_table(
    keras_layer: dict[str, Any], input_names: list[str], input_shapes: list[Any], reader: Any
) -> tuple[dict[str, Any], list[Any]]:
    """hls4ml's parser of ``TableActivation``: the very table that Keras reads."""
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


def _parse_softmax(
    keras_layer: dict[str, Any], input_names: list[str], input_shapes: list[Any], reader: Any
) -> tuple[dict[str, Any], list[Any]]:
    """hls4ml's parser of ``TableSoftmax``: its stable softmax with the formats of :class:`SoftmaxTables`."""
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


def _parse_matmul(
    keras_layer: dict[str, Any], input_names: list[str], input_shapes: list[Any], reader: Any
) -> tuple[dict[str, Any], list[Any]]:
    """hls4ml's parser of ``MatMul``: an einsum."""
    from hls4ml.converters.keras_v2_to_hls import parse_default_keras_layer

    (batch, rows, _), (_, *right) = input_shapes
    transpose = keras_layer["config"]["transpose"]
    output = [batch, rows, right[0] if transpose else right[1]]
    layer = parse_default_keras_layer(keras_layer, input_names)
    layer |= {
        "class_name": "Einsum",
        "equation": "ik,jk->ij" if transpose else "ik,kj->ij",
        "inp0_shape": tuple(input_shapes[0][1:]),
        "inp1_shape": tuple(input_shapes[1][1:]),
        "out_shape": tuple(output[1:]),
    }
    return layer, output


@contextlib.contextmanager
def _logged(log: Path) -> Iterator[None]:
    """Sends what is printed to a file, and names the log when hls4ml fails."""
    with log.open("w", encoding="utf-8") as stream:
        try:
            with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
                yield
        except Exception as error:  # hls4ml raises bare Exception
            raise ConversionError(f"hls4ml cannot convert the network: {error} (all it said is in {log.name})") from error


def _make_movable(folder: Path) -> None:
    """Replaces absolute paths in a project, and its fixed compiler by ``$CXX``."""
    build = folder / "build_lib.sh"
    script = build.read_text(encoding="utf-8")
    for old, new in (("CC=g++", 'CC="${CXX:-g++}"'), ("${BASEDIR}/firmware/weights", "firmware/weights")):
        if old not in script:
            raise ConversionError(f"{build} is not the script that kerasnac knows ({old!r} is missing): install hls4ml 1.3")
        script = script.replace(old, new)
    write_text(build, script)
    config = folder / "hls4ml_config.yml"
    write_text(config, config.read_text(encoding="utf-8").replace(str(folder), "."))
