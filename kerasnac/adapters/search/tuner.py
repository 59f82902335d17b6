"""keras-tuner's Bayesian optimisation as an oracle: it proposes hyperparameters and is told their scores."""

from __future__ import annotations

import contextlib
import io
import math
import tempfile
import warnings
from typing import Any

from kerasnac.adapters.keras.runtime import tensorflow
from kerasnac.core.network.training import Training
from kerasnac.core.settings import TuneSettings

#: Hyperparameters that are chosen from a list; the others have a range.
CHOICES = ("batch_size", "schedule", "optimizer")

#: Hyperparameters whose range is logarithmic.
LOGARITHMIC = ("learning_rate", "weight_decay", "l1")

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
        loss: A loss that is known beforehand, of the search's own training.
    """

    def __init__(self, settings: TuneSettings, start: Training, seed: int, *, loss: float) -> None:
        tensorflow()
        import keras_tuner as kt

        space = kt.HyperParameters()
        for name, values in settings.searched.items():
            if name in CHOICES:
                space.Choice(name, list(values))
            else:
                space.Float(name, *values, sampling="log" if name in LOGARITHMIC else "linear")
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
        self._fixed = settings.fixed
        self._start = {name: _clipped(name, values, start) for name, values in settings.searched.items()}
        self._started = False
        self._worst = loss if math.isfinite(loss) else 0.0

    def ask(self) -> dict[str, Any] | None:
        """The next hyperparameters by name, or None if none are left; call :meth:`tell` after every ask."""
        from threadpoolctl import threadpool_limits

        # One thread: matrices of a handful of trials are too small for more, which cost ten times as much as they save.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), threadpool_limits(1):
            warnings.simplefilter("ignore")  # a Gaussian process on a handful of trials often does not converge
            self._trial = self._oracle.create_trial("kerasnac")
        if self._trial.status == "STOPPED":
            return None
        if not self._started:
            self._trial.hyperparameters.values = self._start
            self._started = True
        return {**self._fixed, **self._trial.hyperparameters.values}

    def tell(self, loss: float) -> None:
        """The score of the last ask, to be minimised; a training that diverged counts as the worst that did not."""
        if math.isfinite(loss):
            self._worst = max(self._worst, loss)
        else:
            loss = self._worst  # keras-tuner would take an infinite loss for 0, and give up after three that are NaN.
        with contextlib.redirect_stdout(io.StringIO()):
            self._oracle.update_trial(self._trial.trial_id, {"loss": loss})
            self._trial.status = "COMPLETED"
            self._oracle.end_trial(self._trial)


def _clipped(name: str, values: tuple[Any, ...], start: Training) -> Any:
    """The value of a hyperparameter that is nearest to the start's."""
    own = getattr(start, name)
    if name == "batch_size":
        return min(values, key=lambda size: abs(size - own))
    if name in CHOICES:
        return own if own in values else values[0]
    return float(min(max(own, values[0]), values[1]))
