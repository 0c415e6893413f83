"""Precision of marker genes on simulated counts: ours against scanpy's tests, on the same clusters.

    python benchmarks/markers.py --out markers.csv

Each data set is trained on once. A type is found if a cluster has more than half of its cells; the cluster
is then compared with the genes that the simulator changed in that type. Precision at n is the share of these
among the n best genes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scanpy as sc
import scvi
from anndata import AnnData

from vmmscvi import SCVI_VMM
from vmmscvi.data import simulate_counts

COMMON: dict[str, Any] = {"n_cells": 1500, "n_genes": 1000, "n_types": 6, "n_batches": 2}
SETTINGS: dict[str, dict[str, Any]] = {
    "clear": {},
    "weak, shallow": {"marker_log_fold_change": 0.8, "depth": 1500},
    "rare types": {"proportions": {"type4": 0.02, "type5": 0.02}, "marker_log_fold_change": 1.0},
    "uneven batches": {
        "n_batches": 3,
        "batch_effect": 0.4,
        "missing": {"batch0": ["type0", "type1"], "batch1": ["type2"]},
        "marker_log_fold_change": 1.0,
    },
}
FIRST_SEED = 100
"""The recipe was chosen on the seeds 0 to 2."""


def clusters_of(adata: AnnData, seed: int, epochs: int) -> pd.Series:
    """Train a model and return its clusters."""
    scvi.settings.seed = seed
    SCVI_VMM.setup_anndata(adata, batch_key="batch")
    model = SCVI_VMM(adata)
    model.train(max_epochs=epochs, accelerator="cpu", enable_progress_bar=False)
    model.annotate(tree=False)
    adata.uns["ours"] = model.get_markers(adata.n_vars)
    return adata.obs["vmm_cluster"]


def rankings(adata: AnnData) -> dict[tuple[str, str], list[str]]:
    """Genes in order, by method and cluster."""
    ours = adata.uns["ours"]
    found = {("vmmscvi", name): list(table["gene"]) for name, table in ours.groupby("cluster")}
    logged = AnnData(adata.X.copy(), obs=adata.obs[["vmm_cluster"]], var=adata.var[[]])
    sc.pp.normalize_total(logged)
    sc.pp.log1p(logged)
    sizes = logged.obs["vmm_cluster"].value_counts()  # scanpy refuses groups of one cell
    logged = logged[logged.obs["vmm_cluster"].isin(sizes.index[sizes > 1])].copy()
    for method in ("wilcoxon", "t-test"):
        sc.tl.rank_genes_groups(logged, "vmm_cluster", method=method)
        for name in logged.obs["vmm_cluster"].cat.categories:
            found[f"scanpy {method}", name] = list(sc.get.rank_genes_groups_df(logged, name)["names"])
    return found


def main() -> None:
    """Run everything and write a row for each method, cluster and n."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n-seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=60)
    arguments = parser.parse_args()
    rows = []
    for name, settings in SETTINGS.items():
        for seed in range(FIRST_SEED, FIRST_SEED + arguments.n_seeds):
            adata = simulate_counts(**{**COMMON, **settings}, seed=seed)
            clusters = clusters_of(adata, seed, arguments.epochs)
            table = pd.crosstab(clusters, adata.obs["cell_type"])
            for (method, cluster), genes in rankings(adata).items():
                kind = table.loc[cluster].idxmax()
                if table.loc[cluster, kind] <= table[kind].sum() / 2:
                    continue  # a part of a type: which genes mark it is not known
                true = set(adata.var_names[adata.var["marker_of"] == kind])
                for n in (5, 10, 20):
                    precision = np.mean([gene in true for gene in genes[:n]])
                    rows.append(
                        {
                            "setting": name,
                            "seed": seed,
                            "method": method,
                            "cluster": cluster,
                            "n": n,
                            "precision": precision,
                        }
                    )
            pd.DataFrame(rows).to_csv(arguments.out, index=False)
    results = pd.DataFrame(rows)
    print(results.pivot_table(index=["n", "method"], columns="setting", values="precision").round(3))


if __name__ == "__main__":
    main()
