"""Links between files lead somewhere, on the site and where the files are read as they are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(ROOT.glob("benchmarks/*.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
    *sorted(ROOT.glob("tutorials/*.md")),
    *sorted(ROOT.glob("tutorials/*.ipynb")),
]
DEEPEST_ANCHOR = 3
"""Level of the headings that have an anchor on the site: ``myst_heading_anchors`` in ``docs/conf.py``."""
DIRECTIVE = re.compile(r"\{(?:image|figure|include)\} *(\S+)")


def text_of(page: Path) -> str:
    """Markdown of a page or of the text cells of a notebook."""
    text = page.read_text(encoding="utf-8")
    if page.suffix != ".ipynb":
        return re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    cells = [cell["source"] for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
    return "\n\n".join("".join(cell) for cell in cells)


def walk(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from walk(token.children or [])


def targets(page: Path) -> Iterator[str]:
    """Addresses of links, images and files that directives take."""
    for token in walk(MarkdownIt().enable("table").parse(text_of(page))):
        yield str(token.attrs.get("href") or token.attrs.get("src") or "")
        if token.type == "fence" and (directive := DIRECTIVE.match(token.info.strip())):
            yield directive[1]


def anchors(page: Path) -> set[str]:
    """Anchors that GitHub and the site give to headings."""
    tokens = MarkdownIt().parse(text_of(page))
    titles = [
        title.content
        for heading, title in pairwise(tokens)
        if heading.type == "heading_open" and int(heading.tag[1:]) <= DEEPEST_ANCHOR
    ]
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in titles}


def in_the_repository(page: Path, path: str) -> Path:
    linked = (page.parent / path).resolve() if path else page
    if linked.suffix == ".ipynb" and linked.parent == ROOT / "docs" / "tutorials":
        return ROOT / "tutorials" / linked.name  # where the site takes notebooks from
    return linked


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_local_links_lead_to_files_and_headings(page: Path) -> None:
    for target in targets(page):
        address = urlsplit(target)
        if not target or address.scheme:
            continue
        linked = in_the_repository(page, address.path)
        assert linked.exists(), target
        if address.fragment and linked.suffix in (".md", ".ipynb"):
            assert address.fragment in anchors(linked), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_blocks_are_closed(page: Path) -> None:
    text = text_of(page)
    blocks = [token for token in MarkdownIt().parse(text) if token.type == "fence"]
    assert not [block.info for block in blocks if re.search(r"^ *`{3}", block.content, flags=re.MULTILINE)]
    assert len(re.findall(r"^ *`{3}", text, flags=re.MULTILINE)) == 2 * len(blocks)
    for opening, closing in ((r"^:{3}\{", r"^:{3}$"), ("^<details>", "^</details>")):
        n_opened, n_closed = (len(re.findall(line, text, flags=re.MULTILINE)) for line in (opening, closing))
        assert n_opened == n_closed


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


@pytest.mark.parametrize("link", ["missing.md", "#missing"])
def test_a_link_that_leads_nowhere_is_found(link: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# A title, `code`\n\n[a](page.md#a-title-code) [b]({link})\n", encoding="utf-8")
    assert anchors(page) == {"a-title-code"}
    with pytest.raises(AssertionError, match=link):
        test_local_links_lead_to_files_and_headings(page)
