"""What every run file that comes with kerasnac promises. A new file is tested without a change here."""

from __future__ import annotations

import os
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import yaml

from kerasnac import datasets
from kerasnac.adapters.keras.predict import activation_ranges, predict
from kerasnac.core.data.dataset import Split, Task
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.exactness import unsupported_reasons
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.quantization import quantize
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.network.weights import fold
from kerasnac.core.search.objectives import sources
from kerasnac.core.settings import RunSettings
from kerasnac.core.settings.yaml_files import dump, load_run, load_space, names
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.core.store.seeding import generator
from kerasnac.datasets import TOYS
from kerasnac.errors import ConfigError, ConversionError, Infeasible, SpaceError
from kerasnac.stages.compress.compression import check_compress
from kerasnac.stages.firmware.checks import check_firmware
from kerasnac.stages.firmware.delivery import make_firmware
from kerasnac.stages.firmware.result import Firmware
from kerasnac.stages.references.classical import check_classical
from kerasnac.stages.search.global_search import check_search
from kerasnac.stages.tune import check_tune
from tests.networks import trained_weights

SAMPLES = 60  # random genomes per space
LIVELY = 0.1  # A random network gives different outputs for at least such a fraction of its samples.
PART = "xcvu13p-flga2577-2-e"


@cache
def run_file(name: str) -> RunSettings:
    return load_run(name)


def space_of(name: str) -> SearchSpace:
    return run_file(name).space


EXACT = [name for name in names() if space_of(name).firmware == "exact"]
every_file = pytest.mark.parametrize("name", names())
every_exact_file = pytest.mark.parametrize("name", EXACT)

#: Spaces whose candidates are compiled in every run of the tests; those of the others in the slow ones.
QUICK = ("qubit",)


def samples(name: str, count: int = SAMPLES) -> list[tuple[int, ...]]:
    rng = generator(0, "samples of", name)
    return [space_of(name).sample(rng) for _ in range(count)]


def architectures(name: str, count: int = SAMPLES) -> list[Architecture]:
    """Those of some random genomes that are feasible."""
    made = []
    for genome in samples(name, count):
        with suppress(Infeasible):
            made.append(space_of(name).decode(genome).architecture)
    assert made
    return made


@every_file
def test_a_genome_decodes_or_says_which_block_misfits(name: str) -> None:
    decoded = 0
    for genome in samples(name):
        try:
            space_of(name).decode(genome)
        except Infeasible as reason:
            misfit = str(reason)
        else:
            misfit, decoded = "", decoded + 1
        assert re.fullmatch(r"|block \d+ \(\w+\): \w.+", misfit)
    assert decoded > SAMPLES / 4


@every_file
def test_the_networks_have_the_shapes_of_the_task(name: str) -> None:
    space = space_of(name)
    for architecture in architectures(name):
        assert architecture.input_shape == space.input
        assert architecture.output_shape == (space.outputs,)
        assert architecture.parameters > 0
        assert architecture.has_compression_params == space.has_compression_genes


@every_file
def test_a_candidate_survives_its_genome(name: str) -> None:
    space = space_of(name)
    for genome in samples(name, 12):
        try:
            candidate = space.decode(genome)
        except Infeasible:
            continue
        again = space.encode(candidate)
        assert space.decode(again) == candidate
        assert space.canonical(again) == again


@every_file
def test_canonical_genomes_stay_as_they_are(name: str) -> None:
    space = space_of(name)
    rng = np.random.default_rng(1)
    for _ in range(20):
        genome = tuple(int(gene) for gene in rng.integers(space.cardinalities))
        once = space.canonical(genome)
        assert space.canonical(once) == once
        assert space.active(once) == space.active(genome)


@every_file
def test_architectures_survive_json(name: str) -> None:
    for architecture in architectures(name, 20):
        assert Architecture.from_json(architecture.to_json()) == architecture


@every_file
@pytest.mark.parametrize("profile", [None, "quick"])
def test_the_file_survives_yaml(name: str, profile: str | None, tmp_path: Path) -> None:
    settings = load_run(name, profile=profile)
    path = tmp_path / "again.yaml"
    path.write_text(dump(settings))
    assert load_run(path) == settings
    path.write_text(dump(settings.space))
    assert load_space(path) == settings.space


@every_file
def test_there_is_something_to_search(name: str) -> None:
    space = space_of(name)
    different = {architecture.id for architecture in architectures(name)}
    assert space.size() >= len(different) > 10


@every_file
def test_the_quick_profile_is_the_same_search_but_smaller(name: str) -> None:
    full, quick = run_file(name), load_run(name, profile="quick")
    assert quick.space == full.space
    assert quick.search.evaluations * quick.search.training.epochs < full.search.evaluations * full.search.training.epochs
    assert quick.tune.trials * quick.tune.epochs < full.tune.trials * full.tune.epochs
    assert quick.search.evaluations <= full.search.evaluations
    assert quick.compress.iterations <= full.compress.iterations
    assert quick.firmware.samples <= full.firmware.samples


