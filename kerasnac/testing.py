"""Contracts that blocks, datasets, metrics and sources of costs keep, as classes for pytest: those of kerasnac and your own.

A contract is inherited, with an example of what it is about; pytest runs its tests::

    from kerasnac.testing import BlockContract

    class TestTwins(BlockContract):
        block = Twins(widths=(4, 8))
        shape = (6,)

Nothing here imports pytest.
"""

from __future__ import annotations

import itertools
import math
import pickle
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from kerasnac import datasets
from kerasnac.core.data.dataset import Development, Split, Task, make_dataset
from kerasnac.core.data.metrics import METRIC, Metric
from kerasnac.core.hardware.estimators import ESTIMATOR, CostModel, NamedEstimator
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.bops import costs
from kerasnac.core.network.exactness import KERNEL_KINDS
from kerasnac.core.network.kinds import KINDS, Shape
from kerasnac.core.network.layers import LayerSpec, Scalar
from kerasnac.core.network.precision import Precision
from kerasnac.core.network.quantization import quantize
from kerasnac.core.network.trained import Trained
from kerasnac.core.network.training import Training
from kerasnac.core.network.weights import fold
from kerasnac.core.plugins import name_of
from kerasnac.core.search.objectives import resolve
from kerasnac.core.settings.yaml_files import dump, load_space
from kerasnac.core.space.blocks import Block, Mlp, Picks
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.errors import ConfigError, Infeasible

#: Combinations of picks that an example may have: all are looked at.
MOST_PICKS = 20_000

#: Format of the inputs, bit widths, and number of the samples on which a firmware is compared.
INPUT_GRID, BITS, SAMPLES = Precision(8, 3), 6, 200

#: Devices are of no importance to the emulation.
_PART = "xcvu13p-flga2577-2-e"


