"""A mapping is judged without labels."""

from __future__ import annotations

import numpy as np
import pytest

from vmmscvi._mapping_report import mapping_report, share_of_query_neighbours


def cells(n: int, at: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(at, 1.0, size=(n, 3))


def test_share_of_neighbours_is_that_of_the_cells_where_they_are_mixed() -> None:
    assert share_of_query_neighbours(cells(600, 0, 0), cells(600, 0, 1)) == pytest.approx(0.5, abs=0.03)
    assert share_of_query_neighbours(cells(600, 0, 0), cells(600, 30, 1)) == 1.0


def test_a_good_mapping_gets_no_advice() -> None:
    clusters = np.repeat(["0", "1"], 300)
    unknown = np.arange(600) % 20 == 0
    z = np.concatenate([cells(300, 0, 0), cells(300, 20, 1)])
    reference = np.concatenate([cells(300, 0, 2), cells(300, 20, 3)])
    report = mapping_report(z, clusters, unknown, reference, clusters, 0.05)
    assert report.advice == [] and report.new_clusters == {} and report.grown_clusters == {}
    assert report.mixing == pytest.approx(report.expected_mixing, abs=0.05)
    assert report.expected_mixing == pytest.approx(0.5)


def test_clusters_that_only_the_query_has_and_those_that_grow_are_named() -> None:
    query = np.concatenate([cells(100, 0, 0), cells(300, 20, 1)])
    reference = np.concatenate([cells(350, 0, 2), cells(50, 20, 3)])
    of_query, of_reference = np.repeat(["a", "b"], [100, 300]), np.repeat(["a", "b"], [350, 50])
    report = mapping_report(query, of_query, of_query == "b", reference, of_reference, 0.05)
    assert report.new_clusters == {"b": 1.0}
    assert report.grown_clusters == {"b": pytest.approx(6.0)}
    assert len(report.advice) == 1 and "b (100% unknown)" in str(report)


def test_a_query_that_does_not_mix_is_said_to() -> None:
    clusters = np.full(200, "0")
    report = mapping_report(cells(200, 0, 0), clusters, np.zeros(200, bool), cells(200, 9, 1), clusters, 0.05)
    assert report.mixing == 1.0
    assert "do not mix" in str(report)
