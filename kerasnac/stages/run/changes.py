"""Other settings in the folder of a run: what may change, and what follows from a change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kerasnac.core.settings import RunSettings
from kerasnac.core.settings.changes import Change, differences
from kerasnac.core.store.journal import Journal
from kerasnac.errors import RunError

#: The rule, as everybody states it.
RULE = (
    "a run folder belongs to its data, task, seed and space; all other settings may change: what is known is kept, and only "
    "what is new is computed"
)

#: What belongs to a folder.
OWN = ("space", "dataset", "seed")

#: Options of datasets that say where files are; the fingerprint of the data says whether they are the same.
_PATHS = ("dataset.path", "dataset.validation_path", "dataset.test_path")

#: Stages in their order, with their journal and what a record in it is.
_STAGES = {
    "search": ("search.jsonl", "evaluations of candidates"),
    "tune": ("tune.jsonl", "trials and repeats"),
    "compress": ("compress.jsonl", "compressed points"),
    "references": ("trees.jsonl", "boostings and counts of trees"),
    "firmware": ("", ""),
}


def check_changes(folder: Path, before: RunSettings, after: RunSettings) -> tuple[Change, ...]:
    """Return what differs from the settings of a folder.

    Raises:
        RunError: If it is something that belongs to the folder.
    """
    found = differences(before, after)
    for change in found:
        if change.section in OWN and change.key not in _PATHS:
            raise RunError(
                f"{folder} holds a run with another {change.section}: {change}; {RULE}. For this one: kerasnac run FILE --set "
                f"{change.key}=... --out ANOTHER_FOLDER"
            )
    return found


def described(folder: Path, changes: Sequence[Change]) -> str:
    """Return, in one line, what changes, from where on stages are run again, and how much is known."""
    listed = ", ".join(map(str, changes))
    sections = [stage for stage in _STAGES if any(change.section == stage for change in changes)]
    if not sections:
        return listed
    order = list(_STAGES)
    later = order[order.index(sections[0]) :]
    known = [(len(Journal(folder / name)), what) for name, what in (_STAGES[stage] for stage in later) if name]
    records = ", ".join(f"{count} {what}" for count, what in known if count)
    kept = ", ".join(stage for stage in order[: order.index(sections[0])] if stage != "references")
    parts = [
        listed,
        f"{kept}: as before" if kept else "",
        f"from {sections[0]} on, what is new is computed" + (f" ({records} are known)" if records else ""),
    ]
    return "; ".join(filter(None, parts))
