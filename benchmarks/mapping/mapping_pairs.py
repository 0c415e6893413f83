"""Pairs of a reference and a query; labels of both are for scoring."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import anndata as ad
import numpy as np
import pandas as pd

COMMON_TYPES = {
    "B cells": "B",
    "CD4 T cells": "CD4 T",
    "CD8 T cells": "CD8 T",
    "NK cells": "NK",
    "Megakaryocytes": "Megakaryocyte",
    "Dendritic cells": "DC",
    "CD14+ Monocytes": "Monocyte",
    "FCGR3A+ Monocytes": "Monocyte",
}
"""Types of ``kang_8donors`` in the words of ``pbmc_2src``."""


class Pair(NamedTuple):
    """A reference and a query with the same genes, ``obs["batch"]`` and ``obs["cell_type"]``."""

    reference: ad.AnnData
    query: ad.AnnData


def donors(folder: Path, left_out: str = "") -> Pair:
    """Six donors against two, a type left out of the six."""
    adata = ad.read_h5ad(folder / "kang_8donors.h5ad")
    in_query = adata.obs["batch"].isin(sorted(adata.obs["batch"].unique())[-2:]).to_numpy()
    is_left_out = (adata.obs["cell_type"] == left_out).to_numpy()
    return _split(adata, ~in_query & ~is_left_out, in_query)


def sources(folder: Path, query: str) -> Pair:
    """One source of blood cells against the other; the reference has a single batch."""
    adata = ad.read_h5ad(folder / "pbmc_2src.h5ad")
    in_query = (adata.obs["batch"] == query).to_numpy()
    return _split(adata, ~in_query, in_query)


def protocols(folder: Path, prefix: str) -> Pair:
    """One protocol of five cell lines against the others."""
    adata = ad.read_h5ad(folder / "cellbench.h5ad")
    in_query = adata.obs["batch"].astype(str).str.startswith(prefix).to_numpy()
    return _split(adata, ~in_query, in_query)


def studies(folder: Path) -> Pair:
    """Blood cells of two studies against those of a third, of another laboratory, by their common genes."""
    reference = ad.read_h5ad(folder / "pbmc_2src.h5ad")
    query = ad.read_h5ad(folder / "kang_8donors.h5ad")
    genes = reference.var_names.intersection(query.var_names)
    query.obs["cell_type"] = query.obs["cell_type"].astype(str).map(COMMON_TYPES)
    query.obs["batch"] = "kang"
    chosen = np.sort(np.random.default_rng(0).choice(query.n_obs, 6000, replace=False))
    pair = Pair(reference[:, genes].copy(), query[chosen][:, genes].copy())
    return Pair(_bare(pair.reference), _bare(pair.query))


def simulated(batch_effect: float, missing: tuple[str, ...] = ()) -> Pair:
    """Four batches of one experiment against a fifth whose composition is another."""
    from vmmscvi.data import simulate_counts

    adata = simulate_counts(n_cells=8000, n_batches=5, batch_effect=batch_effect, seed=7)
    in_query = (adata.obs["batch"] == "batch4").to_numpy()
    # types come in other shares: every second type of the query keeps a third of its cells
    types = adata.obs["cell_type"].astype(str).to_numpy()
    rare = np.isin(types, sorted(set(types))[::2])
    dropped = in_query & rare & (np.random.default_rng(0).random(adata.n_obs) > 1 / 3)
    return _split(adata, ~in_query & ~np.isin(types, missing), in_query & ~dropped)


def _split(adata: ad.AnnData, in_reference: np.ndarray, in_query: np.ndarray) -> Pair:
    return Pair(_bare(adata[in_reference]), _bare(adata[in_query]))


def _bare(adata: ad.AnnData) -> ad.AnnData:
    """Keep counts, batch and type alone; leave out cells without counts."""
    obs = pd.DataFrame({name: adata.obs[name].astype(str) for name in ("batch", "cell_type")})
    found = ad.AnnData(adata.X.copy(), obs=obs, var=pd.DataFrame(index=adata.var_names))
    return found[np.asarray(found.X.sum(1)).ravel() > 0].copy()


PAIRS: dict[str, Callable[[Path], Pair]] = {
    "donors": donors,
    "donors without B": lambda folder: donors(folder, "B cells"),
    "donors without NK": lambda folder: donors(folder, "NK cells"),
    "donors without CD14": lambda folder: donors(folder, "CD14+ Monocytes"),
    "pbmc3k": lambda folder: sources(folder, "10x_v1_pbmc3k"),
    "facs": lambda folder: sources(folder, "10x_v1_FACS_sorted"),
    "CEL-seq2": lambda folder: protocols(folder, "CELseq2"),
    "10x": lambda folder: protocols(folder, "10x"),
    "studies": studies,
    "mild": lambda folder: simulated(0.1),
    "strong": lambda folder: simulated(0.4),
    "missing": lambda folder: simulated(0.25, ("type3",)),
}
