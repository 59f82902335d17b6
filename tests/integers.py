"""Quantized networks in integers, layer by layer with NumPy: an evaluation that knows neither Keras nor da4ml.

Every number is a whole number of steps of its layer's format, int64; nothing is rounded but in the activations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasnac.adapters.keras.table import SoftmaxTables, table
from kerasnac.core.network.activations import ACTIVATIONS
from kerasnac.core.network.architecture import Architecture, Node
from kerasnac.core.network.channel_formats import channel_formats
from kerasnac.core.network.exactness import averaged, output_formats
from kerasnac.core.network.kinds import POOL
from kerasnac.core.network.layer_norms import LayerNormTables
from kerasnac.core.network.means import reciprocal
from kerasnac.core.network.precision import Binary, Precision
from kerasnac.core.network.weights import Weights, quantized_weights

Steps = NDArray[np.int64]


def predict_in_integers(architecture: Architecture, weights: Weights, x: NDArray[Any]) -> NDArray[np.float64]:
    """The outputs of a network whose samples lie on its input grid, shape (samples, *output_shape)."""
    formats, values = output_formats(architecture, weights), quantized_weights(architecture, weights)
    assert architecture.input is not None
    grids = [architecture.input, *(formats[name] for name in architecture.names)]
    tensors = [steps(x, architecture.input.fractional)]
    for node, out in zip(architecture.nodes, grids[1:], strict=True):
        sources = [(tensors[i + 1], grids[i + 1].fixed) for i in node.inputs]
        tensors.append(RULES[node.layer.kind](node, sources, out, values))
        low, high = (round(np.ldexp(bound, out.fractional)) for bound in (out.minimum, out.maximum))
        assert tensors[-1].min() >= low, f"{node.name} leaves {out}"
        assert tensors[-1].max() <= high, f"{node.name} leaves {out}"
    return np.ldexp(tensors[-1].astype(np.float64), -grids[-1].fractional)


def steps(values: Any, fractional: int) -> Steps:
    scaled = np.ldexp(np.asarray(values, np.float64), fractional)
    whole = scaled.astype(np.int64)
    assert (whole == scaled).all(), "not on the grid"
    return whole


_Sources = list[tuple[Steps, Precision]]


def _kernel(node: Node, sources: _Sources, out: Precision, values: Weights) -> Steps:
    ((x, grid),) = sources
    assert node.layer.weight is not None
    kernel = steps(values[f"{node.name}/kernel"], out.fractional - grid.fractional)
    if node.layer.kind != "dense":
        x = _patches(x, node)
    sums = x @ kernel.reshape(-1, kernel.shape[-1])
    return sums + steps(values[f"{node.name}/bias"], out.fractional)


def _scale(node: Node, sources: _Sources, out: Precision, values: Weights) -> Steps:
    ((x, grid),) = sources
    return x * steps(values[f"{node.name}/kernel"], out.fractional - grid.fractional) + steps(
        values[f"{node.name}/bias"], out.fractional
    )


def _patches(x: Steps, node: Node) -> Steps:
    """Shape (samples, *positions, channels) to (samples, *positions of the output, window * channels)."""
    layer, rank = node.layer, x.ndim - 2
    size, stride = layer["kernel"], layer["stride"]
    if layer["padding"] == "same":
        missing = [max((-(-n // stride) - 1) * stride + size - n, 0) for n in x.shape[1:-1]]
        x = np.pad(x, [(0, 0), *((m // 2, m - m // 2) for m in missing), (0, 0)])
    windows = _windows(x, size, stride)
    windows = np.moveaxis(windows, rank + 1, -1)
    return windows.reshape(*windows.shape[: rank + 1], -1)


def _windows(x: Steps, size: int, stride: int) -> Steps:
    """Shape (samples, *positions, channels) to (samples, *moved, channels, *window)."""
    rank = x.ndim - 2
    sizes = [size] * rank if size else x.shape[1:-1]
    windows = np.lib.stride_tricks.sliding_window_view(x, sizes, axis=tuple(range(1, rank + 1)))
    return windows[(slice(None), *[slice(None, None, stride or 1)] * rank)]


def _pool(node: Node, sources: _Sources, out: Precision, values: Weights) -> Steps:
    ((x, grid),) = sources
    windows = _windows(x, node.layer["size"], POOL.stride(node.layer))
    around = tuple(range(x.ndim, windows.ndim))
    pooled = windows.max(axis=around) if node.layer["op"] == "max" else windows.sum(axis=around)
    if node.layer.weight is not None:
        pooled *= steps(reciprocal(averaged(node.layer, node.shapes[0]), node.layer.weight), node.layer.weight.fractional)
    elif node.layer["op"] != "max":
        assert 2 ** (out.fractional - grid.fractional) == averaged(node.layer, node.shapes[0])
    return pooled.reshape(len(x), *node.output)


def _add(node: Node, sources: _Sources, out: Precision, values: Weights) -> Steps:
    return sum(x << (out.fractional - grid.fractional) for x, grid in sources)  # type: ignore[return-value]


def _concatenate(node: Node, sources: _Sources, out: Precision, values: Weights) -> Steps:
    return np.concatenate([x << (out.fractional - grid.fractional) for x, grid in sources], axis=-1)


def _lookup(node: Node, sources: _Sources, out: Precision, values: Weights) -> Steps:
    ((x, grid),) = sources
    return steps(values[f"{node.name}/values"], out.fractional)[x % 2**grid.bits]


def _quantizer(node: Node, sources: _Sources, out: Precision, values: Weights) -> Steps:
    ((x, grid),) = sources
    channels = []
    for c, own in enumerate(channel_formats(node.layer)):
        if own is None:
            channels.append(np.zeros_like(x[..., c]))
            continue
        finer = max(grid.fractional, own.fractional + 1)
        exact = x[..., c].astype(object) * 2 ** (finer - grid.fractional)
        half = 2 ** (finer - own.fractional - 1) * (node.layer["rounding"] == "half_up")
        low, high = (round(np.ldexp(bound, own.fractional)) for bound in (own.minimum, own.maximum))
        whole = np.clip((exact + half) // 2 ** (finer - own.fractional), low, high)
        channels.append(whole.astype(np.int64) << (out.fractional - own.fractional))
    return np.stack(channels, axis=-1)


def _tables(node: Node, sources: _Sources, out: Precision, values: Weights) -> Steps:
    ((x, grid),) = sources
    own = Precision.parse(node.layer["grid"])
    entry = (x << (own.fractional - grid.fractional)) - steps(own.minimum, own.fractional)
    kernel = steps(values[f"{node.name}/kernel"], out.fractional)
    return sum(kernel[entry[:, i], i] for i in range(x.shape[1]))  # type: ignore[return-value]


def _matmul(node: Node, sources: _Sources, out: Precision, values: Weights) -> Steps:
    (left, _), (right, _) = sources
    if "heads" not in dict(node.layer.params):
        return left @ (np.swapaxes(right, 1, 2) if node.layer["transpose"] else right)
    heads = node.layer["heads"]
    split = right.reshape(*right.shape[:2], heads, -1)
    if node.layer["transpose"]:
        return np.einsum("nihk,njhk->nhij", left.reshape(*left.shape[:2], heads, -1), split)
    return np.einsum("nhik,nkhj->nihj", left, split).reshape(-1, *node.output)


def _reshape(node: Node, sources: _Sources, out: Precision, values: Weights) -> Steps:
    return sources[0][0].reshape(-1, *node.output)


def _activation(node: Node, sources: _Sources, out: Precision, values: Weights) -> Steps:
    ((x, grid),) = sources
    if isinstance(out, Binary):
        return np.where(x < 0, -1, 1)
    if ACTIVATIONS[node.layer["fn"]].table:
        return steps(table(node.layer["fn"], grid, out), out.fractional)[x % 2**grid.bits]
    return _rounded(x, grid.fractional - out.fractional, out)


def _rounded(x: Steps, dropped: int, out: Precision) -> Steps:
    """Drop fractional bits, half to even, and saturate."""
    low, high = (round(np.ldexp(bound, out.fractional)) for bound in (out.minimum, out.maximum))
    if dropped <= 0:
        near = np.clip(x, (low >> -dropped) - 1, (high >> -dropped) + 1)  # so that the shift does not overflow
        return np.clip(near << -dropped, low, high)
    dropped = min(dropped, 62)
    floor = x >> dropped
    rest, half = x - (floor << dropped), 1 << (dropped - 1)
    return np.clip(floor + ((rest > half) | ((rest == half) & (floor & 1 == 1))), low, high)


def _softmax(node: Node, sources: _Sources, out: Precision, values: Weights) -> Steps:
    ((x, grid),) = sources
    return _normalised(x, SoftmaxTables(grid, x.shape[-1], out))


def _normalised(x: Steps, tables: SoftmaxTables, counts: Any = True) -> Steps:
    entry, index, out = tables.entry, tables.index, tables.outputs
    difference = np.where(counts, x, np.iinfo(np.int64).min // 4).max(axis=-1, keepdims=True) - x
    exponentials = np.where(counts, steps(tables.exponentials, entry.fractional)[np.where(counts, difference, 0)], 0)
    total = exponentials.sum(axis=-1, keepdims=True)
    dropped = entry.fractional - index.fractional
    nearest = (total + (1 << dropped >> 1)) >> dropped if dropped >= 0 else total << -dropped
    factor = steps(tables.reciprocals, entry.fractional)[np.minimum(nearest, 2**index.bits - 1)]
    return _rounded(exponentials * factor, 2 * entry.fractional - out.fractional, out)


def _mask(node: Node, sources: _Sources, out: Precision, values: Weights) -> Steps:
    return (sources[0][0] != 0).any(axis=-1, keepdims=True).astype(np.int64)


def _masked_mean(node: Node, sources: _Sources, out: Precision, values: Weights) -> Steps:
    (x, _), (mask, _) = sources
    assert node.layer.weight is not None
    table = [0, *(steps(reciprocal(n, node.layer.weight), node.layer.weight.fractional) for n in range(1, x.shape[1] + 1))]
    return (x * mask).sum(axis=1) * np.array(table)[mask.sum(axis=1)]


def _masked_softmax(node: Node, sources: _Sources, out: Precision, values: Weights) -> Steps:
    (x, grid), (mask, _) = sources
    counts = mask.reshape(len(x), *[1] * (x.ndim - 2), -1) == 1
    return _normalised(x, SoftmaxTables(grid, x.shape[-1], out), counts)


def _layer_norm(node: Node, sources: _Sources, out: Precision, values: Weights) -> Steps:
    """Through deviations and their squares, in Python's whole numbers: other ways than those of the layer."""
    ((x, grid),) = sources
    layer = node.layer
    assert layer.weight is not None
    assert layer.bias is not None
    index, root = Precision.parse(layer["spread"]), Precision.parse(layer["root"])
    groups = x.reshape(len(x), -1, x[0].size if layer["axes"] == "all" else x.shape[-1]).astype(object)
    size = groups.shape[-1]
    deviations = size * groups - groups.sum(axis=-1, keepdims=True)
    spread = (deviations**2).sum(axis=-1, keepdims=True) // size
    dropped = 2 * grid.fractional - index.fractional
    assert dropped >= 0
    entries = np.minimum(spread // 2**dropped, 2**index.bits - 1).astype(np.int64)
    roots = LayerNormTables(grid, size, index, root).roots
    gain = steps(values[f"{node.name}/gamma"], layer.weight.fractional).reshape(-1, size)
    offset = steps(values[f"{node.name}/beta"], layer.bias.fractional).reshape(-1, size)
    product = deviations * steps(roots, root.fractional)[entries] * gain
    fractional = grid.fractional + root.fractional + layer.weight.fractional
    common = max(fractional, layer.bias.fractional)
    exact = product * 2 ** (common - fractional) + offset.astype(object) * 2 ** (common - layer.bias.fractional)
    assert abs(exact).max() < 2**53, "beyond float64"
    return _rounded(exact.astype(np.int64).reshape(x.shape), common - out.fractional, out)


RULES: Mapping[str, Callable[[Node, _Sources, Precision, Weights], Steps]] = {
    **dict.fromkeys(("dense", "conv1d", "conv2d"), _kernel),
    **dict.fromkeys(("flatten", "reshape"), _reshape),
    "scale": _scale,
    "pool": _pool,
    "add": _add,
    "concatenate": _concatenate,
    "layer_norm": _layer_norm,
    "lookup": _lookup,
    "quantizer": _quantizer,
    "tables": _tables,
    "matmul": _matmul,
    "activation": _activation,
    "softmax": _softmax,
    "mask": _mask,
    "masked_mean": _masked_mean,
    "masked_softmax": _masked_softmax,
}
