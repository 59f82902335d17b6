"""The files of an hls4ml project: read, checked, and rewritten so that the project can be moved."""

from __future__ import annotations

import re
from pathlib import Path

from kerasnac.core.store.files import write_text
from kerasnac.errors import ConversionError

#: Name of the project: of its top function and its source files.
PROJECT = "kerasnac"

#: hls4ml stamps every library with a random number; emulations run in processes of their own, which load one each.
STAMP = "emulation"

#: Where the types of a project are declared.
_DEFINES = "defines.h"

_TYPEDEF = re.compile(r"^typedef\s+(.+?)\s+(\w+);", re.MULTILINE)

#: What an array in a header of weights is initialised with, and the numbers in it.
_VALUES = re.compile(r"=\s*\{(.*)\}\s*;", re.DOTALL)
_NUMBER = re.compile(r"[-+]?[0-9]*\.?[0-9]+(?:e[-+]?[0-9]+)?", re.IGNORECASE)


def read_types(folder: Path) -> dict[str, str]:
    """Read every type of a project by its name, as its C++ has it now.

    Raises:
        ConversionError: If the file with the types is not there.
    """
    path = next(iter(sorted(folder.glob(f"**/firmware/{_DEFINES}"), key=lambda p: len(p.parts))), None)
    if path is None:
        raise ConversionError(f"{folder} is no project of hls4ml: firmware/{_DEFINES} is missing")
    # A damaged file has other types than the proven ones, which is what is to be found out.
    return {name: kind for kind, name in _TYPEDEF.findall(path.read_text(encoding="utf-8", errors="replace"))}


def check_headers(folder: Path) -> None:
    """Check that synthesis, which reads weights from headers, gets what the emulation reads from text files.

    Raises:
        ConversionError: Naming the header that holds other numbers.
    """
    for header in sorted(folder.glob("firmware/weights/*.h")):
        values = _VALUES.search(header.read_text(encoding="utf-8"))
        text = header.with_suffix(".txt")
        if not text.is_file():
            continue  # For Quartus and oneAPI all reads headers.
        if values is None or _numbers(values[1]) != _numbers(text.read_text(encoding="utf-8")):
            raise ConversionError(
                f"firmware/weights/{header.name} holds other numbers than {text.name}: synthesis would differ"
            )


def _numbers(text: str) -> list[float]:
    return [float(number) for number in _NUMBER.findall(text)]


def make_movable(folder: Path, stamp: str) -> None:
    """Replace absolute paths in a project, its fixed compiler by ``$CXX``, and its random stamp.

    Args:
        folder: The project.
        stamp: The random number in the name of its library.

    Raises:
        ConversionError: If the build script is not that of hls4ml 1.3.
    """
    build, bench = folder / "build_lib.sh", folder / f"{PROJECT}_test.cpp"
    changes = {
        build: {"CC=g++": 'CC="${CXX:-g++}"', "${BASEDIR}/firmware/weights": "firmware/weights"},
        # YAML quotes a stamp of digits alone.
        folder / "hls4ml_config.yml": {f"'{stamp}'": STAMP},
        folder / "CMakeLists.txt": {},
        folder / f"{PROJECT}_bridge.cpp": {},
        # The vendor's simulation would write the outputs of every layer to text files, for every sample.
        bench: {"bool trace_enabled = true;": "bool trace_enabled = false;"},
    }
    for path, replacements in changes.items():
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8")
        if path == build and "CC=g++" not in text:
            raise ConversionError(f"{build} is not the script that kerasnac knows ('CC=g++' is missing): install hls4ml 1.3")
        everywhere = {f"{folder}/firmware/weights": "firmware/weights", str(folder): ".", stamp: STAMP}
        for old, new in (replacements | everywhere).items():
            text = text.replace(old, new)
        write_text(path, text)
