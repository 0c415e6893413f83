"""Score one embedding: its clusterings against the types, scib-metrics, and what batches explain.

    python score.py --embedding embedding.h5ad --counts counts.h5ad --scoring '{"scib": false, ...}' ...

Labels are used for scoring only, but for the measures of clusterings that are named in ``USES_LABELS``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData, read_h5ad
from data import BATCH, CELL_TYPE
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.metrics import (
    adjusted_mutual_info_score,
    adjusted_rand_score,
    normalized_mutual_info_score,
)
from sklearn.metrics.cluster import contingency_matrix
from sklearn.neighbors import NearestNeighbors

from vmmscvi._neighbors import leiden, neighbor_graph

RESOLUTIONS = tuple(round(0.1 * step, 1) for step in range(1, 21))
USES_LABELS = ("own_merged", "leiden_best", "kmeans")

Row = tuple[str, str, float]
"""Clustering, measure, value."""


def accuracy(labels: np.ndarray, clusters: np.ndarray) -> float:
    """Share of cells in the one cluster of their label, with the best matching of clusters and labels."""
    table = contingency_matrix(labels, clusters)
    return float(table[linear_sum_assignment(table, maximize=True)].sum() / table.sum())


def merge_by_label(labels: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Name each cluster after the label that most of its cells have, as the paper does."""
    names, majority = np.unique(labels), contingency_matrix(labels, clusters).argmax(axis=0)
    return names[majority[np.unique(clusters, return_inverse=True)[1]]]


def agreement(labels: np.ndarray, clusters: np.ndarray) -> dict[str, float]:
    """Compare clusters with labels. What the paper calls ARI is ``ami``."""
    return {
        "n_clusters": len(np.unique(clusters)),
        "nmi": normalized_mutual_info_score(labels, clusters),
        "ari": adjusted_rand_score(labels, clusters),
        "ami": adjusted_mutual_info_score(labels, clusters),
        "accuracy": accuracy(labels, clusters),
    }


def clusterings(embedding: AnnData, asked: list[str], seed: int) -> dict[str, np.ndarray]:
    """Return the clusterings that are asked for, by name; own clusters bring the merged ones with them."""
    z, labels = embedding.obsm["X_emb"], embedding.obs[CELL_TYPE].to_numpy(str)
    found = {}
    if "own" in asked and "cluster" in embedding.obs:
        found["own"] = embedding.obs["cluster"].to_numpy(str)
        found["own_merged"] = merge_by_label(labels, found["own"])
    if {"leiden_1", "leiden_best"} & set(asked):
        graph = neighbor_graph(z, seed)
        wanted = RESOLUTIONS if "leiden_best" in asked else (1.0,)
        by_leiden = {resolution: np.asarray(leiden(graph, seed, resolution), str) for resolution in wanted}
        if "leiden_1" in asked:
            found["leiden_1"] = by_leiden[1.0]
        if "leiden_best" in asked:
            found["leiden_best"] = max(
                by_leiden.values(), key=lambda clusters: normalized_mutual_info_score(labels, clusters)
            )
    if "kmeans" in asked:
        k_means = KMeans(len(np.unique(labels)), n_init=10, random_state=seed)
        found["kmeans"] = k_means.fit_predict(z).astype(str)
    return found


def batch_variance(z: np.ndarray, batch: np.ndarray, types: np.ndarray) -> dict[str, float]:
    """Shares of the variance of an embedding that batches explain, over all cells and within types.

    Batches explain variance by their composition alone where they hold other proportions of the types,
    however well cells are mixed. No composition enters within types.
    """

    def explained(cells: np.ndarray, groups: np.ndarray) -> float:
        means = pd.DataFrame(cells).groupby(groups).transform("mean").to_numpy()
        return float(((means - cells.mean(0)) ** 2).sum())

    z = z.astype(float)
    total = ((z - z.mean(0)) ** 2).sum()
    within = sum(explained(z[types == name], batch[types == name]) for name in np.unique(types))
    return {
        "variance: batches": explained(z, batch) / total,
        "variance: batches within types": within / total,
        "variance: types": explained(z, types) / total,
    }


