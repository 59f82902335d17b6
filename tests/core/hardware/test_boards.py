from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from kerasnac.core.hardware.boards import BOARDS, RESOURCES, Board, board
from kerasnac.core.settings import FirmwareSettings
from kerasnac.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("vu13p", "vu13p"),
        ("VU13P", "vu13p"),
        ("xcvu13p", "vu13p"),
        ("xcvu13p-flga2577-2-e", "vu13p"),
        ("XCVU13P-FHGA2104-1-I", "vu13p"),  # another package of the same device
        (FirmwareSettings().part, "vu13p"),
        ("u250", "alveo-u250"),
        ("xcu250-figd2104-2L-e", "alveo-u250"),
        (" zcu102 ", "zcu102"),
        ("xczu9eg-ffvb1156-2-e", "zcu102"),
        ("xczu49dr-ffvf1760-2-e", "zcu216"),
        ("xc7z020clg400-1", "pynq-z2"),
        ("xc7z020clg484-1", "pynq-z2"),
        ("xck26", "kv260"),
    ],
)
def test_a_board_is_found_by_name_alias_and_part(text: str, name: str) -> None:
    assert board(text) is BOARDS[name]


@pytest.mark.parametrize("text", ["", "xcu25", "xcu2500-abc", "xcvu13", "xczu9", "xc7z0201", "7", "zcu1"])
def test_part_of_a_device_name_is_not_the_device(text: str) -> None:
    with pytest.raises(ConfigError):
        board(text)


def test_an_unknown_board_lists_all_and_suggests_the_closest() -> None:
    with pytest.raises(ConfigError, match=re.escape("'vu13' (did you mean vu13p?)")) as error:
        board("vu13")
    assert all(name in str(error.value) for name in BOARDS)


def test_every_board_is_found_by_its_own_part() -> None:
    assert [board(entry.part) for entry in BOARDS.values()] == list(BOARDS.values())


def test_percentages() -> None:
    small = Board("small", "xc7z020", lut=1000, ff=2000, dsp=0, bram=8, source="")
    assert small.percent("lut", 10) == 1
    assert small.percent("bram", 12) == 150


def test_block_rams_are_counted_in_18_kb() -> None:
    """The XCVU13P has 94.5 Mb of block RAM, the XC7Z020 4.9 Mb (AMD DS890 and DS190)."""
    assert board("vu13p").bram * 18 / 1024 == pytest.approx(94.5)
    assert board("pynq-z2").bram * 18 / 1024 == pytest.approx(4.9, abs=0.05)


def test_the_table_agrees_with_that_of_rule4ml() -> None:
    """Two tables that were made apart; read as a file, since importing rule4ml takes seconds."""
    package = find_spec("rule4ml")
    if package is None or not package.submodule_search_locations:
        pytest.skip("rule4ml is not installed")
    theirs = json.loads((Path(package.submodule_search_locations[0]) / "parsers" / "supported_boards.json").read_text())
    ours = {name: {"part": b.part} | {f"max_{r}": getattr(b, r) for r in RESOURCES} for name, b in BOARDS.items()}
    assert {name: {key: entry[key] for key in ours[name]} for name, entry in theirs.items()} == {n: ours[n] for n in theirs}
