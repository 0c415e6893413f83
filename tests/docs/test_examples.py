"""The code of the documentation runs: that of a page in order, as a reader would type it."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import anndata
import numpy as np
import pytest
import scvi
from markdown_it import MarkdownIt
from mudata import MuData

import vmmscvi
from vmmscvi import SCVI_VMM

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOT_EXECUTED = re.compile(r"<!-- not executed: (?P<reason>.+) -->", re.DOTALL)


class Example(NamedTuple):
    """A block of code; ``reason`` says why it is not executed, if it is not."""

    line: int
    code: str
    reason: str | None


def examples_of(page: Path) -> list[Example]:
    """Python blocks in order; a comment right before a block exempts it, and has to say why."""
    found, reason = [], None
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "fence" and token.info.strip() == "python":
            found.append(Example(token.map[0] + 1, token.content, reason))
        comment = NOT_EXECUTED.match(token.content.strip()) if token.type == "html_block" else None
        reason = comment["reason"] if comment else None
    return found


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


PAGES_WITH_EXAMPLES = [page for page in PAGES if any(e.reason is None for e in examples_of(page))]


@pytest.mark.parametrize("page", PAGES_WITH_EXAMPLES, ids=name_of)
def test_the_examples_of_a_page_run_in_their_order(
    page: Path, folder_with_files: Path, run_example: Callable[..., None]
) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for example in examples_of(page):
        if example.reason is None:
            # line numbers of a traceback are those of the page
            run_example("\n" * example.line + example.code, page, namespace)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_examples_that_are_not_executed_are_valid_python(page: Path) -> None:
    for example in examples_of(page):
        compile(example.code, str(page), "exec")


def test_few_examples_are_exempt() -> None:
    exempt = [example for page in PAGES for example in examples_of(page) if example.reason is not None]
    total = sum(len(examples_of(page)) for page in PAGES)
    assert len(exempt) < total / 5


def documented_examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    modules = [
        importlib.import_module(module.name)
        for module in pkgutil.walk_packages(vmmscvi.__path__, "vmmscvi.")
        if not module.name.endswith("__main__")
    ]
    found = [test for module in modules for test in finder.find(module) if test.examples]
    return list({test.name: test for test in found}.values())


class OutputWhereItIsGiven(doctest.OutputChecker):
    """An example without output may print what it likes, as training does."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return not want or super().check_output(want, got, optionflags)


def test_there_are_examples_in_docstrings() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "vmmscvi").rglob("*.py"))
    assert sum(len(test.examples) for test in documented_examples()) == len(re.findall(">>> (?!#)", source))


@pytest.mark.parametrize("example", documented_examples(), ids=lambda example: example.name)
def test_the_examples_of_a_docstring_run(
    example: doctest.DocTest, folder_with_files: Path, shorten: Callable[[doctest.DocTest], None]
) -> None:
    shorten(example)
    adata = anndata.read_h5ad("counts.h5ad")
    mdata = MuData({name: anndata.AnnData(adata.X, obs=adata.obs[[]]) for name in ("rna", "atac")})
    profile = np.asarray(adata.X.mean(axis=0)).ravel()
    example.globs.update(
        adata=adata,
        mdata=mdata,
        profile=profile / profile.sum(),
        SCVI_VMM=SCVI_VMM,
        vmmscvi=vmmscvi,
        scvi=scvi,
    )
    example.globs.setdefault("TOTALVAE", scvi.module.TOTALVAE)
    if not any("model = " in line.source for line in example.examples):
        SCVI_VMM.setup_anndata(adata, batch_key="batch")
        example.globs["model"] = SCVI_VMM(adata)
    runner = doctest.DocTestRunner(OutputWhereItIsGiven())
    assert runner.run(example).failed == 0
