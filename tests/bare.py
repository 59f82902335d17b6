"""Run a command as on a machine without the optional programs and packages.

    python tests/bare.py --without verilator,yosys,torch -- python -m pytest

Programs are hidden from the path, packages from the import system and from the list of installed distributions, in all
processes that the command starts. What the names stand for need not be installed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

#: Imported by every Python that starts with its folder on PYTHONPATH.
SITECUSTOMIZE = '''
import re
import sys
from importlib.machinery import PathFinder
from importlib.metadata import Distribution

HIDDEN = {hidden!r}


class Rest(PathFinder):
    """Finds all packages but the hidden ones."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        return None if fullname.partition(".")[0] in HIDDEN else PathFinder.find_spec(fullname, path, target)


def discover(cls, all_of_them=Distribution.discover.__func__, **options):
    # Here and not in the finder: the package importlib_metadata, which Dask imports, brings a finder of its own.
    return (d for d in all_of_them(cls, **options) if re.sub(r"[-.]+", "_", d.metadata["Name"].lower()) not in HIDDEN)


Distribution.discover = classmethod(discover)
sys.meta_path[:] = [Rest if finder is PathFinder else finder for finder in sys.meta_path]
'''

#: What must hold before the command starts: a check that hides nothing would prove nothing.
PROOF = """
import importlib.util, shutil, sys
found = [name for name in sys.argv[1:] if shutil.which(name) or importlib.util.find_spec(name)]
sys.exit(f"not hidden: {', '.join(found)}" if found else 0)
"""


def hide(names: Collection[str], folder: Path) -> dict[str, str]:
    """Return an environment in which programs and packages are not found.

    Folders of the path that hold one of the programs are replaced by folders of links to all others.

    Args:
        names: Programs and packages, as they are called and imported.
        folder: An empty folder, which must stay as long as the environment is used.
    """
    path = []
    for number, place in enumerate(filter(None, os.environ["PATH"].split(os.pathsep))):
        if not any(Path(place, name).exists() for name in names):
            path.append(place)
            continue
        links = folder / f"bin{number}"
        links.mkdir()
        for program in Path(place).iterdir():
            if program.name not in names:
                (links / program.name).symlink_to(program)
        path.append(str(links))
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE.format(hidden=sorted(names)))
    packages = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PATH": os.pathsep.join(path), "PYTHONPATH": packages}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--without", required=True, help="programs and packages, with commas between them")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    names = arguments.without.split(",")
    with tempfile.TemporaryDirectory(prefix="bare-") as folder:
        environment = hide(names, Path(folder))
        if subprocess.run([sys.executable, "-c", PROOF, *names], env=environment).returncode != 0:
            return 2
        program = shutil.which(arguments.command[0], path=environment["PATH"]) or arguments.command[0]
        return subprocess.run([program, *arguments.command[1:]], env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
