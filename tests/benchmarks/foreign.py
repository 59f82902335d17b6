"""Models of others, as people post them: which have exact firmware, and why the others have not.

python tests/benchmarks/foreign.py            # reads all, and compares them with the models themselves
python tests/benchmarks/foreign.py --firmware # converts, compiles and compares them, too: some 20 minutes
python tests/benchmarks/foreign.py 463 resnet # those whose names hold one of the words
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2]))

import kerasnac as kn
from kerasnac.adapters.keras.foreign.model import read_model
from kerasnac.errors import KerasnacError
from tests.foreign_models import MODELS, built


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--firmware", action="store_true")
    arguments = parser.parse_args()
    table = Table("model", "layers", "result", "seconds")
    for name in MODELS:
        if arguments.words and not any(word in name for word in arguments.words):
            continue
        theirs, x = built(name)
        start = perf_counter()
        try:
            found = read_model(theirs, samples=x)
            found.check(found.on_grid(x))
            result = "equal to the model" if found.architecture.quantized else "float: to be compressed"
            if arguments.firmware and found.architecture.quantized:
                with tempfile.TemporaryDirectory() as folder:
                    made = kn.make_firmware(found, x, folder=Path(folder) / "fw", part="zcu102")
                assert made.original is not None
                graph = made.adder_graph.reason or f"{made.adder_graph.costs['adder_luts']:,.0f} LUT"
                result = f"{made.verdict}; the model itself: {made.original.comparison.verdict}; adder graph: {graph[:60]}"
        except KerasnacError as error:
            result = f"refused: {error}"
        table.add_row(name, str(len(getattr(theirs, "layers", []))), result, f"{perf_counter() - start:.1f}")
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
