"""Texts that go into a report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path


def read_text(path: Path) -> str:
    """Return a text file, with what is no UTF-8 replaced; empty if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def for_script(data: Mapping[str, object]) -> str:
    """Return JSON that may stand in an HTML script element, whatever texts are in it."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text
