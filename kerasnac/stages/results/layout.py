"""Names of what describes a run in its folder."""

from __future__ import annotations

#: File that says which data, seed and versions a run folder is of.
DESCRIPTION = "run.json"

#: File with the settings.
SETTINGS = "run.yaml"

#: Folder with the float models that were given to be compressed, and that no tuning has made.
OWN = "own"
