"""Every public object is in the reference, with a docstring that names its parameters."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
import typer

import vmmscvi
from vmmscvi.cli import app

ROOT = Path(__file__).parents[2]
API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
LISTED = re.findall(r"^   (vmmscvi[\w.]*)$", API, flags=re.MULTILINE)
FOLDERS = {"vmmscvi.cli"}
"""Public modules whose reference is another page: the command line's."""


def is_public(name: str) -> bool:
    return not any(part.startswith("_") for part in name.split("."))


def public_modules() -> list[ModuleType]:
    """Modules with an ``__all__`` and no underscore in their name."""
    names = [module.name for module in pkgutil.walk_packages(vmmscvi.__path__, "vmmscvi.")]
    modules = [importlib.import_module(name) for name in names if is_public(name) and name not in FOLDERS]
    return [module for module in modules if hasattr(module, "__all__")]


def has_page(value: Any) -> bool:
    return inspect.isclass(value) or inspect.isfunction(value)


PUBLIC = [(module.__name__, name) for module in public_modules() for name in module.__all__]
OBJECTS = {
    f"{home}.{name}": getattr(importlib.import_module(home), name)
    for home, name in PUBLIC
    if has_page(getattr(importlib.import_module(home), name))
}


def functions_of(name: str) -> Iterator[tuple[str, Any]]:
    """A function itself; of a class, the public methods and properties that its package defines."""
    value = OBJECTS[name]
    if not inspect.isclass(value):
        yield name, value
        return
    for attribute in dir(value):
        member = inspect.getattr_static(value, attribute)
        if isinstance(member, classmethod | staticmethod):
            member = member.__func__
        member = member.fget if isinstance(member, property) else member
        if is_public(attribute) and inspect.isfunction(member) and member.__module__.startswith("vmmscvi"):
            yield f"{name}.{attribute}", member


@pytest.mark.parametrize(("home", "name"), PUBLIC, ids=lambda value: value)
def test_every_public_name_is_in_the_reference(home: str, name: str) -> None:
    value = getattr(importlib.import_module(home), name)
    if inspect.ismodule(value):
        assert value.__name__ in LISTED
    elif has_page(value):  # the module's page lists its classes and functions
        assert home in LISTED
    else:
        assert f"`{home}.{name}`" in API


def test_the_package_offers_its_modules_and_the_model() -> None:
    for name in vmmscvi.__all__:
        value = getattr(vmmscvi, name)
        assert f"`vmmscvi.{name}`" in API or (inspect.ismodule(value) and value.__name__ in LISTED)


def test_whatever_the_reference_lists_exists() -> None:
    assert len(LISTED) == len(set(LISTED))
    for name in LISTED:
        assert inspect.ismodule(importlib.import_module(name))


@pytest.mark.parametrize("name", LISTED)
def test_modules_have_docstrings(name: str) -> None:
    assert importlib.import_module(name).__doc__


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_and_their_methods_have_docstrings(name: str) -> None:
    assert OBJECTS[name].__doc__
    for member_name, member in functions_of(name):
        assert inspect.getdoc(member), member_name


def test_the_page_of_a_class_shows_what_it_inherits_from_our_own_and_leaves_out_the_rest() -> None:
    template = (ROOT / "docs" / "_templates" / "autosummary" / "class.rst").read_text(encoding="utf-8")
    assert ":members:" in template and ":inherited-members:" in template
    is_of_others = runpy.run_path(str(ROOT / "docs" / "conf.py"))["is_of_others"]
    model = vmmscvi.SCVI_VMM
    for name in ("train", "predict", "get_cluster_probabilities", "get_cluster_tree", "from_scvi_model"):
        assert not is_of_others(None, "class", name, getattr(model, name), False, None)
    for name in ("save", "get_elbo", "view_anndata_setup", "is_trained"):
        member = inspect.getattr_static(model, name)
        member = member if isinstance(member, property) else getattr(model, name)
        assert is_of_others(None, "class", name, member, False, None)


@pytest.mark.parametrize("name", OBJECTS)
def test_parameters_of_objects_are_documented(name: str) -> None:
    value = OBJECTS[name]
    if inspect.isclass(value) and issubclass(value, Exception):
        return
    documented = set(re.findall(r"\*{0,2}(\w+)", section(value.__doc__, "Parameters", "Attributes")))
    undocumented = set(inspect.signature(value).parameters) - documented - {"args", "kwargs"}
    assert not undocumented


def section(docstring: str, *titles: str) -> str:
    """Lines of a numpydoc section that name parameters."""
    found = []
    for title in titles:
        match = re.search(
            rf"^( *){title}\n\1-+\n(.*?)(?=\n\n\1\w[^\n]*\n\1-+\n|\Z)",
            docstring,
            flags=re.MULTILINE | re.DOTALL,
        )
        if match:
            lines = match[2].splitlines()
            found += [line for line in lines if re.match(rf"{match[1]}[\w*]", line)]
    return "\n".join(found)


@pytest.mark.parametrize("alias", ["Inference", "WishartScale", "PriorName", "PseudoInputSpace"])
def test_values_of_arguments_are_all_named(alias: str) -> None:
    home = vmmscvi.priors if hasattr(vmmscvi.priors, alias) else vmmscvi.module
    row = next(line for line in API.splitlines() if f".{alias}`" in line)
    members = get_args(getattr(home, alias))
    values = [
        value for member in members for value in (get_args(member) or (member,)) if isinstance(value, str)
    ]
    assert values and all(f'`"{value}"`' in row for value in values)


def test_the_command_line_has_a_page_with_all_commands_and_no_other_options() -> None:
    page = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
    group = typer.main.get_command(app)
    for name, command in group.commands.items():
        for path in [f"{name} {part}" for part in getattr(command, "commands", {})] or [name]:
            assert f"vmmscvi {path}" in page or f"vmmscvi {path.split()[0]} {path.split()[1]}" in page
    options = {option for parameter in group.commands["integrate"].params for option in parameter.opts}
    assert set(re.findall(r"--[a-z-]+[a-z]", page)) <= options | {"--help"}
