"""Scores, statistics and choices, against values that are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats


def test_accuracy_is_that_of_the_best_matching(steps: Any) -> None:
    labels = np.array(["a"] * 4 + ["b"] * 4)
    assert steps.score.accuracy(labels, np.array([1] * 4 + [0] * 4)) == 1
    # the two clusters of "b" cannot both be matched with it
    assert steps.score.accuracy(labels, np.array([0] * 4 + [1] * 3 + [2])) == 7 / 8


def test_clusters_are_merged_by_the_label_of_most_of_their_cells(steps: Any) -> None:
    labels, clusters = np.array(list("aaabbb")), np.array(list("001122"))
    assert list(steps.score.merge_by_label(labels, clusters)) == list("aaaabb")


def test_variance_explained_by_composition_is_separated_from_variance_within_types(steps: Any) -> None:
    labels, batch = np.repeat(["B", "T"], 8), np.tile(["one", "two"], 8)
    batch[:4] = "one"  # three in four B cells, half of the T cells
    z = np.where(labels == "B", -3.0, 3.0)[:, None]
    apart = steps.score.batch_variance(z, batch, labels)
    assert apart["variance: types"] == pytest.approx(1)
    assert apart["variance: batches within types"] == pytest.approx(0)
    assert apart["variance: batches"] == pytest.approx(
        1 / 15
    )  # 10 of 16 in one: means -0.6 and 1.0, 9.6 of 144
    shifted = steps.score.batch_variance(z + (batch == "one")[:, None], batch, labels)
    assert shifted["variance: batches within types"] == pytest.approx((6 * 2 / 8 + 4 * 4 / 8) / 144, rel=0.1)


def test_p_values_are_of_paired_t_tests_after_holm(steps: Any) -> None:
    rng = np.random.default_rng(0)
    values = pd.DataFrame(rng.normal([1.0, 0.5, 0.0], size=(5, 3)), columns=["a", "b", "c"])
    found = steps.results.compare_with_best(values)
    best = values.mean().idxmax()
    raw = sorted(
        (stats.ttest_rel(values[name], values[best]).pvalue, name) for name in values if name != best
    )
    (small, first), (large, second) = raw
    assert found[best] == 1
    assert found[first] == pytest.approx(min(1, 2 * small))
    assert found[second] == pytest.approx(max(min(1, 2 * small), large))
    assert steps.results.compare_with_best(-values, higher_is_better=False)[best] == 1


def test_the_best_has_as_many_seeds_as_any(steps: Any) -> None:
    values = pd.DataFrame({"lucky": [9.0, np.nan, np.nan], "a": [1.0, 2.0, 3.0], "b": [1.0, 2.0, 2.0]})
    assert steps.results.compare_with_best(values)["a"] == 1


@pytest.mark.parametrize(
    ("other", "p"), [([1.0, 2.0, 3.0], 1.0), ([2.0, 3.0, 4.0], 0.0), ([1.0, np.nan, np.nan], np.nan)]
)
def test_p_values_at_their_limits(steps: Any, other: list[float], p: float) -> None:
    found = steps.results.paired_p(pd.Series([1.0, 2.0, 3.0]), pd.Series(other))
    assert found == p or (np.isnan(found) and np.isnan(p))


def test_the_rarest_type_is_looked_up_in_the_cluster_that_holds_most_of_it(steps: Any) -> None:
    labels = np.array(["B"] * 6 + ["rare"] * 4)
    clusters = np.array(["0"] * 5 + ["1"] + ["1"] * 3 + ["0"])
    assert steps.compare.rarest_type(labels, clusters) == ("rare", 4, 0.75, 1)


def test_a_gene_marks_the_cluster_where_it_is_highest_against_the_others(steps: Any) -> None:
    expression = np.array([[0.6, 0.1, 0.2, 0.1], [0.1, 0.6, 0.2, 0.1], [0.1, 0.1, 0.2, 0.6]])
    assert [list(genes) for genes in steps.figures.marker_genes(expression, 2)] == [[0], [1], [3]]


def runs(rows: list[tuple[int, float, int, float]]) -> pd.DataFrame:
    """Scores of tuning: batch size, ratio, clusters, total; three types."""
    tidy = []
    for batch_size, ratio, n_clusters, total in rows:
        measures = [
            ("", "batch_size", batch_size), ("", "prior_lr_ratio", ratio), ("", "n_types", 3),
            ("", "Total", total), ("own", "n_clusters", n_clusters), ("own", "nmi", 0.5),
        ]  # fmt: skip
        tidy += [("set", f"{batch_size}, {ratio}", 0, *measure) for measure in measures]
    return pd.DataFrame(tidy, columns=["dataset", "method", "seed", "clustering", "measure", "value"])


def test_tuning_stops_at_the_first_ratio_with_fewer_clusters_than_types(steps: Any) -> None:
    rows = [
        (128, 1.0, 5, 0.6),
        (128, 2.0, 2, 0.9),
        (128, 4.0, 4, 0.95),
        (256, 1.0, 3, 0.7),
        (256, 2.0, 3, 0.65),
    ]
    found = steps.tuning.tuning_table(runs(rows))
    assert list(zip(found["batch_size"], found["prior_lr_ratio"], strict=True)) == [
        (128, 1.0), (128, 2.0), (256, 1.0), (256, 2.0),
    ]  # fmt: skip
    chosen = found[found["chosen_with_labels"]]  # 0.9 has too few clusters
    assert chosen[["batch_size", "prior_lr_ratio"]].to_numpy().tolist() == [[256, 1.0]]


def test_no_choice_is_made_with_too_few_clusters(steps: Any) -> None:
    assert not steps.tuning.tuning_table(runs([(128, 1.0, 2, 0.6)]))["chosen_with_labels"].any()
