"""Priors side by side: the same data, split and initial weights, several seeds. One JSON line a run; resumable.

    python benchmarks/compare_priors.py --data ../shared/data --datasets cellbench pbmc_2src kang_8donors \
        --seeds 0 1 2 --out results/priors.jsonl
    python benchmarks/compare_priors.py --out results/priors.jsonl --table

Labels are used for scoring only.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import scvi
import torch
from scib_metrics import ilisi_knn, silhouette_batch
from scib_metrics.nearest_neighbors import NeighborsResults
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score
from sklearn.neighbors import NearestNeighbors

from vmmscvi import SCVI_VMM

logger = logging.getLogger("compare_priors")
METHODS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # arguments of the model, and of `train`
    "N(0, I)": ({"prior": "standard_normal"}, {}),
    "GMM": ({"prior": "gmm"}, {}),
    "VMM": ({"prior": "vmm"}, {}),
    "GMM, started from cells": ({"prior": "gmm"}, {"start": "cells"}),
    "VMM, started from cells": ({"prior": "vmm"}, {"start": "cells"}),
    "VampPrior": ({"prior": "vampprior"}, {}),
}


def score_embedding(z: np.ndarray, labels: np.ndarray, batch: np.ndarray, seed: int) -> dict[str, float]:
    """Agreement of an embedding with the annotation, and mixing of batches. Higher is better everywhere."""
    k_means = KMeans(len(np.unique(labels)), n_init=10, random_state=seed).fit_predict(z)
    adata = ad.AnnData(z)
    sc.pp.neighbors(adata, n_neighbors=15, use_rep="X", transformer="sklearn", random_state=seed)
    sc.tl.leiden(adata, resolution=1.0, flavor="igraph", n_iterations=2, directed=False, random_state=seed)
    leiden = adata.obs["leiden"].to_numpy()
    scores = {
        "kmeans_nmi": normalized_mutual_info_score(labels, k_means),
        "silhouette": float(silhouette_score(z, labels)),
        "leiden_clusters": len(np.unique(leiden)),
        "leiden_nmi": normalized_mutual_info_score(labels, leiden),
        "leiden_ari": adjusted_rand_score(labels, leiden),
    }
    if len(np.unique(batch)) > 1:
        distances, indices = NearestNeighbors(n_neighbors=90).fit(z).kneighbors(z)
        scores["ilisi"] = float(ilisi_knn(NeighborsResults(indices=indices, distances=distances), batch))
        scores["batch_silhouette"] = float(silhouette_batch(z, labels, batch))
    return scores


def run(adata: ad.AnnData, model_kwargs: dict[str, Any], train_kwargs: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train one model and score it."""
    scvi.settings.seed = seed
    SCVI_VMM.setup_anndata(adata, batch_key="batch")
    model = SCVI_VMM(adata, **model_kwargs)
    start = time.process_time()
    model.train(enable_progress_bar=False, **train_kwargs)
    seconds = time.process_time() - start
    elbo = model.history["elbo_validation"].iloc[:, 0]
    z = model.get_latent_representation()
    labels, batch = adata.obs["cell_type"].to_numpy(str), adata.obs["batch"].to_numpy(str)
    result = {
        "epochs": len(elbo), "best_epoch": int(elbo.argmin()), "elbo": float(-elbo.min()), "cpu_s": seconds,
        **score_embedding(z, labels, batch, seed),
    }  # fmt: skip
    if model_kwargs["prior"] != "standard_normal":
        clusters = model.predict().to_numpy(str)
        result |= {
            "clusters": len(np.unique(clusters)),
            "nmi": normalized_mutual_info_score(labels, clusters),
            "ari": adjusted_rand_score(labels, clusters),
            "assignments": "".join(chr(40 + int(c)) for c in clusters),
        }
    return result


def table(path: Path) -> pd.DataFrame:
    """Mean and standard deviation over seeds, and the mean ARI between the clusterings of different seeds."""
    rows = pd.DataFrame(json.loads(line) for line in path.read_text().splitlines())
    keys = ["dataset", "types", "method", "settings"]
    out = []
    for key, group in rows.groupby(keys, sort=False):
        row: dict[str, Any] = dict(zip(keys, key, strict=True)) | {"seeds": len(group)}
        for column in ["epochs", "elbo", "clusters", "nmi", "ari", "kmeans_nmi", "silhouette", "leiden_clusters",
                       "leiden_nmi", "leiden_ari", "ilisi", "batch_silhouette"]:  # fmt: skip
            if column in group and group[column].notna().any():
                digits = 1 if column in ("epochs", "elbo", "clusters", "leiden_clusters") else 3
                row[column] = f"{group[column].mean():.{digits}f} ± {group[column].std(ddof=0):.{digits}f}"
        if "assignments" in group and group["assignments"].notna().all() and len(group) > 1:
            codes = [list(a) for a in group["assignments"]]
            pairs = [adjusted_rand_score(a, b) for i, a in enumerate(codes) for b in codes[:i]]
            row["ari_between_seeds"] = f"{np.mean(pairs):.3f}"
        out.append(row)
    return pd.DataFrame(out).fillna("")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--datasets", nargs="+", default=["cellbench", "pbmc_2src", "kang_8donors"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS)[:5], choices=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--model", type=json.loads, default={}, help="JSON: arguments of SCVI_VMM")
    parser.add_argument("--train", type=json.loads, default={}, help="JSON: arguments of train")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/priors.jsonl"))
    parser.add_argument("--table", action="store_true", help="print the table of what is there, and run nothing")
    args = parser.parse_args()
    if args.table:
        print(table(args.out).to_markdown(index=False))
        return
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.basicConfig(level=logging.WARNING)
    logger.setLevel(logging.INFO)
    torch.set_num_threads(args.threads)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    settings = json.dumps({"model": args.model, "train": args.train}, sort_keys=True)
    done = set()
    if args.out.exists():
        rows = map(json.loads, args.out.read_text().splitlines())
        done = {(r["dataset"], r["method"], r["seed"], r["settings"]) for r in rows}
    for seed in args.seeds:
        for dataset in args.datasets:
            adata = ad.read_h5ad(args.data / f"{dataset}.h5ad")
            for method in args.methods:
                if (dataset, method, seed, settings) in done:
                    continue
                model_kwargs, train_kwargs = METHODS[method]
                result = run(adata, model_kwargs | args.model, train_kwargs | args.train, seed)
                row = {"dataset": dataset, "types": adata.obs["cell_type"].nunique(), "method": method, "seed": seed,
                       "settings": settings, **result}  # fmt: skip
                with args.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                logger.info("%s", {k: v for k, v in row.items() if k != "assignments"})


if __name__ == "__main__":
    main()
