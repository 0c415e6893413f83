"""The page for users of Seurat, with R where it is installed: counts go out, clusters come back."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.io import mmwrite

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "seurat.md"
UNTESTED = "# not run here"


def blocks(language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [block for block in found if UNTESTED not in block]


def run_r(code: str) -> str:
    done = subprocess.run(["Rscript", "-"], input=code, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def require_r(package: str) -> None:
    if shutil.which("Rscript") is None:
        pytest.skip("R is not installed")
    if subprocess.run(["Rscript", "-e", f"library({package})"], capture_output=True, check=False).returncode:
        pytest.skip(f"R has no {package}")


@pytest.fixture
def annotated(folder_with_files: Path) -> AnnData:
    """Results as ``vmmscvi integrate`` writes them, with leaves whose names look like equal numbers."""
    adata = anndata.read_h5ad("counts.h5ad")
    leaves = np.array(["2", "10", "3.1", "3.10"])[np.arange(adata.n_obs) % 4]
    adata.obs["vmm_cluster"] = pd.Categorical([leaf.split(".")[0] for leaf in leaves], ["2", "3", "10"])
    adata.obs["vmm_leaf"] = pd.Categorical(leaves, ["2", "3.1", "3.10", "10"])
    adata.obs["vmm_cluster_probability"] = np.float32(0.5)
    adata.obsm["X_vmm"] = np.random.default_rng(0).normal(size=(adata.n_obs, 4))
    adata.write_h5ad("integrated.h5ad")
    exec(blocks("python")[1], {})
    return adata


def test_tables_are_read_by_r_without_further_packages(annotated: AnnData) -> None:
    require_r("utils")
    reading = blocks("r")[1].split("seurat <-")[0]
    shown = 'write.csv(clusters, "read.csv"); print(dim(embedding)); print(embedding[1, 1])'
    dimensions, value = run_r(f"{reading}\n{shown}\nprint(levels(clusters$vmm_leaf))").splitlines()[:2]
    assert dimensions.split()[1:] == [str(annotated.n_obs), "4"]
    assert float(value.split()[-1]) == pytest.approx(annotated.obsm["X_vmm"][0, 0], abs=1e-3)
    read = pd.read_csv("read.csv", index_col=0, dtype={"vmm_cluster": str, "vmm_leaf": str})
    for name in ("vmm_cluster", "vmm_leaf"):
        assert list(read[name]) == list(annotated.obs[name].astype(str))
    assert (read["vmm_cluster_probability"] == 0.5).all()


QUIETLY = "suppressPackageStartupMessages(library(Seurat))\n"
MADE = """
counts <- as(Matrix::readMM("made.mtx"), "CsparseMatrix")
dimnames(counts) <- list(read.csv("names_of_genes.csv")[[1]], read.csv("names_of_cells.csv")[[1]])
donor <- data.frame(donor = rep_len(c("a", "b"), ncol(counts)), row.names = colnames(counts))
seurat <- CreateSeuratObject(counts, meta.data = donor)
"""
SHOWN = """
cat("\\n", as.character(Idents(seurat)), "\\n", levels(seurat), "\\n", names(seurat@reductions))
"""


def test_counts_go_from_seurat_to_h5ad_and_clusters_come_back(annotated: AnnData) -> None:
    require_r("Seurat")
    mmwrite("made.mtx", annotated.X.T.tocoo())
    for what, names in (("genes", annotated.var_names), ("cells", annotated.obs_names)):
        pd.Series(names).to_csv(f"names_of_{what}.csv", index=False)
    out, back = blocks("r")
    run_r(f"{QUIETLY}{MADE}{out}saveRDS(seurat, 'seurat.rds')")
    exec(blocks("python")[0], {})
    written = anndata.read_h5ad("counts.h5ad")
    assert list(written.obs_names) == list(annotated.obs_names)
    assert list(written.var_names) == list(annotated.var_names)
    assert (written.X != annotated.X).nnz == 0
    assert set(written.obs["donor"]) == {"a", "b"}
    output = run_r(f"{QUIETLY}seurat <- readRDS('seurat.rds')\n{back}{SHOWN}")
    identities, levels, reductions = (line.split() for line in output.splitlines()[-3:])
    assert identities == list(annotated.obs["vmm_cluster"].astype(str))
    assert levels == ["2", "3", "10"]
    assert reductions == ["vmm", "umap"]