def other_profiles() -> list[tuple[str, str]]:
    found = ((name, yaml.safe_load(file_of(name).read_text(encoding="utf-8"))["profiles"]) for name in names())
    return [(name, profile) for name, profiles in found for profile in profiles if profile != "quick"]


def file_of(name: str) -> Path:
    return next(
        Path(str(entry)) for entry in resources.files("kerasnac.searchspaces").iterdir() if entry.name == f"{name}.yaml"
    )


@pytest.mark.parametrize(("name", "profile"), other_profiles())
def test_every_profile_can_begin(name: str, profile: str) -> None:
    """All that is checked before the first training, on a few simulated samples."""
    settings = load_run(name, profile=profile)
    options = {key: value for key, value in settings.dataset.options.items() if key not in ("n", "samples")}
    source = TOYS.get(settings.dataset.source, settings.dataset.source)
    data = datasets.load(source, **options, **{"samples" if source in TOYS.values() else "n": 600}).development
    baselines = [reference.architecture for reference in settings.tune.baselines]
    if "rule4ml" in (*sources(settings.search.objectives), *settings.search.estimators):
        pytest.importorskip("rule4ml")
    check_search(settings.space, data, settings.search)
    check_tune(data, settings.tune)
    check_firmware(settings.firmware, settings.space, baselines, data)
    check_compress(settings.compress, settings.space, baselines)
    check_classical(settings.references, data)


@every_exact_file
def test_nothing_in_an_exact_space_stands_in_the_way_of_firmware(name: str) -> None:
    assert [unsupported_reasons(architecture) for architecture in architectures(name)] == [[]] * len(architectures(name))


@pytest.mark.parametrize("name", [name for name in names() if name not in EXACT])
def test_spaces_that_are_not_exact_hold_what_cannot_be(name: str) -> None:
    assert any(unsupported_reasons(architecture) for architecture in architectures(name))


def line_of(path: Path, text: str) -> int:
    return next(i for i, line in enumerate(path.read_text().splitlines(), 1) if text in line)


@pytest.mark.parametrize("name", [name for name in EXACT if name.endswith("_bits")])
def test_widths_without_exact_firmware_are_refused_with_their_place(name: str, tmp_path: Path) -> None:
    path = tmp_path / "bits.yaml"
    path.write_text(dump(run_file(name)).replace("firmware: exact", "firmware: any", 1))
    with pytest.raises(ConfigError, match="firmware: exact") as caught:
        load_run(path)
    assert f"{path}:{line_of(path, 'space:')}: space: " in str(caught.value)


def test_a_candidate_of_one_space_is_not_in_another() -> None:
    with pytest.raises(SpaceError):
        space_of("digits").encode(architectures("bragg_exact")[0])


@dataclass(frozen=True)
class Case:
    """A quantized candidate with samples for it, which give so many different outputs."""

    trained: Trained
    split: Split
    bits: tuple[int, int]
    different: int

    def convert(self, folder: Path) -> Firmware:
        task = Task("classification", self.trained.architecture.output_shape[0])
        return make_firmware(self.trained, self.split, task, folder=folder, part=PART, exact=False)


def random_case(name: str, seed: int, count: int) -> Case:
    """A random candidate of a space whose formats fit most of its samples, the rest saturates.

    Weights are drawn again, ten times at most, where the outputs hardly depend on the inputs: constants prove nothing.
    """
    rng = generator(seed, "random case of", name)
    space = space_of(name)
    architecture = space.decode(space.sample_feasible(rng)).architecture
    for _ in range(10):
        bits = (int(rng.integers(2, 11)), int(rng.integers(2, 11)))
        grid = Precision(int(rng.integers(6, 13)), int(rng.integers(1, 4)))
        x = grid.quantize(rng.normal(0, grid.maximum / 3, (count, *architecture.input_shape))).astype(np.float32)
        folded, weights = fold(architecture, trained_weights(architecture, rng))
        observed = activation_ranges(folded, weights, x[:200], clip_quantile=1e-2)
        quantized = quantize(folded, weights, observed, input_grid=grid, weight_bits=bits[0], activation_bits=bits[1])
        different = len(np.unique(predict(quantized, weights, x), axis=0))
        if different > LIVELY * count:
            break
    split = Split(x, rng.integers(0, space.outputs, count))
    return Case(Trained(f"{name}_{seed}", quantized, weights, Training(), {}, seed), split, bits, different)


def without_widths(architecture: Architecture) -> Architecture:
    layers = (
        replace(layer, params=tuple((name, value) for name, value in layer.params if not name.endswith("_bits")))
        for layer in architecture.layers
    )
    return replace(architecture, layers=tuple(layers))


def has_softmax(architecture: Architecture) -> bool:
    return any(layer.kind == "softmax" for layer in architecture.layers)


