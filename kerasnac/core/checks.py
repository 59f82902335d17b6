"""Checks of whatever comes from outside: types, finiteness and sane sizes, with messages in plain words.

Settings, blocks, options of datasets and parameters of layers are declared by annotations. :class:`Checked` and
:data:`CHECKED` make these strict, so that a new key is checked before anybody thinks of it: a text is no number and not
true, nothing is infinite, and what has no bounds of its own gets those of this module.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache, wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar, get_args, get_origin, get_type_hints, is_typeddict

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    create_model,
)
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from kerasnac.errors import ConfigError

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="Checked")

#: Bounds of an integer, of a floating-point number, of the characters of a text and of the entries of a list or mapping that
#: declare none.
LARGEST_INT, LARGEST_FLOAT, LONGEST_TEXT, MOST_ENTRIES = 10**6, 1e15, 10_000, 10_000

#: Characters of a value that a message shows, and of a message; problems that are reported at once.
SHOWN, LONGEST_MESSAGE, MOST_PROBLEMS = 60, 400, 20

#: A seed, as every generator of random numbers takes it.
Seed = Annotated[int, Field(ge=0, lt=2**63)]

#: A number of samples.
Count = Annotated[int, Field(ge=1, le=10**9)]

#: A number of units, channels, steps or the like.
Size = Annotated[int, Field(ge=1)]


def _path(value: Any) -> str | Path:
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise ValueError("expected the path of a file or folder")
    return value


#: Path of a file or folder; whether it exists turns out when it is read.
AnyPath = Annotated[str | Path, PlainValidator(_path)]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _whole(value: Any) -> Any:
    value = _plain(value)
    if isinstance(value, bool | str | bytes):
        raise PydanticKnownError("int_type")
    return value


def _number(value: Any) -> Any:
    value = _plain(value)
    if isinstance(value, bool | str | bytes):
        raise PydanticKnownError("float_type")
    return value


def _entries(value: Any) -> Any:
    """Make a list of one entry of a single value."""
    return (value,) if isinstance(value, str | int | float) else value


#: What is done to a value before it is checked, by the kind of pydantic's schema; strictness and bounds that it then has.
_BEFORE: Mapping[str, Callable[[Any], Any]] = {"int": _whole, "float": _number, "bool": _plain, "tuple": _entries}
_BOUNDS: Mapping[str, Mapping[str, Any]] = {
    "int": {"ge": -LARGEST_INT, "le": LARGEST_INT},
    "float": {"ge": -LARGEST_FLOAT, "le": LARGEST_FLOAT, "allow_inf_nan": False},
    "bool": {"strict": True},
    "str": {"max_length": LONGEST_TEXT},
    "tuple": {"max_length": MOST_ENTRIES},
    "dict": {"max_length": MOST_ENTRIES},
}

#: Bounds that take the place of others.
_INSTEAD = {"ge": "gt", "le": "lt"}

#: Parts of a schema that hold values, and no schemas.
_VALUES = ("default", "expected", "metadata", "config", "serialization")


def _strict(schema: CoreSchema, handler: GetCoreSchemaHandler) -> CoreSchema:
    """Return one of pydantic's schemas with strictness and bounds where it has none of its own."""

    def strict(node: Any) -> Any:
        if isinstance(node, list | tuple):
            return type(node)(map(strict, node))
        if not isinstance(node, dict) or _done(node):
            return node
        kind = node.get("type")
        if kind == "definition-ref":
            target = handler.resolve_ref_schema(node)
            return (
                strict({key: value for key, value in target.items() if key != "ref"}) if target["type"] == "dataclass" else node
            )
        node = {key: value if key in _VALUES else strict(value) for key, value in node.items()}
        if not isinstance(kind, str):
            return node  # The fields of a model, by name.
        given = {bound: value for bound, value in _BOUNDS.get(kind, {}).items() if _INSTEAD.get(bound) not in node}
        node = given | node
        fixed = kind == "tuple" and "variadic_item_index" not in node
        if kind not in _BEFORE or fixed:
            return node
        return core_schema.no_info_before_validator_function(_BEFORE[kind], node)

    made: CoreSchema = strict(handler.resolve_ref_schema(schema))
    return made


