"""Abilities of hls4ml with the compilers of different vendors, as tried: types, layers, strategies, emulation, parts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from kerasnac.core.hardware.hls_options import Backend, HlsOptions, Strategy
from kerasnac.core.network.architecture import Architecture, Node
from kerasnac.core.network.exactness import NOT_IN_FIRMWARE, averaged
from kerasnac.core.network.layers import Unsupported
from kerasnac.core.network.means import needs_reciprocal
from kerasnac.errors import ConfigError, ConversionError, EnvironmentProblem

_EVERY: tuple[Strategy, ...] = ("latency", "resource", "distributed_arithmetic")

#: AMD part numbers: family and device, package, speed grade (xcvu13p-flga2577-2-e, xc7z020clg400-1).
_AMD_PART = re.compile(r"^x[acq][0-9a-z]+(-[0-9a-z]+)*-[0-9][0-9a-z]*(-[a-z]+)*$", re.IGNORECASE)

#: Their devices, by family: what stands before the package.
_AMD_DEVICES = re.compile(
    "^x[acq]("
    + "|".join(
        (
            "7s(6|15|25|50|75|100)",
            "7a(12|15|25|35|50|75|100|200)tl?",
            "7k(70|160|325|355|410|420|480)tl?",
            "7v(585|2000)t",
            "7vx(330|415|485|550|690|980|1140)t",
            "7vh(580|870)t",
            "7z(007s|010|012s|014s|015|020|030|035|045|100)i?",
            "ku(025|035|040|060|085|095|115)",
            "vu(065|080|095|125|160|190|440)",
            "au(7|10|15|20|25)p",
            "ku(3|5|9|11|13|15|19)p",
            "vu(3|5|7|9|11|13|19|23|27|29|31|33|35|37|45|47|57)p",
            "zu[0-9]{1,2}t?(cg|eg|ev|dr)",
            "k(24|26)",
            "u(26|30|50|55|200|250|280)[a-z]*",
            "v[cemph][0-9]{4}",
        )
    )
    + ")(?=-|[a-z]{2,4}[0-9])",
    re.IGNORECASE,
)

#: Families and part numbers of Intel and Altera.
_INTEL_PART = re.compile(
    r"^((arria|stratix|cyclone|agilex|max)[ _-]?(ii|iv|v|10|3|5|7|9)?[a-z]{0,2}|(10|1s|5|a[gfe]|ep)[0-9a-z]{6,})$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class BackendFacts:
    """Abilities of a backend of hls4ml 1.3.

    Attributes:
        strategies: That it really implements; another one is ignored without a word.
        tables: True if it has look-up layers, matrix products of activations, a softmax with formats and exact means.
        amd: True if it takes AMD's part numbers; else Intel's.
        emulated: Empty if its C++ compiles with a plain compiler; else what is missing.
    """

    strategies: tuple[Strategy, ...]
    tables: bool
    amd: bool = True
    emulated: str = ""


BACKENDS: Mapping[Backend, BackendFacts] = {
    "Vitis": BackendFacts(_EVERY, tables=True),
    "Vivado": BackendFacts(_EVERY, tables=True),
    "Catapult": BackendFacts(("latency", "resource"), tables=False),
    "Quartus": BackendFacts(("resource",), tables=False, amd=False),
    "oneAPI": BackendFacts(
        ("resource",), tables=False, amd=False, emulated="oneAPI's C++ is SYCL, which Intel's compiler icpx alone compiles"
    ),
}


#: Kinds that are not for io_stream, and why.
PARALLEL_ONLY: Mapping[str, str] = {
    "masked_softmax": "its firmware is for io_parallel only",
    "matmul": "hls4ml multiplies activations in io_parallel only",
}


def check_options(options: HlsOptions) -> None:
    """Check the options of a conversion, before anything is computed for it.

    Raises:
        ConfigError: If the part or an option cannot be right.
    """
    facts = BACKENDS[options.backend]
    _check_part(options.part, options.backend, amd=facts.amd)
    options.check()
    for strategy in sorted(options.strategies):
        if strategy not in facts.strategies:
            raise ConfigError(
                f"strategy {strategy}: hls4ml has none for {options.backend}; set strategy to {' or '.join(facts.strategies)}"
            )


def require_packages(options: HlsOptions) -> None:
    """Check that the packages are there which strategies need besides hls4ml.

    Raises:
        EnvironmentProblem: If one is missing.
    """
    if "distributed_arithmetic" in options.strategies and find_spec("da4ml") is None:
        raise EnvironmentProblem("strategy distributed_arithmetic needs the package da4ml: pip install da4ml==0.6.0")


def check_layers(architecture: Architecture, options: HlsOptions) -> None:
    """Check that a backend has all layers of a network, and computes them right.

    Raises:
        ConversionError: Naming the first layer that it has not.
    """
    for node in architecture.nodes:
        if options.io_type == "io_stream" and node.layer.kind in PARALLEL_ONLY:
            raise ConversionError(f"{node.name}: {PARALLEL_ONLY[node.layer.kind]}; set io_type to io_parallel")
    if BACKENDS[options.backend].tables:
        return
    able = ", ".join(name for name, facts in BACKENDS.items() if facts.tables)
    for node in architecture.nodes:
        lacking = LACKING[node.layer.kind]
        if isinstance(lacking, Unsupported):
            raise ConversionError(f"{node.name}: {lacking.reason}")
        if what := lacking(node, options):
            raise ConversionError(
                f"{node.name}: hls4ml has no {what} for {options.backend}; use backend {able}, or leave the layer out"
            )


def _nothing(node: Node, options: HlsOptions) -> str:
    return ""


def _softmax(node: Node, options: HlsOptions) -> str:
    return "softmax with formats of its own"


def _masked(node: Node, options: HlsOptions) -> str:
    return "masks of particles"


def _matmul(node: Node, options: HlsOptions) -> str:
    return "product of activations"


def _activation(node: Node, options: HlsOptions) -> str:
    if node.layer.signs:
        return "sign of a number as an activation of one bit"
    return f"look-up layer, which {node.layer['fn']} is," if node.layer.looks_up else ""


def _layer_norm(node: Node, options: HlsOptions) -> str:
    return "exact layer norm"


def _lookup(node: Node, options: HlsOptions) -> str:
    return "look-up layer"


def _quantizer(node: Node, options: HlsOptions) -> str:
    return "format for every channel"


def _tables(node: Node, options: HlsOptions) -> str:
    return "learned tables"


def _pool(node: Node, options: HlsOptions) -> str:
    # Tried with hls4ml 1.3: these compile, and give other numbers than their formats have.
    layer, stream = node.layer, options.io_type == "io_stream"
    count = averaged(layer, node.shapes[0])
    if layer["op"] == "mean" and (layer.weight is not None or needs_reciprocal(count)):
        return f"exact mean of {count} values"
    if layer["op"] == "mean":
        right = stream and layer["size"] == 0 and options.backend in ("Catapult", "Quartus")
        where = "in io_parallel" if not stream else "over a part of the map" if layer["size"] else "of a whole map"
        return "" if right else f"exact mean {where}"
    if layer["size"] == 0 and stream and options.backend != "Catapult":
        return "exact maximum of a whole map in io_stream"
    return ""


#: For every kind: what a layer needs that the backends without tables have not, from the node and the options of the
#: conversion; empty if nothing.
LACKING: Mapping[str, Callable[[Node, HlsOptions], str] | Unsupported] = {
    "dense": _nothing,
    "conv1d": _nothing,
    "conv2d": _nothing,
    "scale": _nothing,
    "add": _nothing,
    "flatten": _nothing,
    "reshape": _nothing,
    "activation": _activation,
    "softmax": _softmax,
    **dict.fromkeys(("mask", "masked_mean", "masked_softmax"), _masked),
    "matmul": _matmul,
    "concatenate": _nothing,
    "layer_norm": _layer_norm,
    "lookup": _lookup,
    "quantizer": _quantizer,
    "tables": _tables,
    "pool": _pool,
    **NOT_IN_FIRMWARE,
}


def _check_part(part: str, backend: Backend, *, amd: bool) -> None:
    if not amd:
        if not _INTEL_PART.match(part):
            raise ConfigError(f"part {part!r} does not look like an FPGA of Intel's, which {backend} is for: Arria10, Agilex7")
        return
    if not _AMD_PART.match(part):
        raise ConfigError(f"part {part!r} does not look like an FPGA part: write it in full, like xcvu13p-flga2577-2-e")
    if not _AMD_DEVICES.match(part):
        raise ConfigError(f"part {part!r}: AMD has no such device; write the part as the data sheet of the board does")
