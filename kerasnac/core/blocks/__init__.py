"""The blocks that a search space is made of."""

from kerasnac.core.blocks.base import Block, Choice, Picks
from kerasnac.core.blocks.choose import BLOCKS, AnyBlock, Choose, Nothing
from kerasnac.core.blocks.conv import Conv
from kerasnac.core.blocks.mlp import Mlp

__all__ = ["BLOCKS", "AnyBlock", "Block", "Choice", "Choose", "Conv", "Mlp", "Nothing", "Picks"]
