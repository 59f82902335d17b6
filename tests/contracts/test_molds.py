"""Every block is trained by the engine as Keras trains it."""

from __future__ import annotations

import numpy as np
import pytest

from kerasnac.core.network.cells import PARTS
from kerasnac.core.network.layers import Unsupported
from kerasnac.core.network.mold import fitting, molds
from tests.contracts.test_blocks import every_block, space
from tests.gradients import assert_alike, formatted
from tests.networks import trained_weights


@pytest.mark.usefixtures("keras")
@every_block
def test_candidates_share_molds_that_compute_them(tag: str) -> None:
    rng = np.random.default_rng(4)
    networks = [space(tag).decode(space(tag).sample_feasible(rng)).architecture.plain for _ in range(24)]
    shared = molds(networks)
    if all(any(isinstance(PARTS[layer.kind], Unsupported) for layer in network.layers) for network in networks):
        assert not shared
        return
    distinct = {network.id: network for network in networks}
    for network in list(distinct.values())[:3]:
        mold = fitting(shared, network)
        assert mold is not None
        weights = trained_weights(network, rng)
        assert_alike(network, mold, weights)
        quantized, start = formatted(network, weights)
        form = fitting(shared, quantized)
        assert form is not None
        assert_alike(quantized, form, start)
