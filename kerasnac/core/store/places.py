"""Folders of what is made with a name: what other settings have made is never replaced, but stands beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any


def suffix_of(key: str) -> str:
    """Return what the name of a folder ends with if other settings have its plain name."""
    return f"-{key[:8]}"


def owners(records: Iterable[Mapping[str, Any]], name_of: Callable[[Mapping[str, Any]], str]) -> dict[str, str]:
    """Return, for every name, the key to which the plain folder belongs: that of its first record.

    Journals are only appended to, so that this never changes, whatever is asked for later.

    Args:
        records: Of a journal, oldest first.
        name_of: Returns the name of a record.
    """
    found: dict[str, str] = {}
    for record in records:
        found.setdefault(name_of(record), str(record["key"]))
    return found


def suffix(owner: str | None, key: str) -> str:
    """Return what a folder's name ends with: nothing if its plain name is free, or belongs to this key."""
    return "" if owner in (None, key) else suffix_of(key)


def folder_of(place: Path, name: str, key: object) -> Path:
    """Return the folder of what was made with a name and a key, for those who only look.

    Args:
        place: The folder that it is in.
        name: The name; only its last part counts, as it may come from a file of anybody.
        key: The key; None if it is not known.
    """
    plain = place / Path(name).name
    own = plain.with_name(plain.name + suffix_of(key)) if isinstance(key, str) and key.isalnum() else plain
    return own if own.is_dir() else plain
