"""Names of what describes a run in its folder."""

from __future__ import annotations

#: File that says which data, seed and versions a run folder is of.
DESCRIPTION = "run.json"

#: File with the settings.
SETTINGS = "run.yaml"
