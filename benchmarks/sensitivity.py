"""What the number of clusters depends on: one change at a time, with both starts of the prior. Resumable.

    python benchmarks/sensitivity.py --data ../shared/data --dataset pbmc_facs --out results/sensitivity.jsonl

Labels are used for scoring only.
"""

from __future__ import annotations

import argparse
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import torch
from compare_priors import train
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

# change -> arguments of the model, of `train`, and the share of cells
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], float]] = {
    "none": ({}, {}, 1.0),
    "prior_lr_ratio / 4": ({}, {"prior_lr_ratio": 1.25}, 1.0),
    "prior_lr_ratio x 4": ({}, {"prior_lr_ratio": 20.0}, 1.0),
    "batch_size 128": ({}, {"batch_size": 128}, 1.0),
    "batch_size 1024": ({}, {"batch_size": 1024}, 1.0),
    "n_components 50": ({"n_components": 50}, {}, 1.0),
    "n_components 200": ({"n_components": 200}, {}, 1.0),
    "half of the cells": ({}, {}, 0.5),
    "another seed": ({}, {}, 1.0),
    "n_effective 1000": ({}, {"n_effective": 1000.0}, 1.0),
    "n_effective 4000": ({}, {"n_effective": 4000.0}, 1.0),
}


def load(path: Path, n_genes: int, share: float) -> ad.AnnData:
    """Read counts, keep the most variable genes and a share of the cells."""
    adata = ad.read_h5ad(path)
    if adata.n_vars > n_genes:
        sc.pp.highly_variable_genes(adata, n_top_genes=n_genes, flavor="seurat_v3", span=0.5)
        adata = adata[:, adata.var["highly_variable"]].copy()
    sc.pp.filter_cells(adata, min_counts=5)
    return adata[np.random.default_rng(7).random(adata.n_obs) < share].copy()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--dataset", default="pbmc_facs")
    parser.add_argument("--n-genes", type=int, default=800)
    parser.add_argument("--max-epochs", type=int, default=150)
    parser.add_argument("--starts", nargs="+", default=["embedding", "cells"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/sensitivity.jsonl"))
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.INFO)
    torch.set_num_threads(args.threads)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    done = {(row["dataset"], row["start"], row["change"]) for row in rows}
    for change, (model, training, share) in CHANGES.items():
        adata = load(args.data / f"{args.dataset}.h5ad", args.n_genes, share)
        for start in args.starts:
            if (args.dataset, start, change) in done or (start == "cells" and "n_effective" in change):
                continue
            settings = {"max_epochs": args.max_epochs, "start": start, **training}
            result = train(adata, {"prior": "vmm", **model}, settings, seed=int(change == "another seed"))
            found, labels = result["clusters"], result["labels"]
            rows.append({
                "dataset": args.dataset, "start": start, "change": change, "clusters": len(np.unique(found)),
                "nmi": round(normalized_mutual_info_score(labels, found), 3),
                "ari": round(adjusted_rand_score(labels, found), 3), "elbo": round(float(result["elbo"]), 2),
                "epochs": int(result["epochs"]), "cpu_s": round(result["cpu_s"], 1),
            })  # fmt: skip
            with args.out.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    frame = pd.DataFrame(rows)
    print(frame[frame["dataset"] == args.dataset].sort_values("start").to_markdown(index=False))


if __name__ == "__main__":
    main()
