"""Bayesian optimisation of training hyperparameters with the oracle of keras-tuner."""

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
    """Bayesian optimisation that proposes training hyperparameters, and is told their losses.

    keras-tuner's ``Oracle`` is used without its ``Tuner``, which turns exceptions into "invalid" trials. Like NSGA-II
    it is deterministic: a tuning is resumed by telling a new oracle the known losses again.

    Args:
        settings: Ranges of the hyperparameters, and number of trials.
        start: The first proposal, clipped to the ranges.
        seed: Seed of all other proposals.
        loss: Loss of the training in the search; trials that diverge count as no better.
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
        """Return the next hyperparameters by name, or None if none are left; call :meth:`tell` after every ask."""
        from threadpoolctl import threadpool_limits

        # With several threads, the small matrices of a handful of trials take ten times as long.
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
        """Take the loss of the hyperparameters of the last :meth:`ask`.

        Args:
            loss: Value to minimise; one that is not finite is replaced by the worst finite one.
        """
        if math.isfinite(loss):
            self._worst = max(self._worst, loss)
        else:
            loss = self._worst  # keras-tuner would take an infinite loss for 0, and give up after three that are NaN.
        with contextlib.redirect_stdout(io.StringIO()):
            self._oracle.update_trial(self._trial.trial_id, {"loss": loss})
            self._trial.status = "COMPLETED"
            self._oracle.end_trial(self._trial)


def _clipped(name: str, values: tuple[Any, ...], start: Training) -> Any:
    """Return the allowed value of a hyperparameter that is nearest to that of the start."""
    own = getattr(start, name)
    if name == "batch_size":
        return min(values, key=lambda size: abs(size - own))
    if name in CHOICES:
        return own if own in values else values[0]
    return float(min(max(own, values[0]), values[1]))
