from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import (
    adjusted_mutual_info_score,
    adjusted_rand_score,
    normalized_mutual_info_score,
)

from vmmscvi.benchmark._clusterings import kmeans, leiden, leiden_best, neighbor_graph
from vmmscvi.benchmark._measures import accuracy, agreement, merge_by_label

RNG = np.random.default_rng(0)
LABELS = RNG.choice(["B", "T", "NK"], 60, p=[0.5, 0.3, 0.2])
CLUSTERS = RNG.choice(["0", "3", "7", "11"], 60)


def test_agreement_is_that_of_scikit_learn() -> None:
    assert agreement(LABELS, CLUSTERS) == {
        "n_clusters": 4,
        "nmi": pytest.approx(normalized_mutual_info_score(LABELS, CLUSTERS)),
        "ari": pytest.approx(adjusted_rand_score(LABELS, CLUSTERS)),
        "ami": pytest.approx(adjusted_mutual_info_score(LABELS, CLUSTERS)),
        "accuracy": accuracy(LABELS, CLUSTERS),
    }


def test_accuracy_is_that_of_the_best_of_all_one_to_one_assignments() -> None:
    by_hand = max(
        np.mean(
            LABELS
            == np.array([dict(zip(chosen, ["B", "T", "NK"], strict=True)).get(c, "") for c in CLUSTERS])
        )
        for chosen in permutations(["0", "3", "7", "11"], 3)
    )
    assert accuracy(LABELS, CLUSTERS) == pytest.approx(by_hand)
    assert accuracy(LABELS, LABELS) == 1
    assert accuracy(LABELS, np.zeros(60)) == pytest.approx(np.mean(LABELS == "B"))


def test_clusters_are_merged_by_the_label_of_most_of_their_cells() -> None:
    labels = ["a", "a", "b", "b", "b", "c"]
    clusters = ["0", "0", "0", "1", "2", "2"]
    merged = merge_by_label(labels, clusters)
    assert list(merged) == ["a", "a", "a", "b", "b", "b"]  # of b and c in cluster 2, b comes first
    assert agreement(labels, merged)["n_clusters"] == 2


def test_merging_splits_that_are_pure_recovers_the_labels() -> None:
    split = np.char.add(LABELS.astype("U4"), RNG.choice(["0", "1"], 60))
    assert agreement(LABELS, split)["nmi"] < 1
    assert agreement(LABELS, merge_by_label(LABELS, split))["ari"] == 1


@pytest.fixture(scope="module")
def embedding() -> tuple[np.ndarray, np.ndarray]:
    """Three groups, the second of two halves."""
    rng = np.random.default_rng(1)
    centers = np.array([[0, 0], [20, 0], [23, 0], [0, 20]], dtype=np.float32)
    groups = np.repeat([0, 1, 2, 3], 40)
    z = centers[groups] + rng.normal(size=(160, 2)).astype(np.float32) * 0.5
    return z.astype(np.float32), np.array(["a", "b", "b", "c"])[groups]


def test_the_best_resolution_of_leiden_is_the_one_with_the_largest_nmi(
    embedding: tuple[np.ndarray, np.ndarray],
) -> None:
    z, labels = embedding
    graph = neighbor_graph(z, seed=0)
    clusters, resolution = leiden_best(graph, labels, seed=0)
    nmi = [normalized_mutual_info_score(labels, leiden(graph, step / 10, seed=0)) for step in range(1, 21)]
    assert normalized_mutual_info_score(labels, clusters) == pytest.approx(max(nmi))
    assert resolution == pytest.approx((int(np.argmax(nmi)) + 1) / 10)


def test_neighbours_are_exact(embedding: tuple[np.ndarray, np.ndarray]) -> None:
    z, _ = embedding
    graph = neighbor_graph(z, seed=0)
    distances = np.linalg.norm(z[:, None] - z[None], axis=-1)
    nearest = np.sort(distances, axis=1)[:, 1:15]  # 15 with the cell itself
    found = graph.obsp["distances"]
    assert found.nnz == 160 * 14
    np.testing.assert_allclose(np.sort(found.data.reshape(160, 14), axis=1), nearest, rtol=1e-4)


def test_kmeans_has_as_many_clusters_as_there_are_types(embedding: tuple[np.ndarray, np.ndarray]) -> None:
    z, labels = embedding
    clusters = kmeans(z, labels, seed=0)
    assert len(np.unique(clusters)) == 3
    assert adjusted_rand_score(labels, clusters) > 0.99
