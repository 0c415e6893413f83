"""The documentation is written in plain English: patterns that make a sentence hard to read do not occur."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(ROOT.glob("benchmarks/*.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(ROOT.glob("tutorials/*.md")),
    *sorted(ROOT.glob("tutorials/*.ipynb")),
]
PATTERNS = {
    "a clause with 'what' where a noun will do": r"\b[Ww]hat\b(?!([^.\n|]|\.\d)*\?)",
    "'of which', 'of whom'": r"\bof (which|whom)\b",
    "'that it', 'that they'": r"\bthat (it|they)\b",
    "'as it is', 'as they were'": r"\bas (it|they) (is|are|was|were|has|have|had)\b",
    "'so that': two sentences": r"\bso that\b",
    "'is said', 'is told': name who says it": r"\b(is|are|was|were) (said|told|looked)\b",
    "'tell apart': separate, distinguish": r"\b(tell|tells|told)\b[^.\n]{0,20}\bapart\b",
    "'go on': continue": r"\b(go|goes|going|went) on\b",
    "'weighed against': relative to": r"\bweighed\b",
    "'anew': again": r"\banew\b",
    "'what is left', 'is left': remaining": r"\b(is|are) left\b(?! out| over)",
    "'how fine': granularity": r"\b[Hh]ow (fine|finely|coarse)\b",
    "'start' of a prior: initialise": r"\b([Pp]rior|mixture) starts\b|\b(default|fresh) start\b",
    "a sentence without a verb that begins with 'Of'": r"(?:^|(?<=[.:] ))Of (?!\w+ing\b)",
}
QUOTED = re.compile(r'"[^"\n]{1,60}"')


def prose(page: Path) -> Iterator[str]:
    """Lines of text: code, formulae, addresses, quotations and metadata are left out."""
    if page.suffix == ".ipynb":
        notebook = json.loads(page.read_text(encoding="utf-8"))
        cells = [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
        text = "\n".join("".join(cell) for cell in cells)
    else:
        text = page.read_text(encoding="utf-8")
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    text = re.sub(r"^( *)(`{3}|\$\$).*?^\1\2", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"`[^`]*`|\$[^$\n]*\$|\]\([^)]*\)|<!--.*?-->", "", text, flags=re.DOTALL)
    yield from QUOTED.sub("", text).splitlines()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_sentences_are_plain(page: Path) -> None:
    found = [
        f"{name}: {line.strip()}"
        for line in prose(page)
        for name, pattern in PATTERNS.items()
        if re.search(pattern, line)
    ]
    assert not found, "\n".join(found)


def test_patterns_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("What is left goes on.\n\nWhat is a prior?\n\n`what` is code.\n", encoding="utf-8")
    matched = [
        [name for name, pattern in PATTERNS.items() if re.search(pattern, line)] for line in prose(page)
    ]
    assert [len(names) for names in matched] == [3, 0, 0, 0, 0]
