"""Run files and search spaces as YAML, with errors that name the line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from kerasnac.core.checks import dotted, own_problems, problem_text
from kerasnac.core.settings import RunSettings
from kerasnac.core.space.search_space import SearchSpace
from kerasnac.errors import ConfigError

Location = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)


#: Bytes of a file, levels of nesting, and values with all that aliases repeat, that a run file may have.
LARGEST_FILE, DEEPEST, MOST_NODES = 10**6, 50, 50_000


class _Loader(yaml.SafeLoader):
    """Safe YAML in which ``1e-3`` is a number (YAML 1.1 wants ``1.0e-3``)."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, OverflowError) as error:  # A date or a number that there cannot be.
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from error


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(?:\.\d*)?[eE][-+]?\d+$"), list("-+0123456789"))


def load_run(source: str | Path, *, profile: str | None = None) -> RunSettings:
    """Read a run file.

    Args:
        source: Path of a YAML file, or the name of one that comes with kerasnac (``bragg_exact``).
        profile: Name of a section under ``profiles`` whose values replace the file's.

    Returns:
        The settings; a relative path of a dataset is taken from the file's folder, and a name that is left out from the
        file.

    Raises:
        ConfigError: With file, line and key of everything that is wrong.
    """
    path, root = _compose(source)
    data = {"name": path.stem} | _plain(path, root)
    profiles = data.pop("profiles", None) or {}
    _, line = _found(root, ("profiles", profile or ""))
    if not isinstance(profiles, Mapping):
        raise ConfigError(f"{path}:{line}: profiles: expected names and their changes")
    if profile is not None and profile not in profiles:
        raise ConfigError(f"{path}:{line}: no profile {profile!r}; it has {', '.join(map(str, profiles)) or 'none'}")
    # The file and all its profiles are checked, so that a mistake in one does not wait until it is used.
    plain = _run(data, path, root, Location())
    versions = {name: _profiled(path, root, data, name, changes) for name, changes in profiles.items()}
    return plain if profile is None else versions[profile]


def _profiled(path: Path, root: yaml.Node, data: Mapping[str, Any], name: str, changes: Any) -> RunSettings:
    if not isinstance(changes, Mapping):
        _, line = _found(root, ("profiles", name))
        raise ConfigError(f"{path}:{line}: profiles.{name}: expected keys and values")
    return _run(_merged(data, changes), path, root, ("profiles", name))


def _run(data: Mapping[str, Any], path: Path, root: yaml.Node, prefix: Location) -> RunSettings:
    settings = _validated(RunSettings, data, path, root, prefix)
    options = settings.dataset.options
    places: dict[str, Any] = {key: options[key] for key in ("path", "validation_path", "test_path") if key in options}
    absolute = {key: _absolute(path.parent, place) for key, place in places.items()}
    if absolute == places:
        return settings
    return settings.model_copy(update={"dataset": settings.dataset.model_copy(update=absolute)})


def _absolute(folder: Path, place: Any) -> Any:
    """Return a path, or a list of paths, as absolute ones; anything else as it is."""
    if isinstance(place, str):
        return str((folder / place).resolve())
    return [_absolute(folder, one) for one in place] if isinstance(place, list) else place


def load_space(source: str | Path) -> SearchSpace:
    """Read the ``space`` section of a run file, or a file that holds nothing but a space.

    Raises:
        ConfigError: With file, line and key of everything that is wrong.
    """
    path, root = _compose(source)
    data = _plain(path, root)
    if "space" not in data:
        return _validated(SearchSpace, data, path, root, ())
    node = next(value for key, value in root.value if key.value == "space")
    return _validated(SearchSpace, data["space"], path, node, ())


def load_plain(source: str | Path) -> dict[str, Any]:
    """Read a run file as it stands there: nothing is checked, and no part of others is imported.

    Raises:
        ConfigError: If it is no YAML.
    """
    return _plain(*_compose(source))


def dump(model: BaseModel) -> str:
    """Return YAML of settings or of a space; reading it gives an equal object."""
    data = model.model_dump(mode="json", exclude_unset=True)
    return yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=120)


def names() -> list[str]:
    """Return the names of the run files that come with kerasnac."""
    return sorted(Path(entry.name).stem for entry in _shipped() if entry.name.endswith(".yaml"))


