from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from typing import Any

import numpy as np
import pytest

from kerasnac.adapters import rule4ml as adapter
from kerasnac.adapters.rule4ml import Rule4mlEstimator
from kerasnac.core.data.dataset import Dataset, Development
from kerasnac.core.hardware.boards import RESOURCES, Board, board
from kerasnac.core.hardware.estimators import SOURCES
from kerasnac.core.network.architecture import Architecture
from kerasnac.core.network.layers import LayerSpec, Unsupported
from kerasnac.core.settings import Rule4mlSettings
from kerasnac.core.settings.yaml_files import load_space
from kerasnac.core.space.blocks import Attention, Choose, Conv, DeepSets, Mlp, Nothing, Pool, Residual, Window
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.errors import ConfigError, EnvironmentProblem, SpaceError

VU13P = board("vu13p")
DENSE = LayerSpec.of("dense", units=24)
RELU, LINEAR, NORM = LayerSpec.of("activation", fn="relu"), LayerSpec.of("activation", fn="none"), LayerSpec.of("batch_norm")
OUTPUT = LayerSpec.of("dense", units=5)


def estimator(on: Board = VU13P, **settings: Any) -> Rule4mlEstimator:
    return Rule4mlEstimator(Rule4mlSettings(**settings), on)


def network(*layers: LayerSpec, shape: tuple[int, ...] = (16,)) -> Architecture:
    return Architecture(shape, (*layers, OUTPUT))


def mlp(*units: int, fn: str = "relu") -> Architecture:
    return network(*(spec for n in units for spec in (LayerSpec.of("dense", units=n), LayerSpec.of("activation", fn=fn))))


def space(*blocks: Any, shape: tuple[int, ...] = (16,)) -> SearchSpace:
    return SearchSpace(input=shape, outputs=5, blocks=blocks)


