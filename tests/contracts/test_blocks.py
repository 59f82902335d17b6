"""What every block promises. A new block enters :data:`EXAMPLES` and passes all of it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.exactness import KERNEL_KINDS
from kerasnac.core.network.layers import KINDS, LayerSpec, Scalar, Shape
from kerasnac.core.settings.yaml_files import dump, load_space
from kerasnac.core.space.blocks import (
    BLOCKS,
    Attention,
    Block,
    Choose,
    Conv,
    DeepSets,
    Mlp,
    Nothing,
    Picks,
    Pool,
    Residual,
    Window,
)
from kerasnac.core.space.search_space import SearchSpace

#: One example per tag, and an input shape that all of its picks fit.
EXAMPLES: Mapping[str, tuple[Block, Shape]] = {
    "mlp": (Mlp(widths=((4, 8), (3, 5), 2), depth=(1, 2, 3), norm=("none", "batch"), activation=("relu", "gelu")), (6,)),
    "conv": (
        Conv(
            convolutions=2, channels=(2, 3), kernel=(1, 3), padding=("valid", "same"), norm="batch", activation=("relu", "tanh")
        ),
        (6, 6, 1),
    ),
    "choose": (
        Choose(options=(Nothing(), Mlp(widths=((4, 8),)), Mlp(widths=((3, 5), 2), depth=(1, 2)), Conv(channels=(1, 2)))),
        (6, 6, 1),
    ),
    "none": (Nothing(), (6, 6, 1)),
    "attention": (Attention(width=(1, 2), scores=("softmax", "relu"), activation=("none", "gelu")), (3, 4, 2)),
    "deep_sets": (
        DeepSets(
            widths=((4, 8), 3),
            depth=(0, 1, 2),
            bottleneck=(2, 4),
            aggregate=("mean", "max"),
            norm=("none", "batch"),
            weight_bits=(4, 6),
            sparsity=(0.25, 0.5),
        ),
        (8, 3),
    ),
    "pool": (Pool(op=("max", "mean"), size=(0, 2, 3)), (6, 7, 2)),
    "window": (Window(start=(0, 2), length=(3, 4)), (6, 2)),
    "residual": (Residual(body=Conv(channels=2, padding="same", kernel=(1, 3)), activation=("relu", "tanh")), (4, 4, 2)),
}

every_block = pytest.mark.parametrize("tag", EXAMPLES)


def picks_of(block: Block) -> list[dict[str, Scalar]]:
    choices = block.choices()
    return [
        dict(zip((c.name for c in choices), values, strict=True)) for values in itertools.product(*(c.values for c in choices))
    ]


def layers(block: Block, picks: Mapping[str, Scalar], shape: Shape) -> tuple[LayerSpec, ...]:
    return tuple(block.layers(Picks(picks.__getitem__), shape))


def space(tag: str, repeats: int = 1) -> SearchSpace:
    block, shape = EXAMPLES[tag]
    firmware = "exact" if any(c.name.endswith("_bits") for c in block.choices()) else "any"
    blocks = (type(block).model_validate({**block.model_dump(), "repeat": repeats}),)
    return SearchSpace(input=shape, outputs=2, blocks=blocks, firmware=firmware)


def test_every_block_of_the_table_has_an_example() -> None:
    assert set(EXAMPLES) == set(BLOCKS)
    for tag, (block, _) in EXAMPLES.items():
        assert type(block) is BLOCKS[tag]
        assert block.block == tag


@every_block
def test_yaml_round_trip(tag: str, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(dump(space(tag)))
    assert load_space(path) == space(tag)
    assert f"block: {tag}" in path.read_text()


@every_block
def test_unknown_keys_are_refused(tag: str) -> None:
    block, _ = EXAMPLES[tag]
    with pytest.raises(ValidationError, match="unheard_of"):
        type(block).model_validate({**block.model_dump(), "unheard_of": 1})


@every_block
def test_blocks_are_immutable(tag: str) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        EXAMPLES[tag][0].repeat = 2


@every_block
def test_choices_have_unique_names_and_distinct_values(tag: str) -> None:
    choices = EXAMPLES[tag][0].choices()
    assert len({c.name for c in choices}) == len(choices)
    assert all(len(set(c.values)) == len(c.values) > 0 for c in choices)
    assert EXAMPLES[tag][0].choices() == choices


@every_block
def test_layers_are_a_function_of_picks_and_shape(tag: str) -> None:
    block, shape = EXAMPLES[tag]
    for picks in picks_of(block):
        first = layers(block, picks, shape)
        assert layers(block, picks, shape) == first
        assert all(layer.kind in KINDS for layer in first)


@every_block
def test_most_kernels_are_the_most_that_any_pick_has(tag: str) -> None:
    block, shape = EXAMPLES[tag]
    counts = [Counter(layer.kind for layer in layers(block, picks, shape)) for picks in picks_of(block)]
    most = block.most_kernels(len(shape))
    assert {kind: most.get(kind, 0) for kind in KERNEL_KINDS} == {
        kind: max(count[kind] for count in counts) for kind in KERNEL_KINDS
    }


@every_block
def test_layers_fit_each_other(tag: str) -> None:
    block, shape = EXAMPLES[tag]
    for picks in picks_of(block):
        assert all(size > 0 for node in Architecture(shape, layers(block, picks, shape)).nodes for size in node.output)


@every_block
def test_layers_are_float(tag: str) -> None:
    """Formats come with compression, not with the search."""
    block, shape = EXAMPLES[tag]
    for picks in picks_of(block):
        assert all(layer.weight is layer.bias is layer.activation is None for layer in layers(block, picks, shape))


@every_block
def test_only_declared_choices_are_read(tag: str) -> None:
    block, shape = EXAMPLES[tag]
    read: set[str] = set()
    for picks in picks_of(block):

        def look_up(name: str, picks: Mapping[str, Scalar] = picks) -> Scalar:
            read.add(name)
            return picks[name]

        tuple(block.layers(Picks(look_up), shape))
    assert read == {c.name for c in block.choices()}


@every_block
def test_combinations_count_the_different_active_picks(tag: str) -> None:
    block, shape = EXAMPLES[tag]
    seen = set()
    for picks in picks_of(block):
        read: dict[str, Scalar] = {}

        def look_up(name: str, picks: Mapping[str, Scalar] = picks, read: dict[str, Scalar] = read) -> Scalar:
            read[name] = picks[name]
            return picks[name]

        tuple(block.layers(Picks(look_up), shape))
        seen.add(tuple(sorted(read.items())))
    assert block.combinations() == len(seen)


@every_block
def test_repeats_multiply_the_space(tag: str) -> None:
    assert space(tag, repeats=2).size() == space(tag).size() ** 2


@every_block
@pytest.mark.parametrize("seed", range(2))
def test_candidates_build(tag: str, seed: int, keras: Any) -> None:
    from kerasnac.adapters.keras.build import build

    architecture = space(tag).decode(space(tag).sample(np.random.default_rng(seed))).architecture
    model = build(architecture)
    assert model.output_shape == (None, *architecture.output_shape) == (None, 2)
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == architecture.parameters
    assert np.isfinite(model(np.ones((3, *architecture.input_shape), np.float32)).numpy()).all()
    keras.backend.clear_session()
