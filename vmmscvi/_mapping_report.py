"""Whether a query has been mapped well, judged without labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

N_NEIGHBORS = 15
BADLY_MIXED = 0.15
"""Excess of query cells among neighbours from which on there is advice."""
MANY_UNKNOWN = 3.0
"""The same, for the share of unknown cells as a multiple of the false-alarm rate."""
MOSTLY_UNKNOWN = 0.5
"""Share of unknown cells from which on a cluster of the query is called new."""
FEWEST_NEW = 20
"""Number of cells that such a cluster has at least."""


@dataclass(frozen=True)
class MappingReport:
    """How a query lies in its reference.

    Attributes
    ----------
    n_cells
        Number of cells of the query's new batches.
    mixing
        Share of query cells among the 15 neighbours of a query cell, in query and reference together.
    expected_mixing
        What it would be if the cells of each cluster were mixed.
    unknown
        Share of query cells that are called unknown.
    false_alarm_rate
        What it would be if all their types were known.
    new_clusters
        Share of unknown cells in the clusters that are mostly unknown.
    grown_clusters
        Clusters whose share in the query is more than twice that in the reference, by that ratio.
    """

    n_cells: int
    mixing: float
    expected_mixing: float
    unknown: float
    false_alarm_rate: float
    new_clusters: Mapping[str, float] = field(default_factory=dict)
    grown_clusters: Mapping[str, float] = field(default_factory=dict)

    @property
    def advice(self) -> list[str]:
        """What to look at; empty if there is nothing."""
        found = []
        if self.mixing - self.expected_mixing > BADLY_MIXED:
            found.append(
                "Query and reference do not mix: check that the query has raw counts and the genes of the "
                "reference. If the technologies differ, train on both from scratch."
            )
        if self.unknown > MANY_UNKNOWN * self.false_alarm_rate:
            found.append("Many cells are unknown: look at the markers of the new clusters below.")
        return found

    def __str__(self) -> str:
        """Say it in a few lines."""
        lines = [
            f"Mapped {self.n_cells:,} cells: {self.mixing:.0%} of their neighbours are of the query, "
            f"expected {self.expected_mixing:.0%}; unknown {self.unknown:.1%}, "
            f"expected {self.false_alarm_rate:.1%}.",
            *self.advice,
        ]
        if self.new_clusters:
            listed = ", ".join(f"{name} ({share:.0%} unknown)" for name, share in self.new_clusters.items())
            lines.append(f"Cells near these clusters are new: {listed}.")
        if self.grown_clusters:
            listed = ", ".join(f"{name} ({ratio:.1f} times)" for name, ratio in self.grown_clusters.items())
            lines.append(f"Larger than in the reference: {listed}.")
        return "\n".join(lines)


def mapping_report(
    query: NDArray[np.floating],
    query_clusters: NDArray[np.str_],
    unknown: NDArray[np.bool_],
    reference: NDArray[np.floating],
    reference_clusters: NDArray[np.str_],
    false_alarm_rate: float,
) -> MappingReport:
    """Compare a query with its reference.

    Parameters
    ----------
    query, reference
        Positions of ``n`` query and ``m`` reference cells, shapes ``(n, p)`` and ``(m, p)``.
    query_clusters, reference_clusters
        Their clusters.
    unknown
        Which query cells are unknown, shape ``(n,)``.
    false_alarm_rate
        Share of known cells that are called unknown.
    """
    names, counts = np.unique(query_clusters, return_counts=True)
    n_query = dict(zip(names, counts, strict=True))
    n_reference = dict(zip(*np.unique(reference_clusters, return_counts=True), strict=True))
    expected = sum(n * n / (n + n_reference.get(name, 0)) for name, n in n_query.items()) / len(query)
    shares = {str(name): float(unknown[query_clusters == name].mean()) for name in names}
    smallest = 5 / len(reference)
    growth = {
        str(name): float(n / len(query)) / max(n_reference.get(name, 0) / len(reference), smallest)
        for name, n in n_query.items()
        if n >= FEWEST_NEW
    }
    return MappingReport(
        len(query),
        share_of_query_neighbours(query, reference),
        float(expected),
        float(unknown.mean()),
        false_alarm_rate,
        {k: s for k, s in shares.items() if s > MOSTLY_UNKNOWN and n_query[k] >= FEWEST_NEW},
        {k: r for k, r in growth.items() if r > 2},
    )


def share_of_query_neighbours(query: NDArray[np.floating], reference: NDArray[np.floating]) -> float:
    """Mean share of query cells among the neighbours of a query cell, itself left out."""
    together = np.concatenate([query, reference])
    n_neighbors = min(N_NEIGHBORS + 1, len(together))
    found = NearestNeighbors(n_neighbors=n_neighbors).fit(together).kneighbors(query)[1]
    others = found != np.arange(len(query))[:, None]
    others[others.all(1), -1] = False  # duplicates of a cell may crowd it out of its own neighbours
    return float(((found < len(query)) & others).sum() / max(others.sum(), 1))
