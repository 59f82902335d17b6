"""Published networks: their sizes, and that the spaces that claim to hold them do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kerasnac.core.settings.yaml_files import load_space
from kerasnac.core.space.baselines import BASELINES, get
from kerasnac.errors import ConfigError

#: Name -> trainable parameters.
PARAMETERS = {
    "braggnn": 45_394,
    "nac_bragg": 17_226,
    "hls4ml_jets": 4_389,
    "snac_baseline": 25_916 + (120 + 60 + 32 + 64 + 64 + 64 + 32 + 44 + 5),
    # 3-64-64-32, mean, 32-32-5
    "deep_sets_base": (4 * 64 + 65 * 64 + 65 * 32) + (33 * 32 + 33 * 5),
    # 3-64-16, mean, 16-128-16-64-5, a batch norm after every hidden layer
    "deep_sets_medium": (4 * 64 + 65 * 16) + (17 * 128 + 129 * 16 + 17 * 64 + 65 * 5) + 2 * (64 + 16 + 128 + 16 + 64),
    "deep_sets_small": (4 * 16 + 17 * 8) + (9 * 32 + 33 * 32 + 33 * 5) + 2 * (32 + 32),
    "deep_sets_tiny": 4 * 16 + (17 * 16 + 17 * 16 + 17 * 8 + 9 * 5) + 2 * 16,
}

every_baseline = pytest.mark.parametrize("name", BASELINES)


@every_baseline
def test_parameters(name: str) -> None:
    assert get(name).parameters == PARAMETERS[name]


@every_baseline
def test_a_baseline_is_a_point_of_its_space(name: str) -> None:
    space = load_space(BASELINES[name][0])
    genome = space.encode(get(name))
    assert space.decode(genome).architecture == get(name)
    assert space.canonical(genome) == genome


@every_baseline
def test_keras_counts_the_same_parameters(name: str, keras: Any) -> None:
    from kerasnac.adapters.keras.build import build

    architecture = get(name)
    model = build(architecture)
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == PARAMETERS[name]
    assert model.output_shape == (None, *architecture.output_shape)
    assert np.isfinite(model(np.ones((2, *architecture.input_shape), np.float32)).numpy()).all()
    keras.backend.clear_session()


def test_other_names_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'resnet'.* braggnn, nac_bragg, hls4ml_jets"):
        get("resnet")
