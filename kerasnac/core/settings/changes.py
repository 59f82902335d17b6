"""Single settings that are changed: ``firmware.part=zcu102`` on the command line, and what differs between two runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel

from kerasnac.core.checks import cut
from kerasnac.core.settings.run import RunSettings
from kerasnac.errors import ConfigError

#: Value of a setting that only one of two has.
_ABSENT = object()


@dataclass(frozen=True)
class Change:
    """A setting that differs.

    Attributes:
        key: Its place: ``firmware.part``.
        before: Value before, JSON-ready.
        after: Value after.
    """

    key: str
    before: Any
    after: Any

    @property
    def section(self) -> str:
        """First part of the key: the stage."""
        return self.key.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.key}: {_shown(self.before)} -> {_shown(self.after)}"


def _shown(value: Any) -> str:
    return "default" if value is _ABSENT else "none" if value is None else cut(str(value).replace("'", ""))


def differences(before: RunSettings, after: RunSettings) -> tuple[Change, ...]:
    """Return all settings that differ, in their order; one that is stated and one that is left out may be the same."""
    return tuple(changed(before.model_dump(mode="json"), after.model_dump(mode="json")))


def changed(before: Mapping[str, Any], after: Mapping[str, Any], place: str = "") -> Iterator[Change]:
    """Yield what differs between two mappings of settings, key by key.

    Args:
        before: One.
        after: The other.
        place: Where they stand.
    """
    for name in dict.fromkeys((*before, *after)):
        key, first, second = f"{place}{name}", before.get(name, _ABSENT), after.get(name, _ABSENT)
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            yield from changed(first, second, f"{key}.")
        elif first != second:
            yield Change(key, first, second)


def nested(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return changes as mappings inside each other, a later one over an earlier one.

    Args:
        changes: Values by keys with dots: ``{"firmware.part": "zcu102"}``.

    Raises:
        ConfigError: If a key is none.
    """
    found: dict[str, Any] = {}
    for key, value in changes.items():
        names = str(key).strip().split(".")
        if not all(names):
            raise ConfigError(f"--set {cut(str(key))}: no key; give one as firmware.part or compress.bits")
        place = found
        for name in names[:-1]:
            inner = place.get(name)
            place[name] = dict(inner) if isinstance(inner, Mapping) else {}
            place = place[name]
        place[names[-1]] = value
    return found


def suggestion(kind: type[Any], location: Iterable[str | int]) -> str:
    """Return the known key that is closest to an unknown one; empty if none is.

    Args:
        kind: Class of the settings.
        location: Place of the unknown key.
    """
    *way, last = location
    found: type[Any] | None = kind
    for part in way:
        found = None if found is None else _inside(_fields(found).get(str(part)))
    close = get_close_matches(str(last), _fields(found), 1, 0.6) if found is not None else []
    return close[0] if close else ""


def _fields(kind: type[Any]) -> dict[str, Any]:
    """Return the annotations of the keys of settings, by name."""
    if issubclass(kind, BaseModel):
        return {name: field.annotation for name, field in kind.model_fields.items()}
    return {field.name: field.type for field in fields(kind)}


def _inside(annotation: Any) -> type[Any] | None:
    """Return the class of settings in an annotation; None if there is none, or more than one."""
    if isinstance(annotation, type) and (issubclass(annotation, BaseModel) or is_dataclass(annotation)):
        return annotation
    found = {one for part in get_args(annotation) if (one := _inside(part)) is not None}
    return found.pop() if len(found) == 1 else None
