"""Types that all settings share: strict models, and rules that select."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from kerasnac.core.checks import Checked
from kerasnac.core.hardware.boards import board
from kerasnac.core.plugins import part_name
from kerasnac.core.search.selection import Selection


def board_name(text: str) -> str:
    """Return the usual name of a board, given one of its names."""
    return board(text).name


#: Name of a board, also given as an alias or a part number.
BoardName = Annotated[str, AfterValidator(board_name)]


#: Name of a part that may be of others, as :mod:`kerasnac.core.plugins` says.
PartName = Annotated[str, AfterValidator(part_name)]


def _selection_text(text: str) -> str:
    Selection.parse(text)
    return text


def _picks_one(text: str) -> str:
    if Selection.parse(text).rule == "front":
        raise ValueError("front picks more than one point")
    return text


#: Text of a selection rule, checked when it is read.
Rule = Annotated[str, AfterValidator(_selection_text)]

#: The same for a rule that picks one point.
SingleRule = Annotated[Rule, AfterValidator(_picks_one)]


class Settings(Checked):
    """Settings of a stage, or of a part of it."""
