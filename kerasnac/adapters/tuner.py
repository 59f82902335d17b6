"""keras-tuner's Bayesian optimisation as an oracle: it proposes hyperparameters and is told their scores."""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from typing import Any

from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.core.settings import TuneSettings
from kerasnac.core.training import Training

#: Random trials before the Gaussian process takes over.
INITIAL_TRIALS = 3


class Oracle:
    """Proposes training hyperparameters.

    keras-tuner's ``Oracle`` is used without its ``Tuner``, which turns exceptions into "invalid" trials. Like NSGA-II
    it is deterministic, so a resumed tuning asks a new oracle and tells it again what is known.

    Args:
        settings: Ranges.
        start: The first proposal, clipped to the ranges.
        seed: Seed of all others.
    """

    def __init__(self, settings: TuneSettings, start: Training, seed: int) -> None:
        tensorflow()
        import keras_tuner as kt

        space = kt.HyperParameters()
        space.Float("learning_rate", *settings.learning_rate, sampling="log")
        space.Choice("batch_size", list(settings.batch_size))
        space.Choice("schedule", list(settings.schedule))
        space.Float("weight_decay", *settings.weight_decay, sampling="log")
        space.Float("dropout", *settings.dropout)
        self._oracle = kt.oracles.BayesianOptimizationOracle(
            objective=kt.Objective("loss", "min"),
            max_trials=settings.trials,
            num_initial_points=INITIAL_TRIALS,
            hyperparameters=space,
            seed=seed,
        )
        self._oracle.verbose = 0
        self._scratch = tempfile.TemporaryDirectory(prefix="kerasnac-tuner-")
        self._oracle._set_project_dir(self._scratch.name, "oracle")
        self._trial: Any = None
        self._start = _clipped(settings, start)
        self._started = False

    def ask(self) -> dict[str, Any]:
        """The next hyperparameters by name; call :meth:`tell` after every ask."""
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a Gaussian process on a handful of trials often does not converge
            self._trial = self._oracle.create_trial("kerasnac")
        if not self._started:
            self._trial.hyperparameters.values = self._start
            self._started = True
        return dict(self._trial.hyperparameters.values)

    def tell(self, loss: float) -> None:
        """The score of the last ask, to be minimised."""
        with contextlib.redirect_stdout(io.StringIO()):
            self._oracle.update_trial(self._trial.trial_id, {"loss": loss})
            self._trial.status = "COMPLETED"
            self._oracle.end_trial(self._trial)


def _clipped(settings: TuneSettings, start: Training) -> dict[str, Any]:
    """The nearest point of the ranges."""

    def within(name: str) -> float:
        low, high = getattr(settings, name)
        return float(min(max(getattr(start, name), low), high))

    return {
        "learning_rate": within("learning_rate"),
        "batch_size": min(settings.batch_size, key=lambda size: abs(size - start.batch_size)),
        "schedule": start.schedule if start.schedule in settings.schedule else settings.schedule[0],
        "weight_decay": within("weight_decay"),
        "dropout": within("dropout"),
    }
