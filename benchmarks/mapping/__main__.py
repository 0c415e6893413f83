"""Map queries into references: mixing and labels together, beside stock scVI with its own mapping.

    python benchmarks/mapping --data DIR --out results/mapping
    python benchmarks/mapping --data DIR --pairs strong studies --methods VMM --seeds 0 --epochs 50

A reference is trained once for each method, pair and seed, and kept below ``--out``. The query is scored as
it is loaded, and after its training with defaults. Labels of the reference name its clusters and neighbours;
labels of the query are used for scoring only. Mixing is the share of query cells among 15 neighbours in query
and reference together; "perfect" is what it would be if the cells of each type were mixed.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from pathlib import Path
from typing import Any

import mapping_methods as methods
import mapping_scores as scores
import numpy as np
import pandas as pd
from mapping_pairs import PAIRS, Pair

logger = logging.getLogger("mapping")

COLUMNS = [
    "mixing", "perfect", "knn", "knn_balanced", "clusters", "unknown", "growth", "auroc", "auroc_distance"
]  # fmt: skip


def scored(method: str, pair: Pair, reference_model: Any, query_model: Any) -> dict[str, float | None]:
    """Score a query in its reference."""
    types, of_query = (data.obs["cell_type"].to_numpy(str) for data in pair)
    reference_z, z = reference_model.get_latent_representation(), query_model.get_latent_representation()
    labels, distance = scores.label_of_neighbours(reference_z, types, z)
    by_neighbours = scores.accuracy(labels, of_query, types)
    row: dict[str, float | None] = {
        "mixing": scores.share_of_query_neighbours(z, reference_z),
        "perfect": scores.perfect_mixing(types, of_query),
        "knn": by_neighbours["accuracy"],
        "knn_balanced": by_neighbours["balanced"],
        "auroc_distance": scores.auroc(distance, of_query, types),
    }
    if method != "VMM":
        return row
    of_reference, clusters = (model.predict().to_numpy(str) for model in (reference_model, query_model))
    verdict = query_model.get_verdict()
    known = np.isin(of_query, types)
    named = scores.label_of_clusters(of_reference, types, clusters)
    return row | {
        "clusters": scores.accuracy(named, of_query, types)["accuracy"],
        "unknown": float((verdict["verdict"] == "unknown").to_numpy()[known].mean()),
        "growth": scores.largest_growth(of_reference, types, clusters, of_query),
        "auroc": scores.auroc(verdict["novelty"].to_numpy(), of_query, types),
    }


def run(method: str, name: str, pair: Pair, seed: int, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Score a query before and after its training."""
    folder = args.out / f"{method}@{name}@{seed}"
    reference_model = methods.trained(method, pair.reference, args.epochs, folder)
    model = methods.loaded_query(method, pair.query, reference_model)
    rows = []
    for stage in ("loaded", "mapped"):
        started = time.process_time()
        if stage == "mapped":
            methods.map_query(method, model, args.query_epochs)
        seconds = time.process_time() - started
        model.is_trained_ = True
        row = {"pair": name, "method": method, "seed": seed, "query": stage}
        rows.append(row | scored(method, pair, reference_model, model) | {"cpu_s": seconds})
        logger.info("%s", rows[-1])
    return rows


def table(out: Path) -> pd.DataFrame:
    """One row for each pair, method and stage; mean over seeds."""
    runs = pd.DataFrame([row for path in sorted(out.glob("*.json")) for row in json.loads(path.read_text())])
    by_run = runs.groupby(["pair", "method", "query"], sort=False)
    found = by_run[[name for name in COLUMNS if name in runs]].mean().round(3)
    found.insert(0, "seeds", by_run["seed"].nunique())
    return found.reset_index()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the real sets (h5ad)")
    parser.add_argument("--pairs", nargs="+", choices=list(PAIRS), default=list(PAIRS))
    parser.add_argument("--methods", nargs="+", choices=methods.METHODS, default=list(methods.METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="of the references; by default as many as train() chooses")
    parser.add_argument("--query-epochs", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("results/mapping"))
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.basicConfig(level=logging.WARNING)
    logger.setLevel(logging.INFO)
    import scvi
    import torch

    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        for name in args.pairs:
            for method in args.methods:
                path = args.out / f"{method}@{name}@{seed}.json"
                if path.exists():
                    continue
                scvi.settings.seed = seed
                path.write_text(json.dumps(run(method, name, PAIRS[name](args.data), seed, args)))
    print(table(args.out).to_markdown(index=False))


if __name__ == "__main__":
    main()
