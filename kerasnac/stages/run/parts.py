"""The parts of others that a run is made of: noted in its folder, and compared when it goes on."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kerasnac.core.data.losses import LOSS
from kerasnac.core.data.metrics import METRIC
from kerasnac.core.data.task import TASK, TASKS, Task
from kerasnac.core.hardware.estimators import ESTIMATOR
from kerasnac.core.plugins import Kind, Origin, name_of
from kerasnac.core.settings import RunSettings, SearchSettings
from kerasnac.core.space.blocks import BLOCK, foreign_blocks
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.core.store.files import read_object, write_json
from kerasnac.core.store.memo import Shape
from kerasnac.datasets import DATASET
from kerasnac.errors import PluginError, RunError
from kerasnac.stages.results.layout import DESCRIPTION
from kerasnac.stages.run.folder import REMEDY

log = logging.getLogger("kerasnac")

#: Kinds of parts by their words.
KINDS: Mapping[str, Kind[Any]] = {kind.word: kind for kind in (BLOCK, DATASET, ESTIMATOR, METRIC, LOSS, TASK)}

#: Key of the description of a run under which its parts of others are.
KEY = "plugins"

_SHAPE = Shape({f"{KEY}?": list[dict[str, str]]})

_ORIGIN = Shape(dict.fromkeys(Origin.__dataclass_fields__, str))


def parts_of(settings: RunSettings, task: Task) -> tuple[Origin, ...]:
    """Return where all parts of others come from that a run file names.

    Args:
        settings: Those of the file.
        task: The task of its dataset, which may have parts that the dataset brings with it.

    Raises:
        PluginError: If one cannot be had.
    """
    name = settings.dataset.source
    function = DATASET.foreign(name)
    dataset = () if function is None else (DATASET.origin(name, function),)
    return (*dataset, *parts_of_task(task), *parts_of_search(settings.space, settings.search))


def parts_of_task(task: Task) -> tuple[Origin, ...]:
    """Return where the metrics, the loss and the kind of a task come from; metrics and losses by the names of functions."""
    metrics = (METRIC.origin(name_of(one.function), one.function) for one in task.measured if one.is_foreign)
    own = task.loss.function
    losses = () if own is None else (LOSS.origin(task.loss.name, own),)
    kinds = () if task.kind in TASKS else (TASK.origin(task.kind, task.made_of),)
    return tuple(dict.fromkeys((*metrics, *losses, *kinds)))


def parts_of_search(space: SearchSpace, settings: SearchSettings) -> tuple[Origin, ...]:
    """Return where the blocks and the sources of costs come from that a search uses."""
    blocks = (BLOCK.origin(block.block, type(block)) for block in foreign_blocks(space.blocks))
    sources = (ESTIMATOR.origin(found.source, type(found.model)) for found in settings.foreign_estimators)
    return tuple(dict.fromkeys((*blocks, *sources)))


def note_parts(folder: Path, parts: Iterable[Origin]) -> None:
    """Note parts in the description of a run; warn of those that were of another version when they were noted last.

    Args:
        folder: Run folder, which has a description.
        parts: Where they come from.

    Raises:
        RunError: If the description is damaged.
    """
    noted = tuple(_noted(folder))
    last = {(origin.kind, origin.name): origin for origin in noted}
    new = [part for part in parts if last.get((part.kind, part.name)) != part]
    changed = {part: last[part.kind, part.name] for part in new if (part.kind, part.name) in last}
    for now, group in _by_source(changed).items():
        before = _source(changed[group[0]])
        log.warning("%s was begun with %s and goes on with %s: %s may give other results", folder, before, now, _listed(group))
    if new:
        path = folder / DESCRIPTION
        write_json(path, read_object(path, REMEDY) | {KEY: [part.to_dict() for part in (*noted, *new)]})


def require_parts(folder: Path) -> None:
    """Check that all parts of others are there that a run folder was begun with.

    Raises:
        RunError: Naming all that are missing, in one line; or if the description is damaged.
    """
    missing: dict[Origin, str] = {}
    for part in {(origin.kind, origin.name): origin for origin in _noted(folder)}.values():
        try:
            KINDS[part.kind].foreign(part.name)
        except PluginError as error:
            missing[part] = str(error)
    if missing:
        found = (f"{_listed(group)} of {source} missing: {missing[group[0]]}" for source, group in _by_source(missing).items())
        raise RunError(f"{folder} cannot be resumed: {'; '.join(found)}")


def _by_source(parts: Iterable[Origin]) -> dict[str, list[Origin]]:
    """Return parts by where they come from."""
    groups: dict[str, list[Origin]] = {}
    for part in parts:
        groups.setdefault(_source(part), []).append(part)
    return groups


def _source(part: Origin) -> str:
    return f"{part.distribution or part.module} ({part.version})"


def _listed(parts: Iterable[Origin]) -> str:
    return ", ".join(f"{part.kind} {part.name.rpartition(':')[2]}" for part in parts)


def _noted(folder: Path) -> Iterator[Origin]:
    path = folder / DESCRIPTION
    if not path.is_file():
        return  # A later check says so.
    try:
        description = read_object(path, REMEDY)
        _SHAPE.check(description)
        for part in description.get(KEY, []):
            _ORIGIN.check(part)
            if part["kind"] not in KINDS:
                raise TypeError(f"{KEY}.kind is {part['kind']!r:.60}: it is one of {', '.join(KINDS)}")
            yield Origin(**{name: part[name] for name in Origin.__dataclass_fields__})
    except KeyError as error:
        raise RunError(f"{path} is damaged: {error} is missing; {REMEDY}") from None
    except TypeError as error:
        raise RunError(f"{path} is damaged: {error}; {REMEDY}") from None
