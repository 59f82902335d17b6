"""Blocks of which a search space is made."""

from kerasnac.core.space.blocks.attention import Attention
from kerasnac.core.space.blocks.base import Block, Choice, Picks, Quantizable, Values
from kerasnac.core.space.blocks.choose import BLOCK, BLOCKS, AnyBlock, Choose, Nothing, Residual, foreign_blocks
from kerasnac.core.space.blocks.conv import Conv, Pool, Window
from kerasnac.core.space.blocks.mlp import DeepSets, Mlp
from kerasnac.core.space.blocks.tables import Tables
from kerasnac.core.space.blocks.transformer import Transformer

__all__ = [
    "BLOCK",
    "BLOCKS",
    "AnyBlock",
    "Attention",
    "Block",
    "Choice",
    "Choose",
    "Conv",
    "DeepSets",
    "Mlp",
    "Nothing",
    "Picks",
    "Pool",
    "Quantizable",
    "Residual",
    "Tables",
    "Transformer",
    "Values",
    "Window",
    "foreign_blocks",
]
