"""FPGA boards and parts with their resources: the denominators of all percentages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from kerasnac.errors import ConfigError

Resource = Literal["lut", "ff", "dsp", "bram"]

#: Kinds of resources, as attributes of a :class:`Board`.
RESOURCES: tuple[Resource, ...] = ("lut", "ff", "dsp", "bram")


@dataclass(frozen=True)
class Board:
    """Board, or bare part, and the resources of its programmable logic.

    Attributes:
        name: Name in settings.
        part: Part number of the FPGA.
        lut: Look-up tables.
        ff: Flip-flops.
        dsp: DSP slices.
        bram: Block RAMs of 18 Kb, the ``BRAM_18K`` of HLS reports; data sheets count blocks of 36 Kb, which are two each.
        source: Data sheet.
    """

    name: str
    part: str
    lut: int
    ff: int
    dsp: int
    bram: int
    source: str

    def percent(self, resource: Resource, used: float) -> float:
        """Return the share of a resource that is used, in percent; more than 100 if it does not fit."""
        return float(100 * used / getattr(self, resource))


_VIRTEX = "AMD DS890, UltraScale Architecture and Product Data Sheet: Overview"
_MPSOC = "AMD DS891, Zynq UltraScale+ MPSoC Data Sheet: Overview"
_RFSOC = "AMD DS889, Zynq UltraScale+ RFSoC Data Sheet: Overview"
_ALVEO = "AMD DS962, Alveo U200 and U250 Data Center Accelerator Cards Data Sheet"

#: The boards by name.
BOARDS: Mapping[str, Board] = {
    entry.name: entry
    for entry in (
        Board("vu13p", "xcvu13p-flga2577-2-e", 1_728_000, 3_456_000, 12_288, 2 * 2_688, _VIRTEX),
        Board("vu9p", "xcvu9p-flga2104-2L-e", 1_182_240, 2_364_480, 6_840, 2 * 2_160, _VIRTEX),
        Board("alveo-u250", "xcu250-figd2104-2L-e", 1_728_000, 3_456_000, 12_288, 2 * 2_688, _ALVEO),
        Board("alveo-u200", "xcu200-fsgd2104-2-e", 1_182_240, 2_364_480, 6_840, 2 * 2_160, _ALVEO),
        Board("zcu216", "xczu49dr-ffvf1760-2-e", 425_280, 850_560, 4_272, 2 * 1_080, _RFSOC),
        Board("zcu102", "xczu9eg-ffvb1156-2-e", 274_080, 548_160, 2_520, 2 * 912, _MPSOC),
        Board("zcu104", "xczu7ev-ffvc1156-2-e", 230_400, 460_800, 1_728, 2 * 312, _MPSOC),
        Board("kv260", "xck26-sfvc784-2LV-c", 117_120, 234_240, 1_248, 2 * 144, "AMD DS987, Kria K26 SOM Data Sheet"),
        Board("pynq-z2", "xc7z020clg400-1", 53_200, 106_400, 220, 2 * 140, "AMD DS190, Zynq-7000 SoC Data Sheet: Overview"),
    )
}

#: The board that percentages are of where none is named.
DEFAULT_BOARD = "vu13p"

_ALIASES: Mapping[str, str] = {"u250": "alveo-u250", "u200": "alveo-u200", "pynqz2": "pynq-z2"}

#: A part number begins with the device: package, speed grade and temperature range do not change the resources.
_DEVICE = re.compile(r"xc(7z\d+|[a-z]+\d+[a-z]*)")


def board(name_or_part: str) -> Board:
    """Return a board by name (``zcu102``), alias (``u250``), part number or the device that it begins with (``xcvu13p``).

    Upper and lower case are the same.

    Raises:
        ConfigError: If there is no such board; lists those there are.
    """
    text = name_or_part.strip().lower()
    name = _ALIASES.get(text, text)
    if name in BOARDS:
        return BOARDS[name]
    device = _device(text)
    for entry in BOARDS.values():
        if device and device == _device(entry.part):
            return entry
    parts = (entry.part for entry in BOARDS.values())
    close = get_close_matches(text, [*BOARDS, *_ALIASES, *parts], n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    known = ", ".join(f"{entry.name} ({entry.part})" for entry in BOARDS.values())
    raise ConfigError(f"unknown board or part {name_or_part!r}{hint}; known are {known}")


def _device(part: str) -> str:
    match = _DEVICE.match(part)
    return match[0] if match else ""