@pytest.fixture
def data(vector_classes: Dataset) -> Development:
    return vector_classes.development


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets spaces be checked where rule4ml is not installed."""
    monkeypatch.setattr(metadata, "version", lambda package: "0.2.0")


@pytest.fixture(scope="module")
def rule4ml(keras: Any) -> Iterator[Any]:
    """The surrogate, loaded once; ``keras`` makes TensorFlow deterministic as in a worker."""
    pytest.importorskip("rule4ml.parsers.utils")
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # Threads that wait for each other take seconds when the machine is busy.
    yield adapter._rule4ml()
    torch.set_num_threads(threads)


class TestSettings:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"precision": "ap_ufixed<8,3>"}, "ap_ufixed<8,3> must be ap_fixed"),
            ({"precision": "ap_fixed<8,-1>"}, "integer >= 0"),
            ({"precision": "ap_fixed<18,3>"}, "2 to 16 bits"),
            ({"precision": "float"}, "not a number format"),
            ({"hls4ml": "1.3.0"}, "hls4ml 1.3.0"),
            ({"vivado": "2018.3"}, "vivado 2018.3"),
            ({"reuse_factor": 4094}, "reuse_factor 4094"),
            ({"samples": 1}, "at least 2"),
        ],
    )
    def test_what_rule4ml_has_never_seen_is_refused(self, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=re.escape(message)):
            estimator(**settings)

    def test_an_unknown_board_lists_the_known_ones(self) -> None:
        with pytest.raises(ConfigError, match=r"zcu216.*vu13p.*pynq-z2"):
            estimator(board("zcu216"))

    def test_boards_that_stand_for_each_other_have_the_same_resources(self) -> None:
        resources = {name: [getattr(board(name), resource) for resource in RESOURCES] for name in adapter.BOARDS}
        assert all(resources[ours] == resources[theirs] for ours, theirs in adapter.BOARDS.items())

    def test_the_tables_are_those_of_rule4ml(self, rule4ml: Any) -> None:
        assert set(rule4ml.predictors) == {"lut", "ff", "dsp", "bram", "cycles", "interval"}
        for predictor in rule4ml.predictors.values():
            known = predictor.global_categorical_maps
            assert set(adapter.BOARDS.values()) == set(known["board"])
            assert tuple(known["hls4ml_version"]) == adapter.HLS4ML
            assert tuple(known["vivado_version"]) == adapter.VIVADO
            types = set(predictor.sequential_categorical_maps["layer_type"])
            described = [entry.name for entry in adapter.DESCRIPTIONS.values() if not isinstance(entry, Unsupported)]
            layers = {name.lower() for name in described} - {"activation"}
            assert layers | {*adapter.ACTIVATIONS, "softmax"} - {"none"} <= types


class TestKey:
    def test_equal_settings_have_equal_keys(self) -> None:
        assert estimator(precision="ap_fixed<8, 3>").key == estimator(precision="fixed<8,3>").key
        assert pickle.loads(pickle.dumps(estimator())).key == estimator().key

    def test_every_setting_and_the_board_change_the_key(self) -> None:
        other = (
            {"strategy": "resource"},
            {"reuse_factor": 2},
            {"precision": "ap_fixed<8,2>"},
            {"hls4ml": "0.8.1"},
            {"vivado": "2024.2"},
            {"samples": 2},
        )
        keys = [estimator().key, *(estimator(**settings).key for settings in other)]
        keys += [estimator(board("zcu102")).key, estimator(replace(VU13P, lut=1000)).key]
        assert len(set(keys)) == len(keys)


class TestCheck:
    @pytest.mark.parametrize(
        ("refused", "message"),
        [
            (
                space(Mlp(widths=((8,),), activation=("relu", "gelu"))),
                r"block 0 \(mlp\), 0.activation = gelu",
            ),
            (space(Mlp(widths=((8,),)), Mlp(widths=((8,),), activation="leaky_relu")), "block 1 .* = leaky_relu"),
            (space(Mlp(widths=((8,),), norm=("none", "layer"))), "0.norm = layer"),
            (space(Residual(body=Mlp(widths=((16,),)), activation=("gelu",))), r"\(residual\), activation = gelu"),
            (space(Conv(channels=(2,)), shape=(8, 8, 1)), r"block 0 \(conv\)"),
            (space(Nothing(), Choose(options=(Nothing(), Pool())), shape=(8, 8, 1)), r"block 1 \(choose\) with pool"),
            (space(Residual(body=Conv(channels=(1,))), shape=(8, 8, 1)), r"block 0 \(residual\) with conv"),
            (space(DeepSets(widths=((8,),)), shape=(8, 3)), r"block 0 \(deep_sets\)"),
            (space(Attention(width=2), shape=(8, 8, 1)), r"block 0 \(attention\)"),
        ],
    )
    def test_foreign_choices_are_named(self, refused: SearchSpace, message: str, installed: None) -> None:
        with pytest.raises(SpaceError, match=message):
            estimator().check(refused)

    def test_bit_widths_are_refused(self, installed: None) -> None:
        with pytest.raises(SpaceError, match=r"0\.weight_bits = "):
            estimator().check(load_space("jets_mlp_bits"))

    def test_fully_connected_spaces_are_accepted(self, installed: None) -> None:
        estimator().check(load_space("jets_mlp"))
        estimator().check(space(Residual(body=Mlp(widths=((16,),), norm=("batch",)), activation=("none", "tanh"))))
        estimator().check(space(Window(start=0, length=4), Choose(options=(Nothing(), Mlp(widths=((8,),)))), shape=(8, 2)))

    @pytest.mark.parametrize("missing", ["rule4ml", "torch"])
    def test_a_missing_package_is_reported_before_anything_is_estimated(
        self, missing: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def version(package: str) -> str:
            if package == missing:
                raise metadata.PackageNotFoundError(package)
            return "0.2.0"

        monkeypatch.setattr(metadata, "version", version)
        with pytest.raises(EnvironmentProblem, match=f"{missing}.*pip install"):
            estimator().check(load_space("jets_mlp"))

    def test_another_version_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(metadata, "version", lambda package: "0.3.0")
        with pytest.raises(EnvironmentProblem, match=r"0\.3\.0.*0\.2"):
            estimator().check(load_space("jets_mlp"))


class TestReasons:
    @pytest.mark.parametrize(
        ("foreign", "reason"),
        [
            (mlp(8, fn="gelu"), "activation gelu of activation_0"),
            (network(LayerSpec.of("layer_norm", axes="all")), "layer_norm_0"),
            (network(LayerSpec.of("dense", units=8, weight_bits=4)), "one precision for the whole network"),
            (mlp(128, 129), "dense_1: 16512 weights, at most 16384"),
            (
                network(LayerSpec.of("pool", op="max", size=2), LayerSpec.of("flatten"), shape=(4, 4, 1)),
                "pool_0",
            ),
            (network(NORM, LayerSpec.of("flatten"), shape=(4, 4, 1)), "batch_norm_0"),
        ],
    )
    def test_a_foreign_network_gets_a_reason(self, foreign: Architecture, reason: str, data: Development) -> None:
        (answer,) = estimator().estimate(data, [foreign])
        assert isinstance(answer, str)
        assert re.search(reason, answer)

    def test_the_others_of_its_batch_are_estimated(self, rule4ml: Any, data: Development) -> None:
        answers = estimator().estimate(data, [mlp(8), mlp(8, fn="gelu"), mlp(16)])
        assert [type(answer) for answer in answers] == [dict, str, dict]


def estimates(of: Rule4mlEstimator, data: Development, *architectures: Architecture) -> list[dict[str, float]]:
    answers = of.estimate(data, architectures)
    assert all(isinstance(answer, dict) for answer in answers), answers
    return answers  # type: ignore[return-value]


@pytest.mark.usefixtures("rule4ml")
class TestEstimates:
    @pytest.mark.parametrize(
        ("architecture", "settings"),
        [
            (mlp(64, 32, 32), {}),
            (mlp(24, 8, fn="tanh"), {"precision": "ap_fixed<16,6>", "vivado": "2024.2", "hls4ml": "0.8.1"}),
            (network(DENSE, NORM, LayerSpec.of("activation", fn="sigmoid")), {"strategy": "resource", "reuse_factor": 7}),
            (network(DENSE, RELU, DENSE, NORM, RELU, LayerSpec.of("add", inputs=(-1, -4)), RELU), {}),
        ],
    )
    def test_they_are_what_rule4ml_says_of_the_keras_model(
        self, architecture: Architecture, settings: dict[str, Any], keras: Any, data: Development
    ) -> None:
        """The network is described to rule4ml without its parser of Keras models: both must see the same."""
        from rule4ml.models.wrappers import MultiModelWrapper

        from kerasnac.adapters.keras.build import build
        from kerasnac.adapters.keras.runtime import legacy_keras, tensorflow

        tensorflow().random.set_seed(0)
        wrapper = MultiModelWrapper()
        wrapper.load_default_models()
        asked = Rule4mlSettings(**settings)
        model = {"precision": asked.precision, "reuse_factor": asked.reuse_factor, "strategy": asked.strategy}
        with legacy_keras():
            frame = wrapper.predict(
                build(architecture),
                hls_configs={"model": model, "board": "zcu102"},
                hls4ml_versions=[asked.hls4ml],
                vivado_versions=[asked.vivado],
                round_digits=12,
            )
        (metrics,) = estimates(estimator(board("zcu102"), **settings), data, architecture)
        names = [*RESOURCES, "cycles", "interval"]
        assert [metrics[name] for name in names] == pytest.approx([frame[name.upper()][0] for name in names], rel=1e-6)
        theirs = [frame[f"{name.upper()} (%)"][0] for name in RESOURCES]  # The two tables agree on this board.
        assert [metrics[f"{name}_percent"] for name in RESOURCES] == pytest.approx(theirs, rel=1e-6)

    def test_the_metrics_are_those_of_the_source(self, data: Development) -> None:
        (metrics,) = estimates(estimator(), data, mlp(32))
        assert tuple(metrics) == SOURCES["rule4ml"]
        shares = [100 * metrics[resource] / getattr(VU13P, resource) for resource in RESOURCES]
        assert [metrics[f"{resource}_percent"] for resource in RESOURCES] == pytest.approx(shares)
        assert metrics["average_percent"] == pytest.approx(np.mean(shares))

    def test_percentages_are_of_the_given_board(self, data: Development) -> None:
        (whole,), (half,) = (estimates(estimator(b), data, mlp(32)) for b in (VU13P, replace(VU13P, lut=VU13P.lut // 2)))
        assert half["lut"] == whole["lut"]
        assert half["lut_percent"] == pytest.approx(2 * whole["lut_percent"])

    def test_they_depend_on_neither_the_batch_nor_the_threads(self, data: Development) -> None:
        import torch

        rng, jets = np.random.default_rng(0), load_space("jets_mlp")
        batch = [jets.decode(jets.sample_feasible(rng)).architecture for _ in range(20)]
        together = estimates(estimator(), data, *batch)
        torch.set_num_threads(2)
        try:
            alone = [estimates(estimator(), data, architecture)[0] for architecture in reversed(batch)]
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(1)
        assert alone[::-1] == together

    def test_more_costs_more(self, data: Development) -> None:
        """As far as a surrogate can be trusted: over a factor of ten in size, or of four in width."""
        small, middle, large = estimates(estimator(), data, mlp(16, 16), mlp(64, 32, 32), mlp(128, 64, 64, 64))
        assert small["lut"] < middle["lut"] < large["lut"]
        (narrow,), (wide,) = (estimates(estimator(precision=p), data, mlp(64, 32)) for p in ("fixed<4,1>", "fixed<16,6>"))
        assert narrow["lut"] < wide["lut"]
        assert narrow["dsp"] < wide["dsp"]

    def test_a_linear_activation_costs_nothing(self, data: Development) -> None:
        with_it, without = estimates(estimator(), data, network(DENSE, LINEAR, DENSE, RELU), network(DENSE, DENSE, RELU))
        assert with_it == without

    def test_cutting_and_flattening_samples_costs_nothing(self, data: Development) -> None:
        window, flatten = LayerSpec.of("window", start=2, length=8), LayerSpec.of("flatten")
        cut, flat = estimates(estimator(), data, network(window, flatten, DENSE, RELU, shape=(20, 2)), network(DENSE, RELU))
        assert cut == flat

    def test_a_softmax_within_has_operations(self, data: Development) -> None:
        soft, plain = (adapter._layers(network(DENSE, *more), 1) for more in ([LayerSpec.of("softmax")], []))
        operations = [adapter._rule4ml().parser.get_network_fixed_ops(layers)["total_lookup"] for layers in (soft, plain)]
        assert operations == [25, 0]

    def test_dropout_samples_give_a_spread_that_is_reproducible(self, data: Development) -> None:
        import torch

        batch = (mlp(64, 32, 32), mlp(16))
        state = torch.random.get_rng_state()
        first, second = estimates(estimator(samples=8), data, *batch)
        assert torch.equal(torch.random.get_rng_state(), state)
        plain, _ = estimates(estimator(), data, *batch)
        assert tuple(first) == (*plain, *(f"{name}_spread" for name in plain))
        assert {name: first[name] for name in plain} == plain
        varying = set(plain) - {"interval"}  # Its network gives most candidates the same number, dropout or not.
        assert all(first[f"{name}_spread"] > 0 for name in varying)
        torch.rand(3)
        assert estimates(estimator(samples=8), data, *batch[::-1]) == [second, first]
