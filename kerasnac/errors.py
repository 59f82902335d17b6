"""Every error a user can cause, as one small family.

Each message names the file, key or layer that is wrong and says what to change. The command line
prints the message alone and exits with the code of :mod:`kerasnac.ui.exits`; anything that is not a :class:`KerasnacError` is a
bug and keeps its traceback.
"""

from __future__ import annotations


class KerasnacError(Exception):
    """Base class of the errors that the user can fix."""


class ConfigError(KerasnacError, ValueError):
    """A YAML file, key or option is wrong.

    Also a ValueError, so that pydantic reports it with the place where it stands.
    """


class SpaceError(ConfigError):
    """A search space is wrong, or an architecture does not belong to it."""


class PluginError(ConfigError):
    """A part from elsewhere (a block, a dataset, a metric, a loss, ...) is missing, does not load or does not do its work."""


class MetricError(ConfigError):
    """A metric's or a loss's function raises, or returns something else than numbers; the message names it."""


class DataError(KerasnacError):
    """Samples or labels cannot be used as they are."""


class EnvironmentProblem(KerasnacError):
    """The machine lacks something: a compiler, a package, write permission."""


class RunError(KerasnacError):
    """A run folder cannot be used or resumed as asked."""


class SearchError(KerasnacError):
    """A search cannot go on, for example because no candidate meets a budget."""


class ConversionError(KerasnacError):
    """A model has no bit-exact firmware; the message names the layer and the reason."""


class TimeLimitExceeded(ConversionError):
    """A compiler, an emulation or another program took longer than it may."""


class Infeasible(Exception):
    """A genome describes a network that cannot exist (a kernel larger than its map, say).

    Not a :class:`KerasnacError`: a search records such a candidate as infeasible, with this reason,
    and goes on.
    """


class TrialError(Exception):
    """Training a candidate raised something unforeseen: a bug. Names the architecture; the cause has the traceback."""
