"""Map donors into a reference: transferred clusters and novelty, beside k-nearest neighbours on scVI.

    python benchmarks/query_mapping.py --data kang_8donors.h5ad --out results/query_mapping

The reference are all donors but the last two. One run has all types in the reference, the others leave one
out of it. scVI has the architecture that scvi-tools recommends for query mapping; the VMM its defaults.
Labels of the reference name its clusters or neighbours, and one method starts from them; labels of the query
are used for scoring only.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

logger = logging.getLogger("query_mapping")

N_NEIGHBORS = 15
SCARCHES = {
    "encode_covariates": True,
    "deeply_inject_covariates": False,
    "use_layer_norm": "both",
    "use_batch_norm": "none",
}


def with_neighbours(
    reference_z: np.ndarray, reference_labels: np.ndarray, query_z: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Majority label among a query cell's reference neighbours, and its mean distance to them."""
    neighbours = KNeighborsClassifier(N_NEIGHBORS).fit(reference_z, reference_labels)
    return neighbours.predict(query_z), neighbours.kneighbors(query_z)[0].mean(1)


def run_scvi(reference: ad.AnnData, query: ad.AnnData, epochs: int, query_epochs: int) -> dict[str, Any]:
    """Stock scVI with its own query mapping."""
    from scvi.model import SCVI

    SCVI.setup_anndata(reference, batch_key="batch")
    model = SCVI(reference, **SCARCHES)
    quiet = {"enable_progress_bar": False, "accelerator": "cpu"}
    model.train(max_epochs=epochs, batch_size=256, **quiet)
    mapped = SCVI.load_query_data(query, model)
    mapped.train(max_epochs=query_epochs, batch_size=256, plan_kwargs={"weight_decay": 0.0}, **quiet)
    labels, distance = with_neighbours(
        model.get_latent_representation(),
        reference.obs["cell_type"].to_numpy(str),
        mapped.get_latent_representation(),
    )
    return {"scVI + k-NN": (labels, distance, None)}


def run_vmm(
    reference: ad.AnnData, query: ad.AnnData, epochs: int, query_epochs: int, start: str = "embedding"
) -> dict[str, Any]:
    """Clusters of the VMM named by the reference's majority label; and k-NN on its embedding."""
    from vmmscvi import SCVI_VMM

    SCVI_VMM.setup_anndata(reference, batch_key="batch", labels_key="cell_type")
    model = SCVI_VMM(reference)
    quiet = {"enable_progress_bar": False, "accelerator": "cpu"}
    model.train(max_epochs=epochs, start=start, **quiet)
    reference_labels = reference.obs["cell_type"].to_numpy(str)
    majority = pd.Series(reference_labels).groupby(model.predict().to_numpy(str)).agg(lambda x: x.mode()[0])
    query.obs["cell_type"] = "unknown"  # a new category counts as no label
    mapped = SCVI_VMM.load_query_data(query, model)
    mapped.train(max_epochs=query_epochs, **quiet)
    # a query cell may be given to a cluster that no reference cell is in
    labels = majority.reindex(mapped.predict().to_numpy(str)).fillna("none").to_numpy(str)
    neighbours = with_neighbours(
        model.get_latent_representation(), reference_labels, mapped.get_latent_representation()
    )
    name = "VMM" if start == "embedding" else f"VMM, started from {start}"
    return {
        name: (labels, mapped.get_novelty_score().to_numpy(), len(majority)),
        f"{name}, embedding + k-NN": (*neighbours, None),
    }


def run_vmm_labels(
    reference: ad.AnnData, query: ad.AnnData, epochs: int, query_epochs: int
) -> dict[str, Any]:
    """Start the VMM from the labels of the reference."""
    return run_vmm(reference, query, epochs, query_epochs, start="labels")


def score(labels: np.ndarray, novelty: np.ndarray, truth: np.ndarray, held_out: str) -> dict[str, float]:
    """Accuracy on the types that the reference has, and how well the other one stands out."""
    known = truth != held_out
    scores = {
        "accuracy": float((labels == truth)[known].mean()),
        "balanced_accuracy": float(balanced_accuracy_score(truth[known], labels[known])),
    }
    if not known.all():
        scores["novelty_auroc"] = float(roc_auc_score(~known, novelty))
    return scores


def table(out: Path) -> pd.DataFrame:
    """One row for each method and type that was left out; mean over seeds."""
    runs = pd.DataFrame([json.loads(path.read_text()) for path in sorted(out.glob("*.json"))])
    columns = ["accuracy", "balanced_accuracy", "novelty_auroc", "clusters"]
    return runs.groupby(["held_out", "method"])[columns].mean().round(3).reset_index()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("kang_8donors.h5ad"))
    parser.add_argument("--held-out", nargs="*", default=["B cells", "NK cells"])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--query-epochs", type=int, default=20)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results/query_mapping"))
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.basicConfig(level=logging.WARNING)
    logger.setLevel(logging.INFO)
    import scvi
    import torch

    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    adata = ad.read_h5ad(args.data)
    donors = sorted(adata.obs["batch"].astype(str).unique())
    in_query = adata.obs["batch"].isin(donors[-2:]).to_numpy()
    types = adata.obs["cell_type"].astype(str).to_numpy()
    for seed in args.seeds:
        for held_out in ["", *args.held_out]:
            for run in (run_vmm, run_scvi, run_vmm_labels):
                done = args.out / f"{run.__name__}@{held_out or 'none'}@{seed}.done"
                if done.exists():
                    continue
                scvi.settings.seed = seed
                reference, query = adata[~in_query & (types != held_out)].copy(), adata[in_query].copy()
                truth = query.obs["cell_type"].to_numpy(str)
                started = time.process_time()
                results = run(reference, query, args.epochs, args.query_epochs)
                for method, (labels, novelty, clusters) in results.items():
                    scores = score(labels, novelty, truth, held_out)
                    row = {"held_out": held_out or "none", "method": method, "seed": seed, **scores}
                    row |= {"clusters": clusters, "cpu_s": time.process_time() - started}
                    path = args.out / f"{method}@{held_out or 'none'}@{seed}.json"
                    path.write_text(json.dumps(row))
                    logger.info("%s", row)
                done.touch()
    print(table(args.out).to_markdown(index=False))


if __name__ == "__main__":
    main()
