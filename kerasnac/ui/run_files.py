"""Run files that are written for data: with comments, and a space that fits their shape."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kerasnac.core.data.dataset import Dataset
from kerasnac.datasets.recognise import Recognised

_TEMPLATE = """\
# Written by `kerasnac init` for {path}.
{told}
# The samples: {described}.

name: {name}
description: {description}

# The networks to choose from: every key with a list of values is a gene. `kerasnac spaces {file}` counts them.
space:
  input: {shape}
  outputs: {outputs}
  firmware: exact        # only what becomes bit-exact firmware
  blocks:
{blocks}

# Options of the dataset; with them, its grid is {grid}, on which all samples are.
dataset: {dataset}

search:
  objectives: [metric, bops]   # {metric}, and bit operations; parameters and estimates of LUTs or cycles can be, too
  population: 20
  evaluations: 200
  training: {{epochs: 10, batch_size: {batch}}}

# Bayesian optimisation of the training of a few points of the front.
tune: {{select: [knee, best], trials: 15, epochs: 40, patience: 8}}

# Quantization-aware training with pruning: one curve per width.
compress: {{bits: [8, 6, 4], iterations: 8, epochs: 10}}

# Of each tuned network, what becomes an hls4ml project; `part` is a board or a part number.
firmware: {{select: [within 2%], part: zcu102, samples: 2000}}

profiles:
  quick:                 # to see that all works, in minutes: kerasnac run {file} --profile quick --out runs/quick
    search: {{population: 8, evaluations: 16, training: {{epochs: 3}}}}
    tune: {{select: [knee], trials: 3, epochs: 5}}
    compress: {{bits: [6], iterations: 2, epochs: 3}}
    firmware: {{samples: 500}}
"""

#: Blocks for flat samples, by the number of features: up to these, with these widths.
_FLAT = """\
    - block: mlp
      depth: [1, 2, 3]
      widths: [{first}, {second}, {third}]
      activation: [relu, tanh]
      norm: [batch, none]
"""

_SETS = """\
    # Every element of a sample, as a particle of a jet, passes the same layers; then all are pooled.
    - block: deep_sets
      depth: [1, 2]
      widths: [[8, 16, 32], [8, 16, 32]]
      bottleneck: [8, 16, 32]
      aggregate: [mean, max]
    - {block: mlp, depth: [1, 2], widths: [[16, 32, 64], [16, 32]], activation: [relu, tanh]}
"""

_TRACES = """\
    # The part of the trace that is read is a gene.
    - {{block: window, start: {starts}, length: {lengths}}}
    - {{block: mlp, depth: [1, 2], widths: [[4, 8, 16, 32], [4, 8, 16]], activation: [relu, tanh]}}
"""

_IMAGES = """\
    - {block: conv, channels: [2, 4, 8], kernel: [1, 3], norm: [batch, none]}
    - block: choose
      repeat: 2
      options:
        - {block: conv, channels: [2, 4, 8], kernel: [1, 3], norm: [batch, none], activation: [relu, gelu]}
        - {block: attention, width: [2, 4]}
        - {block: none}
    - {block: mlp, depth: [1, 2], widths: [[16, 32], [16, 32]], activation: [relu, tanh]}
"""


def run_file(found: Recognised, path: Path, file: Path) -> str:
    """Return the text of a run file for data.

    Args:
        found: What they were taken for.
        path: The data, as the user named them.
        file: The run file that is to be written, for its comments.
    """
    data = found.data
    samples = len(data.development.train)
    task = data.task
    told = f"# Taken for {source_text(found)}" + "".join(f"; {reason}" for reason in found.reasons) + "."
    classes = f": {', '.join(task.names)}" if task.names else ""
    return _TEMPLATE.format(
        path=path,
        told=told,
        described=f"{data.describe().split(';')[0]}{classes}",
        name=json.dumps(file.stem),
        description=json.dumps(f"{task.kind} of {data.name}"),
        file=file,
        shape=list(data.input_shape),
        outputs=task.outputs,
        blocks=blocks_for(data).rstrip("\n"),
        grid=data.input_grid,
        dataset=_flow({"source": found.source, **found.options}),
        metric=f"{task.metric}{f' in {task.metric_unit}' if task.metric_unit else ''}",
        batch=next((size for size in (256, 128, 64, 32) if samples >= 100 * size), 16),
    )


def source_text(found: Recognised) -> str:
    """Return what data were taken for, in a few words."""
    return f"the dataset {found.source}"


def blocks_for(data: Dataset) -> str:
    """Return blocks of a space for the shape of the samples, as YAML."""
    shape = data.input_shape
    if len(shape) == 3:
        return _IMAGES
    if len(shape) == 2 and shape[0] > 128:
        length = shape[0]
        starts, lengths = [0, length // 8, length // 4], [length // 8, length // 4, length // 2, length - length // 4]
        return _TRACES.format(starts=starts, lengths=lengths)
    if len(shape) == 2:
        return _SETS
    if data.task.kind == "anomaly":
        narrow = [max(1, shape[0] // 8), max(2, shape[0] // 4)]
        first, second, third = [max(4, shape[0] // 2), shape[0]], narrow, [max(4, shape[0] // 2), shape[0]]
    else:
        first, second, third = [16, 32, 64], [16, 32], [8, 16, 32]
    return _FLAT.format(first=first, second=second, third=third)


def _flow(values: Mapping[str, Any]) -> str:
    """Return a mapping as YAML in one line."""
    return "{" + ", ".join(f"{key}: {json.dumps(value)}" for key, value in values.items()) + "}"