def _done(node: Mapping[str, Any]) -> bool:
    """Return true for what is strict already: a value with its function, or another checked model."""
    function = node.get("function")
    return isinstance(function, Mapping) and function.get("function") in _BEFORE.values()


class _Strict:
    """Annotation that makes all numbers, texts and lists inside a type strict and bounded."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _strict(handler(source), handler)


#: Makes any type checked: ``TypeAdapter(Annotated[tuple[int, ...], CHECKED])``.
CHECKED = _Strict()


_SEED: TypeAdapter[int] = TypeAdapter(Annotated[Seed, CHECKED])


def valid_seed(seed: Any) -> int:
    """Return a seed.

    Raises:
        ConfigError: If it is none.
    """
    try:
        return _SEED.validate_python(seed)
    except ValidationError as error:
        raise ConfigError(explained(error, "seed")) from None


class Checked(BaseModel):
    """Frozen model whose keys are all known and whose values are checked strictly.

    Raises:
        ConfigError: From Python, naming the keys that are wrong. ``model_validate`` raises pydantic's error, which knows
            where in a file they stand.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, /, **values: Any) -> None:
        try:
            self.__pydantic_validator__.validate_python(values, self_instance=self)
        except ValidationError as error:
            raise ConfigError(explained(error, type(self).__name__)) from None

    # Says to pydantic that this does what its own one does: models inside others are then made without it.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _strict(handler(source), handler)


#: Plain words for pydantic's, by the type of an error.
_WORDS = {
    "missing": "required key is missing",
    "extra_forbidden": "unknown key",
    "unexpected_keyword_argument": "unknown key",
    "invalid_key": "a key must be a text",
    "tuple_type": "Input should be a list",
    "list_type": "Input should be a list",
    "dict_type": "Input should be keys and values",
    "mapping_type": "Input should be keys and values",
    "model_type": "Input should be keys and values",
    "model_attributes_type": "Input should be keys and values",
    "dataclass_type": "Input should be keys and values",
    "bool_type": "Input should be true or false",
    "string_type": "Input should be a text",
    "too_short": "Input should have at least {min_length} entries",
    "too_long": "Input should have at most {max_length} entries",
}

#: Errors of keys that there are not.
UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")

#: Errors for which the input is not shown: it is what is around the key.
_WITHOUT_INPUT = ("missing", *UNKNOWN)


def with_options(kind: type[S], settings: S | None, options: Mapping[str, Any]) -> S:
    """Return settings with single ones changed.

    Args:
        kind: Class of the settings.
        settings: What is changed; None for the defaults.
        options: New values by name.

    Raises:
        ConfigError: If these are no such settings, a name is unknown, or a value is wrong.
    """
    if settings is None:
        settings = kind()
    if not isinstance(settings, kind):
        raise ConfigError(f"settings must be {kind.__name__}, not {shown(settings)}; single ones are keyword arguments")
    if unknown := [name for name in options if name not in kind.model_fields]:
        raise ConfigError(f"there is no setting {unknown[0]!r}: there are {', '.join(kind.model_fields)}")
    if not options:
        return settings
    try:
        return kind.model_validate(settings.model_dump(exclude_unset=True) | dict(options))
    except ValidationError as error:
        raise ConfigError(explained(error, "")) from None


def problem_text(problem: Any) -> str:
    """Return one of the problems of pydantic's ``error.errors()`` in plain words, in one line."""
    words = _WORDS.get(problem["type"])
    text = problem["msg"].removeprefix("Value error, ") if words is None else words.format(**problem.get("ctx", {}))
    if problem["type"] not in _WITHOUT_INPUT and not isinstance(problem["input"], Mapping | list | tuple | BaseModel):
        text = f"{text} (got {shown(problem['input'])})"
    return cut(" ".join(text.split()), LONGEST_MESSAGE)


