"""The table of the demo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from rich.console import Console
from rich.table import Table
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from vmmscvi.cli._metrics import batch_mixing


@dataclass(frozen=True)
class Row:
    """Agreement of clusters and embedding of one prior with the known types."""

    prior: str
    clusters_by: str
    n_clusters: int
    nmi: float
    ari: float
    batch_mixing: float


def compare(
    prior: str,
    clusters_by: str,
    clusters: pd.Categorical | None,
    embedding: NDArray[np.float32],
    types: ArrayLike,
    batches: ArrayLike,
) -> Row:
    """Score one prior.

    Parameters
    ----------
    prior
        Name of the prior.
    clusters_by
        Source of the clusters.
    clusters
        Cluster of each cell, shape ``(n,)``; ``None`` if there are none, which makes the scores NaN.
    embedding
        Latent positions, shape ``(n, p)``.
    types, batches
        Known types and batches, shape ``(n,)``.

    Returns
    -------
    Row
        A row of the table.
    """
    mixing = batch_mixing(embedding, types, batches)
    if clusters is None:
        return Row(prior, clusters_by, 0, float("nan"), float("nan"), mixing)
    nmi = float(normalized_mutual_info_score(types, clusters))
    ari = float(adjusted_rand_score(types, clusters))
    return Row(prior, clusters_by, len(np.unique(clusters)), nmi, ari, mixing)


def as_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """Return the rows as a DataFrame, for storage."""
    return pd.DataFrame([asdict(row) for row in rows])


def print_table(rows: Sequence[Row], title: str, console: Console | None = None) -> None:
    """Print the rows with a legend, to standard output or to ``console``."""
    table = Table(
        title=title,
        caption="NMI, ARI: agreement of the clusters with the known types (training used no labels). "
        "Batch mixing: 1 - |silhouette of batches within types|. 1 is best for all three. "
        "Leiden's clusters depend on a resolution; scanpy's default is 1.",
    )
    for heading in ("prior", "clusters by"):
        table.add_column(heading)
    for heading in ("clusters", "NMI", "ARI", "batch mixing"):
        table.add_column(heading, justify="right")
    for row in rows:
        count = "-" if np.isnan(row.nmi) else str(row.n_clusters)
        scores = [
            "-" if np.isnan(score) else f"{score:.3f}" for score in (row.nmi, row.ari, row.batch_mixing)
        ]
        table.add_row(row.prior, row.clusters_by, count, *scores)
    (console or Console()).print(table)
