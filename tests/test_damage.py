"""Run folders and run files that were damaged at random: never a traceback, never a wrong exit code, nothing is lost.

``python -m tests.damage NUMBER`` does a case again, and shows it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.damage import Whole, by_cause, check, survey


@pytest.mark.parametrize("number", range(30))
def test_a_damaged_run(number: int, whole: Whole, tmp_path: Path) -> None:
    verdict = check(number, whole, tmp_path / "case")
    assert not verdict.failures, str(verdict)


@pytest.mark.parametrize("number", [1, 6])
def test_a_damaged_run_in_a_process_of_its_own(number: int, whole: Whole, tmp_path: Path) -> None:
    verdict = check(number, whole, tmp_path / "case", outside_process=True)
    assert not verdict.failures, str(verdict)


def test_a_run_without_damage_has_the_same_results(whole: Whole, tmp_path: Path) -> None:
    """Else the cases would prove nothing."""
    verdict = check(-1, whole, tmp_path / "case")
    assert verdict.code == whole.code
    assert not verdict.failures, str(verdict)


@pytest.mark.slow
def test_many_damaged_runs(tmp_path: Path) -> None:
    failed = survey(30, 3030, tmp_path)
    assert not failed, f"\n{by_cause(failed)}"
