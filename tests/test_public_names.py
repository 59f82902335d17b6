"""The public names: type checkers, imports and the documentation know the same ones."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from inspect import getdoc
from pathlib import Path

import pytest

import kerasnac

SOURCE = ast.parse(Path(kerasnac.__file__).read_text(encoding="utf-8"))


def imported() -> dict[str, str]:
    """Path of every name that type checkers find, as in the table of the names that are loaded on first use."""
    (block,) = (node for node in SOURCE.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    paths: dict[str, str] = {}
    renamed: dict[str, str] = {}
    for node in block.body:
        if isinstance(node, ast.ImportFrom):
            assert node.module is not None
            for alias in node.names:
                path = f"{node.module}:{alias.name}".removeprefix("kerasnac").lstrip(".:")
                module = Path(kerasnac.__file__).parent / path.replace(":", "/").replace(".", "/")
                is_module = module.is_dir() or module.with_suffix(".py").is_file()
                found = path.replace(":", ".") if is_module else path
                (paths if alias.asname == alias.name else renamed)[alias.name] = found
        else:
            assert isinstance(node, ast.Assign)
            (target,) = node.targets
            names, values = ast.unparse(target).strip("()").split(", "), ast.unparse(node.value).strip("()").split(", ")
            paths |= {name: renamed[value] for name, value in zip(names, values, strict=True)}
    return paths


def test_type_checkers_see_what_is_loaded() -> None:
    assert imported() == kerasnac._PUBLIC
    assert kerasnac.__all__ == sorted(kerasnac._PUBLIC)
    assert set(kerasnac.__all__) <= set(dir(kerasnac))


@pytest.mark.parametrize("name", kerasnac.__all__)
def test_every_name_is_there_and_documented(name: str) -> None:
    found = getattr(kerasnac, name)
    module, _, attribute = f"kerasnac.{kerasnac._PUBLIC[name]}".partition(":")
    assert found is (getattr(import_module(module), attribute) if attribute else import_module(module))
    assert getdoc(found), f"{name} has no docstring"
    assert kerasnac.__doc__ is not None
    assert re.search(rf"\b{name}\b", kerasnac.__doc__.split("\n\n", 3)[-1]), f"{name} is not in the module's docstring"


def test_the_documentation_fits_one_screen() -> None:
    assert kerasnac.__doc__ is not None
    assert len(kerasnac.__doc__.splitlines()) <= 30


def test_another_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        kerasnac.nonsense  # noqa: B018
