"""What every block promises. A new block enters :data:`EXAMPLES` and passes all of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from kerasnac.core.network.exactness import KERNEL_KINDS
from kerasnac.core.network.kinds import Shape
from kerasnac.core.settings.yaml_files import dump
from kerasnac.core.space.blocks import (
    BLOCKS,
    Attention,
    Block,
    Choose,
    Conv,
    DeepSets,
    Mlp,
    Nothing,
    Pool,
    Residual,
    Tables,
    Transformer,
    Window,
)
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.testing import BlockContract, ExactBlockContract

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
    "attention": (
        Attention(width=(1, 2), scores=("softmax", "relu"), activation=("none", "gelu"), heads=(1, 2, 3), scaled=(False, True)),
        (3, 4, 2),
    ),
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
    "transformer": (
        Transformer(
            width=(4, 6),
            heads=(1, 2),
            norm=("none", "layer"),
            table_bits=(6, 8),
            head_width=(2, 3),
            scaled=(False, True),
            hidden=(5, 8),
            aggregate=("mean", "max"),
            weight_bits=(4, 6),
        ),
        (4, 3),
    ),
    "tables": (
        Tables(
            units=(3, 4), input_bits=(4, 5), reach=(2, 4), activation=("none", "relu"), weight_bits=(3, 4), sparsity=(0.3, 0.5)
        ),
        (6,),
    ),
    "pool": (Pool(op=("max", "mean"), size=(0, 2, 3)), (6, 7, 2)),
    "window": (Window(start=(0, 2), length=(3, 4)), (6, 2)),
    "residual": (Residual(body=Conv(channels=2, padding="same", kernel=(1, 3)), activation=("relu", "tanh")), (4, 4, 2)),
}

every_block = pytest.mark.parametrize("tag", EXAMPLES)


def contract(tag: str) -> BlockContract:
    """The contract, with the example of a tag."""
    made = BlockContract()
    made.block, made.shape = EXAMPLES[tag]
    return made


def space(tag: str) -> SearchSpace:
    return contract(tag).space()


class TestContract(BlockContract):
    """What any block promises."""

    @pytest.fixture(autouse=True, params=EXAMPLES)
    def _example(self, request: pytest.FixtureRequest, keras: Any) -> Iterator[None]:
        self.block, self.shape = EXAMPLES[request.param]
        yield
        keras.backend.clear_session()


@pytest.mark.slow
@pytest.mark.usefixtures("keras")
@every_block
def test_firmware_is_bit_exact(tag: str, tmp_path: Path) -> None:
    made = ExactBlockContract()
    made.block, made.shape = EXAMPLES[tag]
    made.test_firmware_is_bit_exact(tmp_path)


def test_every_block_of_the_table_has_an_example() -> None:
    assert set(EXAMPLES) == set(BLOCKS)
    for tag, (block, _) in EXAMPLES.items():
        assert type(block) is BLOCKS[tag]
        assert block.block == tag


@every_block
def test_the_tag_is_in_the_file(tag: str) -> None:
    assert f"block: {tag}" in dump(space(tag))


@every_block
def test_most_kernels_are_the_most_that_any_pick_has(tag: str) -> None:
    of = contract(tag)
    counts = [Counter(layer.kind for layer in of.layers(picks)) for picks in of.picks()]
    most = of.block.most_kernels(len(of.shape))
    assert {kind: most.get(kind, 0) for kind in KERNEL_KINDS} == {
        kind: max(count[kind] for count in counts) for kind in KERNEL_KINDS
    }
