"""Seeds that derive from one seed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kerasnac.core.store.seeding import derive_seed, generator


def test_seeds_never_change() -> None:
    """Runs of earlier versions are resumed with them."""
    assert derive_seed(0, "train", "9b0e5b5a8f0f") == 347384993
    assert derive_seed(1, "nsga2") == 708772842


@given(st.integers(0, 2**32), st.text(), st.text())
def test_a_seed_depends_on_the_run_and_on_the_purpose(seed: int, one: str, other: str) -> None:
    assert 0 <= derive_seed(seed, one) < 2**31
    assert derive_seed(seed, one) == derive_seed(seed, one)
    assert (derive_seed(seed, one) == derive_seed(seed, other)) == (one == other)
    assert derive_seed(seed, one) != derive_seed(seed + 1, one)


def test_generators_of_different_purposes_are_independent() -> None:
    draws = {tuple(generator(0, purpose).integers(0, 1000, size=8)) for purpose in ("a", "b", 1, 2)}
    assert len(draws) == 4
    assert generator(0, "a").random() == generator(0, "a").random()
