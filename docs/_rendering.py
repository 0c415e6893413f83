"""How docstrings become pages, where Sphinx's own rendering reads badly."""

from __future__ import annotations

import inspect
import re
from typing import Any

PROSE_SECTIONS = ("Returns", "Yields")
SPAN = re.compile(r'(<span class="pre">)([^<]+)(</span>)')
BREAK_AFTER = re.compile(r"(?<=[\w\])])([._/])(?=\w)")
ROLE = re.compile(r":[\w:]+:`~?(?:[^`<]*?\.)?([^`.<>]+)(?: <[^`]*>)?`")
PACKAGE = "vmmscvi"


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
        lines[start:end] = [f"{field} {body[0]}", *indented[1:]]
        return


def is_header(lines: list[str], index: int) -> bool:
    """Whether a section begins at this line."""
    underline = lines[index + 1]
    return bool(lines[index]) and len(underline) > 2 and set(underline) == {"-"}


def list_inherited(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """List what a model has from scvi-tools, each method with its own first sentence."""
    stock = next((base for base in getattr(obj, "__mro__", ()) if base.__module__.startswith("scvi.")), None)
    if what != "class" or stock is None or not name.startswith(f"{PACKAGE}.model."):
        return
    lines += ["", f".. rubric:: Inherited from :class:`scvi.model.{stock.__name__}`", ""]
    for member in sorted(set(dir(obj))):
        function = getattr(obj, member)
        summary = first_sentence(function)
        if member.startswith("_") or not callable(function) or not summary:
            continue
        if getattr(function, "__module__", "").startswith("scvi."):
            lines.append(f"- :meth:`~{stock.__module__}.{stock.__name__}.{member}`: {summary}")
    lines.append("")


def first_sentence(function: Any) -> str:
    """Return the first sentence of a docstring, its references as plain code."""
    paragraph = (inspect.getdoc(function) or "").split("\n\n")[0]
    text = ROLE.sub(r"``\1``", " ".join(paragraph.split()))
    return re.split(r"(?<=\.)\s", text)[0]


def break_names(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Let long names break after dots and underscores, and nowhere else; what is copied stays the same."""

    def breakable(match: re.Match[str]) -> str:
        return match[1] + BREAK_AFTER.sub(r"\1<wbr>", match[2]) + match[3]

    if "body" in context:
        context["body"] = SPAN.sub(breakable, context["body"])
