"""Links between files lead somewhere, on the site and where the files are read as they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("tutorials/*.md"))]


def walk(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from walk(token.children or [])


def local_targets(page: Path) -> Iterator[str]:
    for token in walk(MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8"))):
        target = str(token.attrs.get("href") or token.attrs.get("src") or "")
        if target and not urlsplit(target).scheme and urlsplit(target).path:
            yield urlsplit(target).path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_local_links_lead_to_files(page: Path) -> None:
    for target in local_targets(page):
        linked = (page.parent / target).resolve()
        if linked.suffix == ".ipynb" and linked.parent == ROOT / "docs" / "tutorials":
            linked = ROOT / "tutorials" / linked.name  # where the site takes notebooks from
        assert linked.exists(), target


def test_every_page_of_the_site_is_in_a_table_of_contents() -> None:
    docs = ROOT / "docs"
    pages = {page.relative_to(docs).with_suffix("") for page in docs.glob("**/*.md")} - {Path("index")}
    listed = set()
    for page in docs.glob("**/*.md"):
        for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
            if token.type == "fence" and token.info.strip() == "{toctree}":
                entries = [line for line in token.content.splitlines() if line and not line.startswith(":")]
                listed |= {(page.parent / entry).relative_to(docs) for entry in entries}
    assert pages <= listed
