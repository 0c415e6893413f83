"""The examples of the documentation, and a folder in which they can run."""

from __future__ import annotations

import ast
import doctest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scvi
from anndata import AnnData

from vmmscvi._threads import training_threads_kept
from vmmscvi.data import simulate_counts
from vmmscvi.model._training_mixin import TrainingMixin

N_CELLS = {"counts": 240, "reference": 240, "query": 120}
N_EPOCHS = 20
"""The tests check that examples run, and that there are several clusters, but no other results."""
DISTINCT = {"marker_log_fold_change": 3.0}
SMALLER: dict[str, dict[str, Any]] = {
    "simulate_counts": {"n_cells": N_CELLS["counts"]},
    "simulate_cite": {"n_cells": 240, "n_genes": 80, **DISTINCT},
    # few fragments: of many in few peaks, zeros and ones would be ones
    "simulate_peaks": {"n_cells": 240, "n_peaks": 200, "depth": 150.0, "n_markers": 10, **DISTINCT},
    "simulate_multiome": {"n_cells": 240, "n_genes": 80, "n_peaks": 200, "rna": DISTINCT, "peaks": DISTINCT},
}
"""What examples simulate, whatever size they ask for; types are so distinct that few epochs find them."""


SHORTER: dict[str, dict[str, Any]] = {
    "VAE": {"max_epochs": N_EPOCHS},
    "scvi_vmm": {"max_epochs": N_EPOCHS},
    "load_digits": {"n_class": 2},
}
"""What examples ask of slow functions, those in docstrings too."""


def train_shortly(model: Any, **given: Any) -> None:
    """Train for few epochs, on the CPU and without a progress bar."""
    few_steps_are_enough = {"batch_size": 32, "lr": 1e-2} if isinstance(model, TrainingMixin) else {}
    short = {"max_epochs": N_EPOCHS, "accelerator": "cpu", "enable_progress_bar": False}
    model.train(**given | few_steps_are_enough | short)


class Smaller(ast.NodeTransformer):
    """Change the arguments in the calls of an example, and let its models train shortly."""

    def __init__(self, arguments: dict[str, dict[str, Any]]) -> None:
        self.arguments = arguments

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        name = getattr(node.func, "attr", None) or getattr(node.func, "id", None)
        if name == "train" and isinstance(node.func, ast.Attribute):
            node.args.insert(0, node.func.value)
            node.func = ast.Name(train_shortly.__name__, ast.Load())
        elif name in self.arguments:
            others = [keyword for keyword in node.keywords if keyword.arg not in self.arguments[name]]
            wanted = [
                ast.keyword(argument, ast.parse(repr(value), mode="eval").body)
                for argument, value in self.arguments[name].items()
            ]
            node.keywords = others + wanted
        return ast.fix_missing_locations(node)


@pytest.fixture
def run_example() -> Callable[..., None]:
    """Run the code of a page with fewer cells and epochs; lines of a traceback are those of the code."""

    def run(code: str, page: Path, namespace: dict[str, Any]) -> None:
        tree = Smaller(SMALLER | SHORTER).visit(ast.parse(code))
        namespace[train_shortly.__name__] = train_shortly
        exec(compile(tree, str(page), "exec"), namespace)

    return run


@pytest.fixture
def shorten() -> Callable[[doctest.DocTest], None]:
    """Let the example of a docstring train shortly; its data are as documented."""

    def change(example: doctest.DocTest) -> None:
        for line in example.examples:
            line.source = ast.unparse(Smaller(SHORTER).visit(ast.parse(line.source))) + "\n"
        example.globs[train_shortly.__name__] = train_shortly

    return change


@pytest.fixture(scope="session")
def files() -> dict[str, AnnData]:
    """What the examples read: counts of four types in two batches, in two donors' more for a query."""
    drawn = {}
    for i, (name, n_cells) in enumerate(N_CELLS.items()):
        adata = simulate_counts(
            n_cells=n_cells, n_genes=80, n_types=4, marker_log_fold_change=3.0, n_batches=2, seed=i
        )
        types = adata.obs["cell_type"].cat.add_categories("unknown")
        adata.obs["cell_type"] = types.where(np.arange(n_cells) % 10 > 0, "unknown")
        if name == "query":
            adata.obs["batch"] = adata.obs["batch"].cat.rename_categories(lambda batch: f"query_{batch}")
        adata.layers["counts"] = adata.layers["fragments"] = adata.X.copy()
        adata.obsm["protein"] = adata[:, :10].to_df()
        adata.obs["chemistry"] = np.random.default_rng(0).choice(["v2", "v3"], n_cells)
        adata.uns.clear()
        adata.varm.clear()
        drawn[name] = adata
    return drawn


@pytest.fixture
def folder_with_files(
    files: dict[str, AnnData], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_umap: None
) -> Any:
    """An empty folder with the files that examples read; no window opens."""
    for name, adata in files.items():
        adata.copy().write_h5ad(tmp_path / f"{name}.h5ad")
    monkeypatch.chdir(tmp_path)
    scvi.settings.seed = 0
    with mpl.rc_context({"backend": "Agg"}), training_threads_kept():
        yield tmp_path
    plt.close("all")