def scib_measures(adata: AnnData) -> dict[str, float]:
    """Measures of scib-metrics with exact neighbours, of ``obsm["X_emb"]`` against ``obsm["X_pca"]``.

    With one batch there is no batch correction, and the total is the bio conservation.
    """
    from scib_metrics.benchmark import BatchCorrection, Benchmarker, BioConservation
    from scib_metrics.nearest_neighbors import NeighborsResults

    def exact_neighbors(z: np.ndarray, n_neighbors: int) -> NeighborsResults:
        distances, indices = NearestNeighbors(n_neighbors=n_neighbors).fit(z).kneighbors(z)
        return NeighborsResults(indices=indices, distances=distances)

    one_batch = adata.obs[BATCH].nunique() == 1
    benchmarker = Benchmarker(
        adata,
        batch_key=BATCH,
        label_key=CELL_TYPE,
        embedding_obsm_keys=["X_emb"],
        bio_conservation_metrics=BioConservation(),
        batch_correction_metrics=None if one_batch else BatchCorrection(),
        pre_integrated_embedding_obsm_key="X_pca",
        progress_bar=False,
    )
    benchmarker.prepare(neighbor_computer=exact_neighbors)
    benchmarker.benchmark()
    found = benchmarker.get_results(min_max_scale=False).loc["X_emb"].astype(float).dropna()
    if one_batch:
        found["Total"] = found["Bio conservation"]
    return found.to_dict()


def rows(embedding: AnnData, counts: AnnData, scoring: dict[str, Any], seed: int) -> Iterator[Row]:
    """Yield all scores; ``embedding`` gets a column ``clustering: NAME`` for each clustering."""
    types, batch = (embedding.obs[key].to_numpy(str) for key in (CELL_TYPE, BATCH))
    for name, value in embedding.uns["run"].items():
        yield "own" if name == "n_clusters_by_weight" else "", name, float(value)
    for name, clusters in clusterings(embedding, scoring["clusterings"], seed).items():
        embedding.obs[f"clustering: {name}"] = clusters
        yield from ((name, measure, float(value)) for measure, value in agreement(types, clusters).items())
    shares = batch_variance(embedding.obsm["X_emb"], batch, types)
    yield from (("", measure, value) for measure, value in shares.items())
    if scoring["scib"]:
        n = min(embedding.n_obs, scoring["scib_max_cells"])  # the same cells for all methods and seeds
        cells = np.sort(np.random.default_rng(0).choice(embedding.n_obs, n, replace=False))
        drawn = AnnData(obs=embedding.obs[[BATCH, CELL_TYPE]].iloc[cells])
        drawn.obs = drawn.obs.apply(lambda column: column.astype(str).astype("category"))
        drawn.obsm = {"X_emb": embedding.obsm["X_emb"][cells], "X_pca": counts.obsm["X_pca"][cells]}
        yield from (("", measure, value) for measure, value in scib_measures(drawn).items())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embedding", type=Path, required=True)
    parser.add_argument("--counts", type=Path, required=True)
    parser.add_argument("--scoring", type=json.loads, required=True, help="clusterings, scib, scib_max_cells")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clusters", type=Path, required=True)
    arguments = parser.parse_args()
    score(arguments.embedding, arguments.counts, arguments.scoring, arguments.out, arguments.clusters)


def score(
    embedding_file: Path, counts_file: Path, scoring: dict[str, Any], out: Path, clusters: Path
) -> None:
    """Write the scores, a row for each number, and the clusters, a column for each clustering."""
    embedding, counts = read_h5ad(embedding_file), read_h5ad(counts_file)
    method = json.loads(embedding.uns["method"])
    found = list(rows(embedding, counts, scoring, method["seed"]))
    table = pd.DataFrame(found, columns=["clustering", "measure", "value"])
    head = {"dataset": method["dataset"], "method": method["method"], "seed": method["seed"]}
    table = table.assign(**head, uses_labels=table["clustering"].isin(USES_LABELS))
    columns = embedding.obs.filter(like="clustering: ").rename(columns=lambda name: name.split(": ", 1)[1])
    columns.assign(cell_type=embedding.obs[CELL_TYPE]).to_csv(clusters)
    table[[*head, "clustering", "measure", "value", "uses_labels"]].to_csv(out, index=False)


if __name__ == "__main__":
    main()
