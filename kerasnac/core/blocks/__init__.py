"""The blocks that a search space is made of."""

from kerasnac.core.blocks.attention import Attention
from kerasnac.core.blocks.base import Block, Choice, Picks
from kerasnac.core.blocks.choose import BLOCKS, AnyBlock, Choose, Nothing, Residual
from kerasnac.core.blocks.conv import Conv, Pool, Window
from kerasnac.core.blocks.mlp import DeepSets, Mlp

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