def shortest(name: str) -> list[Architecture]:
    """Candidates that can be converted, the one of the fewest layers with a softmax and the one without."""
    convertible = [
        without_widths(architecture) for architecture in architectures(name) if not unsupported_reasons(architecture)
    ]
    ordered = sorted(convertible, key=lambda architecture: len(architecture.layers))
    return list({has_softmax(architecture): architecture for architecture in reversed(ordered)}.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in names() if not name.startswith("jets_tables")])  # Their grid has fewer bits.
def test_sixteen_bits_change_little(name: str) -> None:
    """The outputs of the float network to 0.2 percent of their range; the tables of a softmax are off by a percent."""
    rng = np.random.default_rng(0)
    grid = Precision(14, 3)
    for architecture in shortest(name):
        folded, weights = fold(architecture, trained_weights(architecture, rng))
        x = grid.quantize(rng.normal(size=(100, *architecture.input_shape))).astype(np.float32)
        observed = activation_ranges(folded, weights, x, clip_quantile=0)
        quantized = quantize(folded, weights, observed, input_grid=grid, weight_bits=16, activation_bits=16)
        real = predict(folded, weights, x)
        difference = np.abs(predict(quantized, weights, x) - real).max()
        assert 0 < difference < (0.02 if has_softmax(architecture) else 0.002) * np.ptp(real), architecture


def from_environment(name: str, default: int) -> int:
    return int(os.environ.get(name, default))


#: Exact space -> seed of a small candidate that is not refused, and a kind of layer that is in it.
SMALL = {
    "bragg_bits": (58, "conv2d"),
    "bragg_exact": (75, "softmax"),
    "digits": (3, "conv2d"),
    "digits_bits": (106, "softmax"),
    "jets_mlp": (106, "dense"),
    "jets_mlp_bits": (57, "dense"),
    "jets_mlp_learned": (11, "dense"),
    "jets_mlp_luts": (11, "dense"),
    "jets_mlp_snac": (106, "dense"),
    "jets_tables": (0, "tables"),
    "jets_tables_learned": (0, "tables"),
    "jets_transformer": (91, "softmax"),
    "qubit": (7, "window"),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in EXACT])
def test_a_small_candidate_of_every_exact_space_is_exact(name: str, tmp_path: Path) -> None:
    seed, kind = SMALL.get(name, (0, "dense"))
    case = random_case(name, seed, 200)
    assert kind in {layer.kind for layer in case.trained.architecture.layers}
    firmware = case.convert(tmp_path / "firmware")
    assert firmware.bit_exact, firmware.report()
    assert firmware.outputs == 200 * space_of(name).outputs
    assert case.different > LIVELY * 200


#: What may become of a candidate; one with hardly more than a constant output is exact, but proves little.
VERDICTS = ("exact", "constant", "refused", "mismatch")


@pytest.mark.slow
def test_random_candidates_of_every_exact_space_are_exact_or_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``KERASNAC_CANDIDATES=8`` sets how many per space, ``KERASNAC_CANDIDATES_SEED`` the first seed."""
    count, first = from_environment("KERASNAC_CANDIDATES", 8), from_environment("KERASNAC_CANDIDATES_SEED", 0)
    rows: list[str] = []
    wrong: list[str] = []
    for name in EXACT:
        verdicts: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        for seed in range(first, first + count):
            case = random_case(name, seed, 500)
            head = f"{name} seed {seed} w{case.bits[0]} a{case.bits[1]} [{case.trained.architecture}]"
            try:
                firmware = case.convert(tmp_path / f"{name}_{seed}")
            except ConversionError as error:
                verdict, line = "refused", f"{head}\n    REFUSED {error}"
                reasons[re.sub(r"<.*?>|(?<=[ _])[\d.]+", "#", str(error).split(";")[0])] += 1
                if "float64" not in str(error):
                    wrong.append(line)
            else:
                equal = "exact" if case.different > LIVELY * len(case.split) else "constant"
                verdict = equal if firmware.bit_exact else "mismatch"
                compiled = f"compiled in {firmware.seconds['compile']:.1f} s"
                line = f"{head}\n    {firmware.samples} samples, {case.different} different, {firmware.verdict}, {compiled}"
                if not firmware.bit_exact:
                    wrong.append(line)
            verdicts[verdict] += 1
            with capsys.disabled():
                print(line, flush=True)
        why = "; ".join(f"{number}x {reason}" for reason, number in reasons.items()) or "-"
        counts = "".join(f"{verdicts[verdict]:>10}" for verdict in VERDICTS)
        rows.append(f"{name:15}{count:>8}{counts}  {why}")
    with capsys.disabled():
        head = "".join(f"{verdict:>10}" for verdict in VERDICTS)
        print(f"\n{'space':15}{'models':>8}{head}  reasons", *rows, sep="\n")
    assert not wrong, "\n".join(wrong)
