"""Priors side by side: the same data, split and initial weights, several seeds. Resumable.

    python benchmarks/compare_priors.py train --data ../shared/data --seeds 0 1 2 --out results/priors
    python benchmarks/compare_priors.py table --out results/priors

Labels are used for scoring only. Scoring is a step of its own: other libraries' threads must not disturb
the training.
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

logger = logging.getLogger("compare_priors")
METHODS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # arguments of the model, and of `train`
    "N(0, I)": ({"prior": "standard_normal"}, {}),
    "GMM": ({"prior": "gmm"}, {}),
    "VMM": ({"prior": "vmm"}, {}),
    "GMM, started from cells": ({"prior": "gmm"}, {"start": "cells"}),
    "VMM, started from cells": ({"prior": "vmm"}, {"start": "cells"}),
    "VampPrior": ({"prior": "vampprior"}, {}),
}


COLUMNS = [
    *("epochs", "elbo", "clusters", "nmi", "ari", "kmeans_nmi", "silhouette"),
    *("leiden_clusters", "leiden_nmi", "leiden_ari", "ilisi", "batch_silhouette", "cpu_s"),
]
WHOLE = {"epochs", "elbo", "clusters", "leiden_clusters", "cpu_s"}


def train(
    adata: ad.AnnData, model_kwargs: dict[str, Any], train_kwargs: dict[str, Any], seed: int
) -> dict[str, Any]:
    """Train one model; return its embedding, its clusters and what the training took."""
    import scvi

    from vmmscvi import SCVI_VMM

    scvi.settings.seed = seed
    SCVI_VMM.setup_anndata(adata, batch_key="batch")
    model = SCVI_VMM(adata, **model_kwargs)
    start = time.process_time()
    model.train(enable_progress_bar=False, **train_kwargs)
    seconds = time.process_time() - start
    elbo = -model.history["elbo_validation"].iloc[:, 0].to_numpy(float)
    has_clusters = model_kwargs["prior"] != "standard_normal"
    return {
        "z": model.get_latent_representation(),
        "clusters": model.predict().to_numpy(str) if has_clusters else np.array([]),
        "labels": adata.obs["cell_type"].to_numpy(str),
        "batch": adata.obs["batch"].to_numpy(str),
        "epochs": len(elbo),
        "elbo": np.nanmax(elbo),
        "cpu_s": seconds,
    }


def score(run: dict[str, np.ndarray], seed: int) -> dict[str, float]:
    """Agreement of embedding and clusters with the annotation, and mixing of batches."""
    import scanpy as sc
    from scib_metrics import ilisi_knn, silhouette_batch
    from scib_metrics.nearest_neighbors import NeighborsResults
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score
    from sklearn.neighbors import NearestNeighbors

    z, labels, batch = run["z"], run["labels"], run["batch"]
    k_means = KMeans(len(np.unique(labels)), n_init=10, random_state=seed).fit_predict(z)
    adata = ad.AnnData(z)
    sc.pp.neighbors(adata, n_neighbors=15, use_rep="X", transformer="sklearn", random_state=seed)
    sc.tl.leiden(adata, resolution=1.0, flavor="igraph", n_iterations=2, directed=False, random_state=seed)
    leiden = adata.obs["leiden"].to_numpy()
    scores = {
        "epochs": int(run["epochs"]),
        "elbo": float(run["elbo"]),
        "cpu_s": float(run["cpu_s"]),
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
    if run["clusters"].size:
        scores["clusters"] = len(np.unique(run["clusters"]))
        scores["nmi"] = normalized_mutual_info_score(labels, run["clusters"])
        scores["ari"] = adjusted_rand_score(labels, run["clusters"])
    return scores


def table(out: Path) -> pd.DataFrame:
    """Mean and standard deviation over seeds, and the mean ARI between the clusterings of different seeds."""
    from sklearn.metrics import adjusted_rand_score

    rows, clusters = [], {}
    for path in sorted(out.glob("*.npz")):
        dataset, method, seed = path.stem.split("@")
        run = dict(np.load(path))
        scored = path.with_suffix(".json")
        if not scored.exists():
            scored.write_text(json.dumps(score(run, int(seed))))
        types = len(np.unique(run["labels"]))
        rows.append({"dataset": dataset, "types": types, "method": method, **json.loads(scored.read_text())})
        clusters.setdefault((dataset, method), []).append(run["clusters"])
    lines = []
    for key, group in pd.DataFrame(rows).groupby(["dataset", "types", "method"]):
        line: dict[str, Any] = dict(zip(["dataset", "types", "method"], key, strict=True)) | {
            "seeds": len(group)
        }
        for column in COLUMNS:
            if column in group and group[column].notna().any():
                digits = 1 if column in WHOLE else 3
                line[column] = f"{group[column].mean():.{digits}f} ± {group[column].std(ddof=0):.{digits}f}"
        found = clusters[key[0], key[2]]
        if found[0].size and len(found) > 1:
            pairs = [adjusted_rand_score(a, b) for i, a in enumerate(found) for b in found[:i]]
            line["ari_between_seeds"] = f"{np.mean(pairs):.3f}"
        lines.append(line)
    return pd.DataFrame(lines).fillna("")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["train", "table"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--datasets", nargs="+", default=["cellbench", "pbmc_2src", "kang_8donors"])
    parser.add_argument("--methods", nargs="+", default=["N(0, I)", "GMM", "VMM"], choices=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--train", type=json.loads, default={"max_epochs": 100}, help="JSON: arguments of train"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/priors"))
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.basicConfig(level=logging.WARNING)
    logger.setLevel(logging.INFO)
    if args.action == "table":
        print(table(args.out).to_markdown(index=False))
        return
    import torch

    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        for dataset in args.datasets:
            adata = ad.read_h5ad(args.data / f"{dataset}.h5ad")
            for method in args.methods:
                path = args.out / f"{dataset}@{method}@{seed}.npz"
                if path.exists():
                    continue
                model_kwargs, train_kwargs = METHODS[method]
                result = train(adata, model_kwargs, train_kwargs | args.train, seed)
                np.savez_compressed(path, **result)
                found = len(np.unique(result["clusters"]))
                logger.info(
                    "%s: ELBO %.1f, %s clusters, %.0f s of CPU time",
                    path.stem,
                    result["elbo"],
                    found,
                    result["cpu_s"],
                )


if __name__ == "__main__":
    main()