def own_problems(error: ValidationError) -> list[Any]:
    """Return pydantic's problems without their echoes: one deep inside makes the lists around it "too short"."""
    problems = error.errors(include_url=False)
    around = {p["loc"][:depth] for p in problems for depth in range(len(p["loc"]))}
    return [p for p in problems if p["loc"] not in around][:MOST_PROBLEMS]


def explained(error: ValidationError, where: str) -> str:
    """Return the first problem in one line: where, key, what is wrong.

    Args:
        error: Pydantic's.
        where: What is not valid: a file, a function, a layer.
    """
    problem = own_problems(error)[0]
    return ": ".join(filter(None, (where, dotted(problem["loc"]), problem_text(problem))))


def dotted(place: tuple[str | int, ...]) -> str:
    """Return the place of a key in one word: ``space.blocks.1``."""
    return ".".join(cut(str(part)) for part in place)


def shown(value: Any) -> str:
    """Return a value as a message shows it: short, and whatever it is."""
    try:
        return cut(repr(value))
    except Exception:  # Of a number with thousands of digits, or of a class of somebody's own.
        return f"a value of type {type(value).__name__}"


def cut(text: str, longest: int = SHOWN) -> str:
    """Return the beginning of a text, with dots if there is more."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def valid_fields(instance: Any) -> dict[str, Any]:
    """Return the fields of a dataclass as their annotations make them: integers in float fields as floats.

    Raises:
        ConfigError: Naming the class and the first field that is wrong.
    """
    values = {field.name: getattr(instance, field.name) for field in fields(instance)}
    return dict(_fields_model(type(instance))(**values))  # type: ignore[arg-type]


@cache
def _fields_model(kind: type[Any]) -> type[Checked]:
    return _model(kind.__name__, {name: (hint, ...) for name, hint in get_type_hints(kind, include_extras=True).items()})


def _model(name: str, definitions: Mapping[str, Any]) -> type[Checked]:
    made: type[Checked] = create_model(name, __base__=Checked, **definitions)
    return made


def checked(function: Callable[P, T]) -> Callable[P, T]:
    """Check the arguments of a function against its annotations, as settings are."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        bound = inspect.signature(function).bind(*args, **kwargs)
        extra = next((p.name for p in bound.signature.parameters.values() if p.kind is p.VAR_KEYWORD), "")
        given = bound.arguments | bound.arguments.pop(extra, {})
        return function(**check_arguments(function, given, function.__name__))  # type: ignore[call-arg]

    return call


def check_arguments(function: Callable[..., Any], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return keyword arguments of a function as its annotations make them.

    Args:
        function: Its parameters must all have annotations, and names.
        given: Arguments by name.
        where: What the arguments are of, for messages.

    Raises:
        ConfigError: Naming the argument that is unknown, missing or wrong.
    """
    try:
        made = _arguments_model(inspect.unwrap(function)).model_validate(dict(given))
    except ValidationError as error:
        raise ConfigError(explained(error, where)) from None
    return {name: getattr(made, name) for name in made.model_fields_set}


@cache
def _arguments_model(function: Callable[..., Any]) -> type[Checked]:
    hints = get_type_hints(function, include_extras=True)
    definitions: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        hint = hints[parameter.name]
        if parameter.kind is parameter.VAR_KEYWORD:
            (options,) = get_args(hint)
            assert is_typeddict(options), "keyword arguments of any name must be declared: Unpack[Options]"
            definitions |= {name: (one, None) for name, one in get_type_hints(options, include_extras=True).items()}
        else:
            any_array = get_origin(hint) is np.ndarray  # Looked at by whoever gets it.
            definitions[parameter.name] = (Any if any_array else hint, ... if parameter.default is parameter.empty else None)
    return _model(function.__name__, definitions)
