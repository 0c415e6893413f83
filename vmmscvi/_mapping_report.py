"""Assessment of query mapping without labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

N_NEIGHBORS = 15
BADLY_MIXED = 0.15
"""Excess share of query cells among neighbours above which advice is given."""
MANY_UNKNOWN = 3.0
"""Share of unknown cells, as a multiple of the false-alarm rate, above which advice is given."""
MOSTLY_UNKNOWN = 0.5
"""Share of unknown cells above which the cells of a cluster are called new."""
FEWEST_NEW = 20
"""Smallest number of cells of such a cluster."""


@dataclass(frozen=True)
class MappingReport:
    """Assessment of a mapped query.

    Attributes
    ----------
    n_cells
        Number of cells in the query's new batches.
    mixing
        Mean share of query cells among the 15 neighbours of a query cell, in query and reference together.
    expected_mixing
        Expected value of ``mixing`` if the cells of each cluster were perfectly mixed.
    unknown
        Share of query cells that are called unknown.
    false_alarm_rate
        Expected value of ``unknown`` if the reference contained all types.
    new_clusters
        Share of unknown cells in each cluster whose query cells are mostly unknown.
    grown_clusters
        Ratio of the shares in query and reference, for clusters with a ratio above two.
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
        """Points to check; empty if there are none."""
        found = []
        if self.mixing - self.expected_mixing > BADLY_MIXED:
            found.append(
                "Query and reference do not mix: check that the query has raw counts and the genes of the "
                "reference. If the technologies differ, train on both from scratch."
            )
        if self.unknown > MANY_UNKNOWN * self.false_alarm_rate:
            found.append("Many cells are unknown: inspect the markers of the new clusters below.")
        return found

    def __str__(self) -> str:
        """Summarise the report in a few lines."""
        lines = [
            f"Mapped {self.n_cells:,} cells: {self.mixing:.0%} of their neighbours are query cells "
            f"(expected {self.expected_mixing:.0%}); {self.unknown:.1%} are unknown "
            f"(expected {self.false_alarm_rate:.1%}).",
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
    query
        Positions of query cells, shape ``(n, p)``.
    query_clusters
        Clusters of query cells, shape ``(n,)``.
    unknown
        Whether each query cell is unknown, shape ``(n,)``.
    reference
        Positions of reference cells, shape ``(m, p)``.
    reference_clusters
        Clusters of reference cells, shape ``(m,)``.
    false_alarm_rate
        Share of cells of known types that are called unknown.

    Returns
    -------
    MappingReport
        The report.
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
    """Mean share of query cells among the neighbours of a query cell, excluding itself."""
    together = np.concatenate([query, reference])
    n_neighbors = min(N_NEIGHBORS + 1, len(together))
    found = NearestNeighbors(n_neighbors=n_neighbors).fit(together).kneighbors(query)[1]
    others = found != np.arange(len(query))[:, None]
    others[others.all(1), -1] = False  # duplicates may displace a cell from its own neighbours
    return float(((found < len(query)) & others).sum() / max(others.sum(), 1))
