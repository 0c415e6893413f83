"""How well a query is mapped: mixing, labels, clusters, novelty. Labels are used here and nowhere else."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from vmmscvi._mapping_report import N_NEIGHBORS, share_of_query_neighbours

__all__ = [
    "accuracy",
    "auroc",
    "label_of_clusters",
    "label_of_neighbours",
    "largest_growth",
    "perfect_mixing",
    "share_of_query_neighbours",
]


def perfect_mixing(reference_types: np.ndarray, query_types: np.ndarray) -> float:
    """Return the share of query cells if every type were mixed, the mean over query cells."""
    n_query = pd.Series(query_types).value_counts()
    n_reference = pd.Series(reference_types).value_counts().reindex(n_query.index).fillna(0)
    return float((n_query * n_query / (n_query + n_reference)).sum() / n_query.sum())


def label_of_neighbours(
    reference_z: np.ndarray, reference_types: np.ndarray, query_z: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Majority type among a query cell's reference neighbours, and its mean distance to them."""
    neighbours = KNeighborsClassifier(N_NEIGHBORS).fit(reference_z, reference_types)
    return neighbours.predict(query_z), neighbours.kneighbors(query_z)[0].mean(1)


def label_of_clusters(
    reference_clusters: np.ndarray, reference_types: np.ndarray, query_clusters: np.ndarray
) -> np.ndarray:
    """Majority type of the reference's cells in each query cell's cluster."""
    majority = pd.Series(reference_types).groupby(reference_clusters).agg(lambda x: x.mode()[0])
    return majority.reindex(query_clusters).fillna("none").to_numpy(str)


def largest_growth(
    reference_clusters: np.ndarray,
    reference_types: np.ndarray,
    query_clusters: np.ndarray,
    query_types: np.ndarray,
) -> float:
    """Largest ratio of a cluster's share in the query to the share that the query's composition gives it.

    Expected is the sum over types of the type's share in the query times the cluster's share of the type in
    the reference. Types that the reference lacks are left out; clusters expected in fewer than five cells
    count as expected in five.
    """
    known = np.isin(query_types, reference_types)
    within = pd.crosstab(reference_clusters, reference_types, normalize="columns")
    n_of_type = pd.Series(query_types[known]).value_counts().reindex(within.columns).fillna(0)
    expected = (within * n_of_type).sum(axis=1).clip(lower=5)
    found = pd.Series(query_clusters[known]).value_counts().reindex(expected.index).fillna(0)
    return float((found / expected).max())


def accuracy(labels: np.ndarray, types: np.ndarray, reference_types: np.ndarray) -> dict[str, float]:
    """Accuracy on the types that the reference has, over cells and over types."""
    known = np.isin(types, reference_types)
    return {
        "accuracy": float((labels == types)[known].mean()),
        "balanced": float(balanced_accuracy_score(types[known], labels[known])),
    }


def auroc(novelty: np.ndarray, types: np.ndarray, reference_types: np.ndarray) -> float | None:
    """How well a score tells types that the reference lacks; ``None`` if there is none."""
    is_new = ~np.isin(types, reference_types)
    return float(roc_auc_score(is_new, novelty)) if is_new.any() else None
