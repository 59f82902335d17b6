"""Run files and search spaces as YAML, with errors that name the line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from kerasnac.core.checks import UNKNOWN, cut, dotted, own_problems, problem_text
from kerasnac.core.plugins import lasting_name
from kerasnac.core.settings import RunSettings
from kerasnac.core.settings.changes import nested, suggestion
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


def load_run(source: str | Path, *, profile: str | None = None, changes: Mapping[str, Any] | None = None) -> RunSettings:
    """Read a run file.

    Args:
        source: Path of a YAML file, or the name of one that comes with kerasnac (``bragg_exact``).
        profile: Name of a section under ``profiles`` whose values replace the file's.
        changes: Single settings in place of the file's and the profile's: ``{"firmware.part": "zcu102"}``.

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
    versions = {name: _profiled(path, root, data, name, own) for name, own in profiles.items()}
    if single := nested(changes or {}):
        return _changed(data if profile is None else _merged(data, profiles[profile]), single, path, root)
    return plain if profile is None else versions[profile]


def _changed(data: Mapping[str, Any], single: Mapping[str, Any], path: Path, root: yaml.Node) -> RunSettings:
    """Return settings with single ones of the command line, which stand in no line of the file."""
    nodes = yaml.compose(yaml.safe_dump(single), Loader=_Loader)
    assert nodes is not None
    return _run(_merged(_without_derived(data), single), path, root, Location(), nodes)


def _profiled(path: Path, root: yaml.Node, data: Mapping[str, Any], name: str, changes: Any) -> RunSettings:
    if not isinstance(changes, Mapping):
        _, line = _found(root, ("profiles", name))
        raise ConfigError(f"{path}:{line}: profiles.{name}: expected keys and values")
    return _run(_merged(data, changes), path, root, ("profiles", name))


def _run(
    data: Mapping[str, Any], path: Path, root: yaml.Node, prefix: Location, single: yaml.Node | None = None
) -> RunSettings:
    settings = _validated(RunSettings, data, path, root, prefix, single)
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


def parse_changes(texts: Iterable[str]) -> dict[str, Any]:
    """Return the changes of texts ``KEY=VALUE``, whose values are read as in a run file.

    Raises:
        ConfigError: If one is none.
    """
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key.strip() and equals):
            raise ConfigError(f"--set {cut(text)}: give KEY=VALUE, as firmware.part=zcu102 or compress.bits=[8,6,4]")
        try:
            found[key.strip()] = _Loader(value).get_single_data()
        except (yaml.YAMLError, RecursionError) as error:
            raise ConfigError(f"--set {cut(text)}: the value is no YAML: {' '.join(str(error).split())}") from None
    return found


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
    return _as_yaml(_without_derived(model.model_dump(mode="json", exclude_unset=True)))


def _without_derived(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings without the clock periods that those of the firmware give to other stages."""
    firmware = data.get("firmware")
    period = firmware.get("clock_period") if isinstance(firmware, Mapping) else None

    def own(section: Any) -> Any:
        if not isinstance(section, Mapping) or period is None or section.get("clock_period") != period:
            return section
        return {key: value for key, value in section.items() if key != "clock_period"}

    return {name: own(section) if name in ("search", "compress") else section for name, section in data.items()}


def to_yaml(model: BaseModel) -> str:
    """Return YAML of settings or of a space that any session reads, wherever it is kept.

    Blocks of your own that are of no installed package are named by the path of their file.

    Raises:
        PluginError: If one was defined at a prompt or in a notebook, and so is in no file.
    """
    return _as_yaml(_lasting(model.model_dump(mode="json", exclude_unset=True)))


def _as_yaml(data: Any) -> str:
    return yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=120)


def _lasting(data: Any) -> Any:
    """Return plain data in which all blocks have the names by which other sessions find them."""
    if isinstance(data, Mapping):
        own = {"block": lasting_name(data["block"])} if isinstance(data.get("block"), str) else {}
        return {key: _lasting(value) for key, value in data.items()} | own
    return [_lasting(value) for value in data] if isinstance(data, list) else data


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


def _validated(kind: type[M], data: Any, path: Path, root: yaml.Node, prefix: Location, single: yaml.Node | None = None) -> M:
    try:
        return kind.model_validate(data, context={"folder": path.parent})
    except ValidationError as error:
        places = [(problem, _place(problem["loc"], path, root, prefix, single)) for problem in own_problems(error)]
        raise ConfigError("\n".join(_message(kind, problem, place) for problem, place in places)) from None


def _message(kind: type[BaseModel], problem: Any, place: str) -> str:
    text = problem_text(problem)
    if problem["type"] in UNKNOWN and (known := suggestion(kind, problem["loc"])):
        text = f"{text}; did you mean {known}?"
    return ": ".join(filter(None, (place, dotted(problem["loc"]), text)))


def _place(location: Location, path: Path, root: yaml.Node, prefix: Location, single: yaml.Node | None) -> str:
    """Return where a key stands: in the file, in the profile, or on the command line."""
    depth, line = _found(root, location)
    if single is not None and (_found(single, location)[0] >= max(depth, 1)):
        return "--set"
    depth_in_profile, line_in_profile = _found(root, prefix + location)
    if depth_in_profile - len(prefix) >= depth:
        line = line_in_profile
    return f"{path}:{line}"


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
