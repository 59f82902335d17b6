"""Functions of a user, which worker processes and journals know by their names."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from kerasnac.core.checks import shown
from kerasnac.errors import ConfigError


def reference(function: Callable[..., Any], what: str) -> str:
    """Return the name of a function as ``module:function``.

    Args:
        function: A function of a module.
        what: Its part, for messages.

    Raises:
        ConfigError: If it is not callable, or has no name by which another process finds it, as a lambda.
    """
    if not callable(function):
        raise ConfigError(f"{what} must be a function, not {shown(function)}")
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or "<" in name:
        raise ConfigError(
            f"{what}: {shown(function)} has no name by which worker processes find it: write it with def at the top level of a "
            "module"
        )
    return f"{module}:{name}"


def imported(text: str, what: str) -> Any:
    """Return what ``module:function`` stands for.

    Args:
        text: A module, a colon and a name in the module.
        what: Its part, for messages.

    Raises:
        ConfigError: If the module cannot be imported, or has no such name.
    """
    module, _, name = text.partition(":")
    try:
        found: Any = import_module(module)
    except Exception as error:  # A module of the user's may raise anything.
        raise ConfigError(
            f"{what} {text!r}: the module {module} cannot be imported ({type(error).__name__}: {error}); install it, or put "
            "its folder in PYTHONPATH"
        ) from error
    try:
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError:
        raise ConfigError(f"{what} {text!r}: the module {module} has no {name!r}") from None
    return found
