"""Keys of journals, models and caches: hashes of canonical JSON, of fields that are listed one by one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from pydantic import BaseModel

#: Number of the schema of all keys and journals. To be raised when a key changes its meaning: when a field is renamed in
#: it, or the default of a listed field changes. A run folder of another schema is refused.
SCHEMA = 2


def content_key(kind: str, **parts: Any) -> str:
    """Return a hash that a new version of kerasnac makes in the same way.

    It depends on no name of a class and on no order, and a part that is left out counts like one that did not exist.

    Args:
        kind: Name of the kind of thing, so that keys of different kinds differ.
        **parts: All that decides it, as JSON: numbers, texts, lists and dictionaries, None.

    Returns:
        12 hexadecimal digits.

    Raises:
        TypeError: If a part is no JSON.
    """
    text = json.dumps([SCHEMA, kind, parts], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def decisive(settings: Any, names: Collection[str]) -> dict[str, Any]:
    """Return the listed fields of settings as JSON, without those that have their defaults.

    A field that is added later, with a default that keeps the behaviour, changes no key.

    Args:
        settings: A pydantic model or a dataclass with plain values.
        names: Its fields that decide a result.
    """
    if isinstance(settings, BaseModel):
        return settings.model_dump(mode="json", include=set(names), exclude_defaults=True)
    assert is_dataclass(settings)
    listed = [field for field in fields(settings) if field.name in names]
    return {f.name: value for f in listed if (value := getattr(settings, f.name)) != f.default or f.default is MISSING}
