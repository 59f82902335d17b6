"""Blocks of which a search space is made."""

from kerasnac.core.space.blocks.attention import Attention
from kerasnac.core.space.blocks.base import Block, Choice, Picks
from kerasnac.core.space.blocks.choose import BLOCKS, AnyBlock, Choose, Nothing, Residual
from kerasnac.core.space.blocks.conv import Conv, Pool, Window
from kerasnac.core.space.blocks.mlp import DeepSets, Mlp

__all__ = [
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
    "Residual",
    "Window",
]