def _shipped() -> Iterator[Any]:
    try:
        folder: Any = resources.files("kerasnac.searchspaces")
    except ModuleNotFoundError:  # A checkout that is not installed.
        folder = Path(__file__).parents[3] / "searchspaces"
    return iter(folder.iterdir())


def _compose(source: str | Path) -> tuple[Path, yaml.MappingNode]:
    path = Path(source)
    if not path.exists() and str(source) in names():
        path = next(Path(str(entry)) for entry in _shipped() if entry.name == f"{source}.yaml")
    text = _text(path)
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise _not_yaml(path, error) from error
    except RecursionError:
        raise ConfigError(f"{path}: not a run file: its brackets are nested too deeply") from None
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{path}:1: expected keys and values")
    _check_size(path, root)
    return path, root


def _text(path: Path) -> str:
    """Return the text of a file.

    Raises:
        ConfigError: If it cannot be read, is no text or too long for a run file.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"{path}: {reason}; give a YAML file, or one of {', '.join(names())}") from error
    if len(content) > LARGEST_FILE:
        raise ConfigError(f"{path}: not a run file: it is larger than {LARGEST_FILE // 10**6} MB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: not UTF-8: save the file as text in this encoding") from None


def _check_size(path: Path, root: yaml.Node) -> None:
    """Check that the nodes of a file are a tree of sane size, however aliases repeat them.

    Raises:
        ConfigError: If an anchor holds itself, or there is too much.
    """
    count, level = 0, [root]
    for _ in range(DEEPEST):
        level = [child for node in level for child in _children(node)]
        count += len(level)
        if count > MOST_NODES:
            raise ConfigError(f"{path}:{level[0].start_mark.line + 1}: with its aliases, the file has over {MOST_NODES} values")
        if not level:
            return
    line = level[0].start_mark.line + 1
    raise ConfigError(f"{path}:{line}: keys or lists are nested more than {DEEPEST} deep, or an anchor holds itself")


def _plain(path: Path, root: yaml.MappingNode) -> dict[str, Any]:
    for mapping in _mappings(root):
        seen: dict[str, int] = {}
        for key, _ in mapping.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(f"{path}:{line}: a key must be a text")
            if key.value in seen:
                raise ConfigError(f"{path}:{line}: {key.value} stands twice (first in line {seen[key.value]})")
            seen[key.value] = line
    try:
        data: dict[str, Any] = _Loader("").construct_document(root)
    except yaml.YAMLError as error:
        raise _not_yaml(path, error) from error
    return data


def _not_yaml(path: Path, error: yaml.YAMLError) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    where = path if mark is None else f"{path}:{mark.line + 1}"
    return ConfigError(f"{where}: not valid YAML: {' '.join(str(error).split())}")


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [value for _, value in node.value]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _mappings(node: yaml.Node) -> Iterator[yaml.MappingNode]:
    if isinstance(node, yaml.MappingNode):
        yield node
    for child in _children(node):
        yield from _mappings(child)


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``changes`` over ``base``, mappings key by key."""
    both = {k: _merged(base[k], v) for k, v in changes.items() if isinstance(v, Mapping) and isinstance(base.get(k), Mapping)}
    return {**base, **changes, **both}


def _validated(kind: type[M], data: Any, path: Path, root: yaml.Node, prefix: Location) -> M:
    try:
        return kind.model_validate(data, context={"folder": path.parent})
    except ValidationError as error:
        raise ConfigError("\n".join(_message(p, path, root, prefix) for p in own_problems(error))) from None


def _message(problem: Any, path: Path, root: yaml.Node, prefix: Location) -> str:
    depth, line = _found(root, problem["loc"])
    depth_in_profile, line_in_profile = _found(root, prefix + problem["loc"])
    if depth_in_profile - len(prefix) >= depth:
        line = line_in_profile
    return ": ".join(filter(None, (f"{path}:{line}", dotted(problem["loc"]), problem_text(problem))))


def _found(node: yaml.Node, location: Location) -> tuple[int, int]:
    """Return how far into a location there are nodes, and the line of the deepest one."""
    depth, line = 0, 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(part)]
            if found:
                depth, line, node = depth + 1, found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            depth, line = depth + 1, node.start_mark.line + 1
    return depth, line
