"""Notebooks are complete, clean and small as they are stored, and run from a clean kernel (slow)."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TUTORIALS = ROOT / "tutorials"
NOTEBOOKS = sorted(path.name for path in TUTORIALS.glob("*.ipynb"))
LARGEST_SIZE = 1_000_000
SECONDS_PER_CELL = 900  # in CI; a whole notebook takes one or two minutes of computing
OF_A_MACHINE = re.compile(r"(?<![\w.])(/(home|root|tmp|work|Users|opt|usr|mnt|private)/|[A-Z]:\\)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
NAME = re.compile(r"[\w-]+\.ipynb")


def read(name: str) -> dict[str, Any]:
    return json.loads((TUTORIALS / name).read_text(encoding="utf-8"))


def cells(notebook: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def kinds(cell: dict[str, Any]) -> list[list[str]]:
    """What a cell shows: for each output the forms in which it is stored, such as text or image."""
    return [sorted(output.get("data", {output["output_type"]: ""})) for output in cell["outputs"]]


def texts(notebook: dict[str, Any]) -> list[str]:
    """All that can be read in a notebook, images left out."""
    found = [source(cell) for cell in notebook["cells"]]
    for cell in cells(notebook, "code"):
        for output in cell["outputs"]:
            data = {**output.get("data", {}), "stream": output.get("text", "")}
            found += ["".join(text) for form, text in data.items() if not form.startswith("image/")]
    return found


def test_the_six_tutorials_are_there() -> None:
    expected = {"atac", "cite_seq", "compare_priors", "images", "integrate_and_cluster", "map_a_query"}
    assert expected <= {name.removesuffix(".ipynb") for name in NOTEBOOKS}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_cell_has_been_run_in_order_without_error_or_talk(name: str) -> None:
    code = cells(read(name), "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"display_data", "execute_result"}
    assert any("image/png" in output["data"] for output in outputs)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_is_small_and_says_nothing_of_the_machine_it_was_run_on(name: str) -> None:
    notebook = read(name)
    assert (TUTORIALS / name).stat().st_size < LARGEST_SIZE
    assert [text for text in texts(notebook) if OF_A_MACHINE.search(text)] == []
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert all("execution" not in cell["metadata"] for cell in notebook["cells"])


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_is_valid_and_its_code_is_plain_python(name: str) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbformat.validate(nbformat.read(TUTORIALS / name, as_version=4))
    for cell in cells(read(name), "code"):
        ast.parse(source(cell))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_no_model_of_a_tutorial_is_given_labels(name: str) -> None:
    code = "\n".join(source(cell) for cell in cells(read(name), "code"))
    assert "labels_key" not in code and 'start="labels"' not in code


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_links_to_files_of_the_repository_lead_somewhere(name: str) -> None:
    links = [link for cell in cells(read(name), "markdown") for link in LINK.findall(source(cell))]
    local = [link.split("#")[0] for link in links if not re.match(r"https?://|#", link)]
    assert [link for link in local if not (TUTORIALS / link).exists()] == []


@pytest.mark.parametrize("page", ["tutorials/README.md", "docs/tutorials/index.md"])
def test_overviews_name_all_tutorials_and_no_others(page: str) -> None:
    assert set(NAME.findall((ROOT / page).read_text(encoding="utf-8"))) == set(NOTEBOOKS)


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_runs_from_a_clean_kernel_and_shows_what_is_stored(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient", reason="nbclient runs notebooks")
    pytest.importorskip("ipykernel", reason="ipykernel runs notebooks")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel's own backend stores figures
    notebook = nbformat.read(TUTORIALS / name, as_version=4)
    stored = [kinds(cell) for cell in cells(notebook, "code")]
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(
        notebook, timeout=SECONDS_PER_CELL, kernel_name="python3", resources=resources
    ).execute()
    assert [kinds(cell) for cell in cells(notebook, "code")] == stored