class BlockContract:
    """The promises of a block, but for bit-exact firmware, which :class:`ExactBlockContract` has.

    Attributes:
        block: An example with at least two values for every choice.
        shape: Shape of an input that all of its picks fit.
    """

    block: Block
    shape: Shape

    #: True if networks without exact firmware do not count.
    exact: ClassVar[bool] = False

    def space(self, repeat: int = 1) -> SearchSpace:
        """Return a space of the block alone."""
        exact = self.exact or any(choice.name.endswith(("_bits", "sparsity")) for choice in self.block.choices())
        block = type(self.block).model_validate({**self.block.model_dump(), "repeat": repeat})
        return SearchSpace(input=self.shape, outputs=2, blocks=(block,), firmware="exact" if exact else "any")

    def picks(self) -> list[dict[str, Scalar]]:
        """Return all combinations of the values of the choices."""
        choices = self.block.choices()
        count = math.prod(len(choice.values) for choice in choices)
        assert count <= MOST_PICKS, f"the example has {count} combinations of values, more than {MOST_PICKS}: give it fewer"
        names = [choice.name for choice in choices]
        return [dict(zip(names, values, strict=True)) for values in itertools.product(*(choice.values for choice in choices))]

    def layers(self, picks: Mapping[str, Scalar]) -> tuple[LayerSpec, ...]:
        """Return the layers for some picks."""
        return tuple(self.block.layers(Picks(picks.__getitem__), self.shape))

    def read(self, picks: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Return those of some picks that the block reads."""
        read: dict[str, Scalar] = {}

        def look_up(name: str) -> Scalar:
            read[name] = picks[name]
            return picks[name]

        tuple(self.block.layers(Picks(look_up), self.shape))
        return read

    def candidates(self) -> list[Architecture]:
        """Return some random networks of the block, all different."""
        space, rng = self.space(), np.random.default_rng(0)
        found = (space.decode(space.sample_feasible(rng)).architecture for _ in range(2))
        return list({architecture.id: architecture for architecture in found}.values())

    def test_it_survives_yaml(self, tmp_path: Path) -> None:
        path = tmp_path / "space.yaml"
        path.write_text(dump(self.space()), encoding="utf-8")
        assert load_space(path) == self.space(), f"another block is read than was written:\n{path.read_text(encoding='utf-8')}"

    def test_unknown_keys_are_refused(self) -> None:
        values = {**self.block.model_dump(), "unheard_of": 1}
        _refused(lambda: type(self.block).model_validate(values), "unheard_of")

    def test_it_is_immutable(self) -> None:
        _refused(lambda: setattr(self.block, "repeat", 2), "frozen")

    def test_choices_have_unique_names_and_distinct_values(self) -> None:
        choices = self.block.choices()
        assert len({choice.name for choice in choices}) == len(choices), f"two choices of one name: {choices}"
        for choice in choices:
            assert len(set(choice.values)) == len(choice.values) > 0, f"no distinct values: {choice}"
        assert self.block.choices() == choices, "choices() differs from call to call"

    def test_layers_are_a_function_of_picks_and_shape(self) -> None:
        for picks in self.picks():
            first = self.layers(picks)
            assert self.layers(picks) == first, f"layers() differs from call to call for {picks}"
            assert all(layer.kind in KINDS for layer in first)

    def test_layers_are_float(self) -> None:
        """Formats come with compression, not with the search."""
        for layer in (layer for picks in self.picks() for layer in self.layers(picks)):
            assert layer.weight is layer.bias is layer.activation is None, f"{layer} has number formats"

    def test_layers_fit_each_other(self) -> None:
        for picks in self.picks():
            for node in Architecture(self.shape, self.layers(picks)).nodes:
                assert all(size > 0 for size in node.output), f"{node.name} gives the shape {node.output} for {picks}"

    def test_most_kernels_is_a_bound(self) -> None:
        most = self.block.most_kernels(len(self.shape))
        for picks in self.picks():
            count = Counter(layer.kind for layer in self.layers(picks))
            for kind in KERNEL_KINDS:
                assert count[kind] <= most.get(kind, 0), f"most_kernels() promises {most.get(kind, 0)} {kind} for {picks}"

    def test_only_declared_choices_are_read(self) -> None:
        read = {name for picks in self.picks() for name in self.read(picks)}
        declared = {choice.name for choice in self.block.choices()}
        assert read == declared, f"layers() reads {sorted(read)}, choices() declares {sorted(declared)}"

    def test_combinations_count_the_different_active_picks(self) -> None:
        active = {tuple(sorted(self.read(picks).items())) for picks in self.picks()}
        counted = self.block.combinations()
        assert len(active) == counted, f"combinations() is {counted}, and {len(active)} differ: override it"

    def test_repeats_multiply_the_space(self) -> None:
        assert self.space(repeat=2).size() == self.space().size() ** 2

    def test_candidates_survive_their_genomes(self) -> None:
        space, rng = self.space(), np.random.default_rng(1)
        for _ in range(5):
            candidate = space.decode(space.sample_feasible(rng))
            assert space.decode(space.encode(candidate)) == candidate

    def test_built_models_are_their_architectures(self) -> None:
        """Shapes, parameters and bit operations are those of the Keras model."""
        from kerasnac.adapters.keras.build import build

        for architecture in (candidate.plain for candidate in self.candidates()):
            model = build(architecture)
            assert model.output_shape == (None, *architecture.output_shape) == (None, 2)
            parameters = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
            assert parameters == architecture.parameters, f"{architecture}: {parameters} parameters in Keras"
            rows = costs(architecture, weight_bits=BITS, activation_bits=BITS)
            found = sum(row.bops for row in rows if not row.layer.startswith(("matmul", "layer_norm")))
            expected = sum(map(_keras_bops, model.layers))
            assert math.isclose(found, expected), f"{architecture}: {found} BOPs, its kernels in Keras have {expected}"
            outputs = model(np.ones((3, *architecture.input_shape), np.float32)).numpy()
            assert np.isfinite(outputs).all(), f"{architecture} gives {outputs}"


class ExactBlockContract(BlockContract):
    """The promises of a block whose networks can become firmware: C++ gives every bit that Keras gives. Takes a minute."""

    exact = True

    def test_firmware_is_bit_exact(self, tmp_path: Path) -> None:
        from kerasnac.stages.firmware.delivery import make_firmware

        for architecture in self.candidates():
            model, x = _quantized(architecture)
            labels = np.zeros(len(x), np.int64)
            made = make_firmware(model, Split(x, labels), Task("classification", 2), folder=tmp_path / model.name, part=_PART)
            assert made.bit_exact, made.report()


class DatasetContract:
    """The promises of a dataset function.

    Attributes:
        source: Its name, as a run file has it.
        options: Arguments with which it is quick.
    """

    source: str
    options: Mapping[str, Any] = {}

    def test_it_gives_the_same_data_each_time(self) -> None:
        first, second = (datasets.load(self.source, **self.options) for _ in range(2))
        assert first.development.fingerprint == second.development.fingerprint, "the samples differ: give generators a seed"
        assert np.array_equal(first.open_test().x, second.open_test().x), "the test samples differ: give generators a seed"

    def test_all_samples_are_on_the_input_grid(self) -> None:
        data = datasets.load(self.source, **self.options)
        for split in (data.development.train, data.development.validation, data.open_test()):
            assert len(split) > 0
            assert np.array_equal(data.input_grid.quantize(split.x), split.x), f"samples are not on the grid {data.input_grid}"

    def test_unknown_options_are_refused(self) -> None:
        _refused(lambda: datasets.load(self.source, **self.options, unheard_of=1), "unheard_of")


class MetricContract:
    """The promises of a metric.

    Attributes:
        metric: The metric, or its name.
        task: A task that it is for; a classification with three classes by default.
    """

    metric: Metric | str
    task: Task = Task("classification", 3)

    @property
    def _task(self) -> Task:
        return replace(self.task, metric=self.metric, metrics=())

    @property
    def _found(self) -> Metric:
        found: Metric = self._task.measured[0]
        return found

    def _samples(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return outputs and labels of random samples, as a split has them."""
        rng = np.random.default_rng(0)
        task = self._task
        x = rng.normal(size=(SAMPLES, 6 if task.classes else task.outputs))
        of_one = task.classes or task.made_of.trained is not None  # One label per sample.
        y = np.arange(SAMPLES) % task.outputs if of_one else rng.integers(0, 5, (SAMPLES, task.outputs))
        data = make_dataset(x, y, name="random", task=task, seed=0).development.validation
        return rng.normal(size=(len(data), task.outputs)).astype(np.float32), data.y

    def test_it_is_a_finite_number_for_finite_outputs(self) -> None:
        outputs, labels = self._samples()
        for scale in (0, 1, 1000):
            assert math.isfinite(self._task.score(scale * outputs, labels))

    def test_it_is_the_same_each_time_in_any_order(self) -> None:
        outputs, labels = self._samples()
        first = self._task.score(outputs, labels)
        assert self._task.score(outputs, labels) == first, "it differs from call to call"
        order = np.random.default_rng(1).permutation(len(labels))
        again = self._task.score(outputs[order], labels[order])
        assert math.isclose(again, first, rel_tol=1e-6, abs_tol=1e-6), f"it is {again}, and not {first}, in another order"

    def test_it_leaves_its_arguments_as_they_are(self) -> None:
        outputs, labels = self._task.seen(*self._samples())
        before = outputs.copy(), labels.copy()
        self._found.values(outputs, labels)
        assert np.array_equal(outputs, before[0]), "it changes the outputs that it is given"
        assert np.array_equal(labels, before[1]), "it changes the labels that it is given"

    def test_an_average_is_one_over_samples(self) -> None:
        if self._found.averaged:
            outputs, labels = self._task.seen(*self._samples())
            half = len(labels) // 2
            parts = [self._found.values(outputs[part], labels[part]) for part in (slice(half), slice(half, None))]
            whole = self._found.values(outputs, labels)
            assert np.allclose(np.concatenate(parts), whole), "the value of a sample depends on the others: leave out averaged"

    def test_it_can_be_an_objective(self) -> None:
        objectives, _ = resolve([self._found.name], {}, self._task, ())
        assert [(one.metric, one.sense) for one in objectives] == [(self._found.name, self._found.sense)]

    def test_workers_find_it_by_its_name(self) -> None:
        found = pickle.loads(pickle.dumps(self._task)).measured[0]
        assert found == self._found, f"{found.name} is another metric in a worker"
        if self._found.is_foreign:
            name = name_of(self._found.function)
            assert METRIC.foreign(name) is self._found.function, f"{name} is another function"


class CostModelContract:
    """The promises of a source of costs.

    Attributes:
        model: Its class.
        space: A space whose networks it knows; one of dense layers by default.
    """

    model: type[CostModel]
    space: SearchSpace = SearchSpace(input=(6,), outputs=3, blocks=(Mlp(widths=((4, 8, 16), (4, 8)), depth=(1, 2)),))

    @property
    def _estimator(self) -> NamedEstimator:
        return NamedEstimator(name_of(self.model))

    def _networks(self) -> list[Architecture]:
        rng, found = np.random.default_rng(0), []
        for _ in range(8):
            with suppress(Infeasible):
                found.append(self.space.decode(self.space.sample(rng)).architecture)
        assert found, "no network of the space is feasible"
        return found

    def _data(self) -> Development:
        x, y = np.random.default_rng(0).normal(size=(120, *self.space.input)), np.arange(120) % self.space.outputs
        task = Task("classification", self.space.outputs)
        return make_dataset(x, y, name="random", task=task, seed=0).development

    def test_some_networks_have_costs(self) -> None:
        found = self._estimator.estimate(self._data(), self._networks())
        assert any(isinstance(costs, dict) for costs in found), f"no network of the space has costs: {found[0]}"

    def test_costs_are_those_of_the_network_alone(self) -> None:
        data, networks = self._data(), self._networks()
        together = self._estimator.estimate(data, networks)
        alone = [self._estimator.estimate(data, [network])[0] for network in reversed(networks)]
        assert together == alone[::-1], "the costs of a network depend on the others, or differ from call to call"

    def test_its_metrics_can_be_objectives(self) -> None:
        names = self._estimator.metrics
        objectives, _ = resolve(names, {}, Task("classification", 2), names)
        assert [objective.metric for objective in objectives] == list(names)

    def test_workers_find_it_by_its_name(self) -> None:
        assert ESTIMATOR.foreign(name_of(self.model)) is self.model, f"{name_of(self.model)} is another class"

    def test_its_key_stays(self) -> None:
        assert self._estimator.key == self._estimator.key, "its settings differ from call to call"


def _refused(call: Callable[[], Any], word: str) -> None:
    """Check that a call raises an error of the user that has a word in it."""
    message = ""
    try:
        call()
    except (ValidationError, ConfigError) as error:
        message = str(error)
    assert word in message, f"an error about {word!r} is expected, not {message!r}"


def _keras_bops(layer: Any) -> float:
    """Return the bit operations of a Keras layer with a kernel of shape (..., inputs, outputs); 0 of any other."""
    if not hasattr(layer, "kernel"):
        return 0.0
    *window, outputs = layer.kernel.shape
    if type(layer).__name__ == "Tables":
        return float(window[1] * outputs * (BITS + math.log2(window[1])))
    inputs, positions = math.prod(window), math.prod(layer.output_shape[1:-1])
    products: int = positions * outputs * inputs
    return products * (BITS * BITS + 2 * BITS + math.log2(inputs))


def random_weights(architecture: Architecture, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """Draw weights as after a training: kernels of unit gain up to thrice that, some pruned, any batch norm statistics.

    Args:
        architecture: The network.
        rng: Of the weights.

    Returns:
        Arrays by layer and part, float32.
    """
    sparsity = rng.choice([0.0, 0.5, 0.95])
    weights = {}
    for node in architecture.nodes:
        for part, weight in node.weights.items():
            if part == "kernel":
                pruned = weight.shape[1:] if node.layer.kind == "tables" else weight.shape
                scale = rng.uniform(0.5, 3) / np.sqrt(np.prod(pruned[:-1]))
                value = rng.normal(0, scale, weight.shape) * (rng.random(pruned) >= sparsity)
            elif part in ("gamma", "moving_variance"):
                value = rng.uniform(0.1, 2, weight.shape)
            else:
                value = rng.normal(0, 0.4, weight.shape)
            weights[f"{node.name}/{part}"] = value.astype(np.float32)
    return weights


def _quantized(architecture: Architecture) -> tuple[Trained, NDArray[np.float32]]:
    """Return a network with random weights, quantized, and samples for it."""
    from kerasnac.adapters.keras.predict import activation_ranges

    rng = np.random.default_rng(0)
    drawn = rng.normal(0, INPUT_GRID.maximum / 3, (SAMPLES, *architecture.input_shape))
    x = INPUT_GRID.quantize(drawn).astype(np.float32)
    folded, weights = fold(architecture, random_weights(architecture, rng))
    observed = activation_ranges(folded, weights, x, clip_quantile=1e-2)
    made = quantize(folded, weights, observed, input_grid=INPUT_GRID, weight_bits=BITS, activation_bits=BITS)
    return Trained(architecture.id, made, weights, Training(), {}, 0), x
