"""How docstrings become pages, where Sphinx's own rendering reads badly."""

from __future__ import annotations

import inspect
import re
from html import unescape
from importlib import import_module
from typing import Any

from docutils.nodes import Node
from sphinx.util.docutils import SphinxDirective

PROSE_SECTIONS = ("Returns", "Yields")
NAME = re.compile(r'(<span class="pre">)([^<]+)(</span>)')
LONGEST_WHOLE = 28
"""Characters from which on a name may be broken: shorter ones fit a phone's width."""
BREAK_AFTER = re.compile(r"(?<=[\w\])])([._/])(?=\w)")
CITATION = re.compile(r"\.\. \[(\w+)\] (.*)")
CITED = re.compile(r"\[(\w+)\]_")
ROLE = re.compile(r":(?!math)[\w:]+:`~?(?:[^`<]*?\.)?([^`.<>]+)(?: <[^`]*>)?`")
BOOKKEEPING = re.compile("^_|registry|setup|manager|legacy|transfer_fields|prepare_query_mudata")


def prose_returns(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep a ``Returns`` section of sentences together: napoleon takes each of its lines for a type."""
    for start in [i for i, line in enumerate(lines) if line in PROSE_SECTIONS]:
        first = start + 2
        if not lines[start + 1 : first] or set(lines[start + 1]) != {"-"}:
            continue
        end = next((i for i in range(first, len(lines) - 1) if is_header(lines, i)), len(lines))
        body = lines[first:end]
        if len(body) > 1 and body[1].startswith("    "):  # a type, and its description below
            continue
        field = ":returns:" if lines[start] == "Returns" else ":yields:"
        indented = [f"    {line}" if line else "" for line in body]
        lines[start:end] = ["", f"{field} {body[0]}", *indented[1:]]  # two empty lines end a section
        return


def plain_citations(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Make citations items of a list: their labels hold for the whole site, and methods are on many pages."""
    found: list[str] = []
    for line in lines:
        cited = CITATION.match(line)
        if cited:
            found.append(f"- {cited[1]}: {cited[2]}")
        elif found and found[-1].startswith("- ") and line.startswith("   "):
            found[-1] += f" {line.strip()}"
        else:
            found.append(CITED.sub(r"(\1)", line))
    if any(map(CITATION.match, lines)):
        lines[:] = found


def is_header(lines: list[str], index: int) -> bool:
    """Whether a section begins at this line."""
    underline = lines[index + 1]
    return bool(lines[index]) and len(underline) > 2 and set(underline) == {"-"}


class InheritedMethods(SphinxDirective):
    """What a model has from scvi-tools, each method with its own first sentence."""

    required_arguments = 1

    def run(self) -> list[Node]:
        """Return a list of methods, or nothing for classes that are no model of scvi-tools."""
        home, _, name = self.arguments[0].rpartition(".")
        model = getattr(import_module(home), name)
        stock = next((base for base in model.__mro__ if base.__module__.startswith("scvi.")), None)
        if stock is None or not home.startswith("vmmscvi.model"):
            return []
        path = ".".join([*stock.__module__.split(".")[:2], stock.__name__])
        lines = [f".. rubric:: Inherited from :class:`{path}`", ""]
        for member in dir(model):
            method = getattr(model, member)
            origin = getattr(method, "__module__", None) or ""
            is_inherited = callable(method) and origin.startswith("scvi.")
            if is_inherited and not BOOKKEEPING.search(member) and first_sentence(method):
                lines.append(f"- :meth:`~{path}.{member}`: {first_sentence(method)}")
        return self.parse_text_to_nodes("\n".join(lines))


def first_sentence(function: Any) -> str:
    """Return the first sentence of a docstring, its references as plain code."""
    paragraph = (inspect.getdoc(function) or "").split("\n\n")[0]
    text = ROLE.sub(r"``\1``", " ".join(paragraph.split()))
    return re.split(r"(?<=\.)\s", text)[0]


def break_names(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Let long names break after dots and underscores, and nowhere else; what is copied stays the same."""

    def breakable(match: re.Match[str]) -> str:
        if match[2].startswith("--"):  # browsers break after hyphens
            return match[0].replace('"pre"', '"pre option"')
        if len(unescape(match[2])) < LONGEST_WHOLE:
            return match[0]
        return match[1] + BREAK_AFTER.sub(r"\1<wbr>", match[2]) + match[3]

    if "body" in context:
        context["body"] = NAME.sub(breakable, context["body"])
