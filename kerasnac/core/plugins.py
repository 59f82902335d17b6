"""Parts of a run that others bring: blocks, datasets, metrics, losses, tasks, sources of costs.

A part is named in one of three ways, in a run file as in Python:

* ``mlp``: one of the built-in parts of its kind, which stand in a table;
* ``twins``: an entry point that an installed package declares in the group of the kind, ``kerasnac.blocks`` for one;
* ``my_package.blocks:Twins`` or ``./my_blocks.py:Twins``: a name in a module, or in a Python file.

Nothing is imported before it is asked for by its name.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache, reduce
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from pydantic import ValidationInfo

from kerasnac.core.checks import cut, shown
from kerasnac.errors import ConfigError, Infeasible, KerasnacError, PluginError

T = TypeVar("T")

#: Beginning of the module names that Python files get.
_FILE = "_kerasnac_file_"


@dataclass(frozen=True)
class Origin:
    """The place that a part comes from.

    Attributes:
        kind: Kind of the part, in one word.
        name: Its name in the run file.
        module: Module, or path of the Python file.
        distribution: Name of the installed package; empty if there is none.
        version: Version of the package, or a hash of the source file if there is none.
    """

    kind: str
    name: str
    module: str
    distribution: str
    version: str

    def to_dict(self) -> dict[str, str]:
        """Return the fields, JSON-ready."""
        return asdict(self)


@dataclass(frozen=True)
class Kind(Generic[T]):
    """One kind of parts.

    Attributes:
        word: Its name in messages.
        group: Its entry points.
        builtin: Names of the built-in parts.
        expected: Description of a part, for whoever has written something else.
        fits: Says whether something is such a part.
    """

    word: str
    group: str
    builtin: Collection[str]
    expected: str
    fits: Callable[[Any], bool]

    def foreign(self, name: str) -> T | None:
        """Return the part of a name; None if it is a built-in one.

        Raises:
            PluginError: If there is no such part, it cannot be imported or is of another kind, or several have this name.
        """
        where = f"{self.word} {cut(name, 200)}"
        if ":" not in name:
            point = self._entry_point(name)
            if point is None:
                return None
            where, name = f"{where} of {_distribution(point)[0]}", point.value.partition(" ")[0]
        part = self._attribute(name, where)
        if not self.fits(part):
            kind = "a class" if inspect.isclass(part) else f"of type {type(part).__name__}"
            raise PluginError(f"{where}: it is {kind}, and not {self.expected}")
        return part  # type: ignore[no-any-return]

    def origin(self, name: str, part: Any) -> Origin:
        """Return where a part of others comes from.

        Args:
            name: Its name in the run file.
            part: The class or function, or what stands under the name in a module.
        """
        module = (
            part.__module__ if _is_defined(part) or ":" not in name else _module(name.rpartition(":")[0], self.word).__name__
        )
        file = _file_of(module)
        for point in [] if ":" in name else self._points(name):
            return Origin(self.word, name, point.module, *_distribution(point))
        for distribution in metadata.packages_distributions().get(module.partition(".")[0], ()):
            return Origin(self.word, name, module, distribution, metadata.version(distribution))
        version = f"sha256 {hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12]}" if file else "no version"
        return Origin(self.word, name, str(file) if module.startswith(_FILE) else module, "", version)

    def names(self) -> list[str]:
        """Return the names of all parts that are built in or installed."""
        return [*self.builtin, *sorted({point.name for point in _entry_points(self.group, tuple(sys.path))})]

    def _entry_point(self, name: str) -> metadata.EntryPoint | None:
        """Return the one entry point of a name; None if the part is built in."""
        points = self._points(name)
        if not points and name not in self.builtin:
            _entry_points.cache_clear()  # The package may have been installed a minute ago, from a notebook.
            points = self._points(name)
        owners = [*["kerasnac"] * (name in self.builtin), *sorted(_distribution(point)[0] for point in points)]
        if len(owners) > 1:
            other = points[0].value
            raise PluginError(
                f"{self.word} {name}: {' and '.join(owners)} have one of this name: uninstall one, or have its entry point "
                f"renamed; {other} is a name that only one has"
            )
        if not owners:
            raise PluginError(
                f"unknown {self.word} {cut(repr(name), 200)}: one of {', '.join(self.names())}, or one of your own as "
                "package.module:name or ./file.py:name; if it is of a package, install that"
            )
        return points[0] if points else None

    def _points(self, name: str) -> list[metadata.EntryPoint]:
        return [point for point in _entry_points(self.group, tuple(sys.path)) if point.name == name]

    def _attribute(self, reference: str, where: str) -> Any:
        place, _, path = reference.rpartition(":")
        module = _module(place, where)
        try:
            return reduce(getattr, path.split("."), module)
        except AttributeError:
            public = {name: value for name, value in vars(module).items() if not name.startswith("_")}
            others = [name for name, value in public.items() if _is_of(module, value) and self.fits(value)]
            has = f"; it has {', '.join(others)}" if others else f", nor any {self.word}"
            raise PluginError(f"{where}: {place} has no {path or 'name after the colon'}{has}") from None


def part_name(name: str, info: ValidationInfo) -> str:
    """Return the name of a part with the absolute path of its Python file, if it is in one.

    A relative path is taken from the folder in the validation context, which is that of the run file.
    """
    return absolute(name, (info.context or {}).get("folder", Path()))


def absolute(name: str, folder: Path = Path()) -> str:
    """Return the name of a part with the absolute path of its Python file, if it is in one.

    Args:
        name: Any name of a part.
        folder: Folder from which a relative path is taken.
    """
    file, colon, attribute = name.rpartition(":")
    if not file.endswith(".py"):
        return name
    return f"{(folder / Path(file).expanduser()).resolve()}{colon}{attribute}"


def name_of(part: Any) -> str:
    """Return the name by which a class or function of a module can be asked for."""
    module = part.__module__
    if module.startswith(_FILE):
        module = sys.modules[module].__file__
    return f"{module}:{part.__qualname__}"


def lasting_name(name: str) -> str:
    """Return the name by which other sessions find a part, too: that of its file, if its module is of no installed package.

    Args:
        name: Any name of a part.

    Raises:
        PluginError: If it was defined at a prompt or in a notebook, and so is in no file.
    """
    module, colon, attribute = name.rpartition(":")
    if not colon or "." in module or module in metadata.packages_distributions():
        return name  # Relative imports of a module of a package would not work in a file alone.
    file = _file_of(module)
    if module == "__main__" and not (file and Path(file).is_file()):
        raise PluginError(
            f"{name} was defined in this notebook or at a prompt, where no other session finds it: move it to a Python file, "
            "and import it from there"
        )
    return f"{Path(file).resolve()}:{attribute}" if file and file.endswith(".py") else name


def function_name(function: Callable[..., Any], what: str) -> str:
    """Return the name by which worker processes ask for a function.

    Args:
        function: A function of a module, or of a Python file.
        what: Its part, for messages.

    Raises:
        ConfigError: If it is not callable, or has no such name, as a lambda.
    """
    if not callable(function):
        raise ConfigError(f"{what} must be a function, not {shown(function)}")
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or "<" in name:
        raise ConfigError(
            f"{what}: {shown(function)} has no name by which worker processes find it: write it with def at the top level of a "
            "module"
        )
    return name_of(function)


@dataclass(frozen=True)
class Portable:
    """Stand-in for a function in a pickle, from which the function itself comes out again.

    A function of a Python file goes by its name, since other processes do not have the module that was made of the file.

    Attributes:
        function: The function.
    """

    function: Callable[..., Any] | None

    def __reduce__(self) -> tuple[Any, ...]:
        if str(getattr(self.function, "__module__", "")).startswith(_FILE):
            return _of_file, (name_of(self.function),)
        return _itself, (self.function,)


def _of_file(name: str) -> Any:
    place, _, path = name.rpartition(":")
    try:
        return reduce(getattr, path.split("."), _module(place, f"function {name}"))
    except AttributeError:
        raise PluginError(f"function {name}: the file has no {path}: it has changed since the run began") from None


def _itself(function: T) -> T:
    return function


def failure(error: BaseException, file: str | None = None) -> str:
    """Describe an exception that code of others has raised, in one line: its type, its text, and the line of the code.

    Args:
        error: The exception, as it was caught.
        file: Source of the part; by default the innermost line is named, wherever it is.
    """
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == file] or frames
    place = f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
    return cut(" ".join(f"{type(error).__name__}: {error}".split()), 300) + place


def source_of(part: Any) -> str | None:
    """Return the path of the source file of a class, function or instance; None if there is none."""
    return _file_of(getattr(part, "__module__", ""))


def _file_of(module: str) -> str | None:
    return getattr(sys.modules.get(module), "__file__", None)


def _is_of(module: ModuleType, value: Any) -> bool:
    """Return false for a class or function that a module has imported from another package."""
    return not _is_defined(value) or str(value.__module__).partition(".")[0] == module.__name__.partition(".")[0]


def _is_defined(value: Any) -> bool:
    """Return true for a class or function, whose module is its own; that of an instance is that of its class."""
    return hasattr(value, "__qualname__") and hasattr(value, "__module__")


@contextmanager
def guarded(what: str, part: Any) -> Iterator[None]:
    """Say which part failed, and where in its source, when code of others raises.

    Args:
        what: The part, and what it was to do.
        part: Its class, function or instance.

    Raises:
        PluginError: In place of any exception that is no message of kerasnac, or of a network that cannot be.
    """
    try:
        yield
    except (KerasnacError, Infeasible):
        raise
    except Exception as error:
        raise PluginError(f"{what} fails: {failure(error, source_of(part))}") from error


@lru_cache(maxsize=32)
def _entry_points(group: str, path: tuple[str, ...]) -> tuple[metadata.EntryPoint, ...]:
    """Return the entry points of a group; the path is that of the imports, with which they change."""
    return tuple(metadata.entry_points(group=group))


def _distribution(point: metadata.EntryPoint) -> tuple[str, str]:
    """Return name and version of the package that an entry point is of."""
    return (point.dist.name, point.dist.version) if point.dist else ("an unknown package", "")


def _module(place: str, where: str) -> ModuleType:
    """Import a module, or a Python file.

    Raises:
        PluginError: If it is not there, or raises while it is imported.
    """
    if not place.endswith(".py") and not all(part.isidentifier() for part in place.split(".")):
        raise PluginError(f"{where}: {place!r} is no module: write package.module:name, or ./file.py:name")
    if "tensorflow" not in sys.modules:  # Code of others may import it, and must get the Keras that kerasnac works with.
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
    try:
        return _file(Path(place), where) if place.endswith(".py") else import_module(place)
    except PluginError:
        raise
    except ModuleNotFoundError as error:
        if error.name and f"{place}.".startswith(f"{error.name}."):
            raise PluginError(
                f"{where}: there is no module {error.name}: install the package that has it, or write the path of its file, "
                "./file.py:name"
            ) from None
        raise PluginError(f"{where}: {place} needs the module {error.name}, which is not installed") from error
    except (Exception, SystemExit) as error:  # Whatever code of others raises.
        raise PluginError(f"{where}: {place} cannot be imported: {failure(error)}") from error


def _file(path: Path, where: str) -> ModuleType:
    """Import a Python file, once per content; other files beside it are no modules for it."""
    path = path.resolve()
    if not path.is_file():
        raise PluginError(f"{where}: there is no file {path}")
    main = getattr(sys.modules["__main__"], "__file__", None)
    if main and Path(main).resolve() == path:
        return sys.modules["__main__"]  # The script that runs would run a second time.
    name = f"{_FILE}{path.stem}_{hashlib.sha256(str(path).encode() + path.read_bytes()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
