"""Named rules that choose a few models from a front."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from kerasnac.core.data.dataset import Sense
from kerasnac.errors import ConfigError

T = TypeVar("T")

_RULES = (
    "front (all of it), best, knee, 'within 2%' (cheapest within 2% of the best metric), 'metric 0.65' (cheapest at least "
    "that good), 'bops <= 1e6' or 'auc >= 0.9' (best within a budget, of any recorded cost or metric)"
)

_NUMBER = r"(\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+)"


@dataclass(frozen=True)
class Selection:
    """A rule that picks points of a front.

    Attributes:
        rule: ``front``, every point of it. All others pick one: ``best`` metric; ``knee``, the point farthest from the line
            between the front's ends; ``within`` a relative tolerance of the best metric, the cheapest; ``metric``, the
            cheapest at least that good; ``budget``, the best metric among those whose cost keeps it: on a front, the
            nearest to the budget.
        value: Tolerance, threshold or budget.
        cost: The cost, or further metric, that the budget is for.
        at_least: True for a budget that is a minimum.
    """

    rule: Literal["front", "best", "knee", "within", "metric", "budget"]
    value: float = 0.0
    cost: str = ""
    at_least: bool = False

    @classmethod
    def parse(cls, text: str) -> Selection:
        """Read ``front``, ``best``, ``knee``, ``within 2%``, ``metric 0.65`` or ``bops <= 1e6``.

        Raises:
            ConfigError: If the text is none of them.
        """
        if text in ("front", "best", "knee"):
            return cls(text)  # type: ignore[arg-type]
        if match := re.fullmatch(rf"([\w.:%-]+)\s*(<=|>=)\s*{_NUMBER}", text.strip()):
            return cls("budget", float(match[3]), match[1], match[2] == ">=")
        match = re.fullmatch(rf"(within|metric)\s+{_NUMBER}\s*(%?)", text.strip())
        if match is None or (match[1] == "metric" and match[3]):
            raise ConfigError(f"unknown selection {text!r}: one of {_RULES}")
        return cls(match[1], float(match[2]) / (100 if match[3] else 1))  # type: ignore[arg-type]

    def pick(
        self, points: Sequence[T], value: Callable[[T], Mapping[str, float]], *, metric: str, cost: str, sense: Sense
    ) -> tuple[T, ...]:
        """Return the points that the rule picks: one, unless it is ``front``.

        Args:
            points: A front, or any points.
            value: Recorded values of a point, by name.
            metric: Name of the task metric.
            cost: Name of the cost to keep small, for rules that name none of their own.
            sense: ``max`` if a larger metric is better, else ``min``.

        Raises:
            ConfigError: If there is no point, none reaches the threshold, or the budget's cost was not recorded.
        """
        if not points:
            raise ConfigError("there is nothing to select from: the front is empty")
        if self.rule == "front":
            return tuple(points)
        return (self._one(points, value, metric=metric, cost=cost, sense=sense),)

    def _one(
        self, points: Sequence[T], value: Callable[[T], Mapping[str, float]], *, metric: str, cost: str, sense: Sense
    ) -> T:
        sign = 1.0 if sense == "max" else -1.0
        good = np.array([sign * value(p)[metric] for p in points])
        costs = np.array([value(p)[cost] for p in points])
        if self.rule == "knee":
            return points[_knee(good, costs)]
        if self.rule == "budget":
            costs = np.array([_recorded(value(p), self.cost) for p in points])
            affordable = np.flatnonzero(costs >= self.value if self.at_least else costs <= self.value)
            if not affordable.size and self.at_least:
                raise ConfigError(f"no model keeps {self.cost} >= {self.value:g}; the best has {np.nanmax(costs):g}")
            if not affordable.size:
                raise ConfigError(f"no model keeps {self.cost} <= {self.value:g}; the cheapest needs {costs.min():g}")
            return points[int(affordable[np.lexsort((costs[affordable], -good[affordable]))[0]])]
        limit = {"best": good.max(), "within": good.max() - self.value * abs(good.max()), "metric": sign * self.value}[
            self.rule
        ]
        enough = np.flatnonzero(good >= limit)
        if not enough.size:
            raise ConfigError(f"no model reaches a metric of {self.value:g}; the best is {sign * good.max():.4g}")
        return points[int(enough[np.lexsort((-good[enough], costs[enough]))[0]])]


def _recorded(values: Mapping[str, float], cost: str) -> float:
    if cost not in values:
        raise ConfigError(f"no {cost!r} is recorded to select by; there are {', '.join(values)}")
    return values[cost]


def _knee(good: np.ndarray, costs: np.ndarray) -> int:
    """Return the point farthest above the line between the cheapest and the best point, costs on a log scale."""
    x = np.log(np.maximum(costs, 1.0))
    low, high = np.lexsort((-good, costs))[0], np.lexsort((costs, -good))[0]
    if x[high] == x[low] or good[high] == good[low]:
        return int(low)
    height = (good - good[low]) / (good[high] - good[low]) - (x - x[low]) / (x[high] - x[low])
    return int(np.argmax(height))
