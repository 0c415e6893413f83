"""The measures of scib-metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from vmmscvi.benchmark._schema import BIO_CONSERVATION, SCIB_MEASURES, TOTAL

if TYPE_CHECKING:
    from scib_metrics.nearest_neighbors import NeighborsResults


def scib_measures(
    z: NDArray[np.float32], labels: ArrayLike, batch: ArrayLike, unintegrated: NDArray[np.float32]
) -> dict[str, float]:
    """Compute all measures of :class:`scib_metrics.benchmark.Benchmarker`, with exact neighbours.

    Parameters
    ----------
    z
        Embedding, shape ``(n, p)``.
    labels, batch
        Shape ``(n,)`` each.
    unintegrated
        Principal components of the normalised data, shape ``(n, c)``, for the comparison of what batches
        explain before and after.

    Returns
    -------
    The measures by the names that scib-metrics prints, with ``"Bio conservation"``, ``"Batch correction"``
    (their means) and ``"Total"``, 0.6 of the former plus 0.4 of the latter. With a single batch there is no
    batch correction, and the total is the bio-conservation. Measures that are not defined are left out.
    """
    from anndata import AnnData
    from scib_metrics.benchmark import BatchCorrection, Benchmarker, BioConservation

    adata = AnnData(obs=pd.DataFrame({"labels": np.asarray(labels), "batch": np.asarray(batch)}).astype(str))
    adata.obs = adata.obs.astype("category")
    adata.obsm["z"] = z
    adata.obsm["unintegrated"] = unintegrated
    single_batch = adata.obs["batch"].nunique() == 1
    benchmarker = Benchmarker(
        adata,
        batch_key="batch",
        label_key="labels",
        embedding_obsm_keys=["z"],
        bio_conservation_metrics=BioConservation(),
        batch_correction_metrics=None if single_batch else BatchCorrection(),
        pre_integrated_embedding_obsm_key="unintegrated",
        progress_bar=False,
    )
    benchmarker.prepare(neighbor_computer=exact_neighbors)
    benchmarker.benchmark()
    row = benchmarker.get_results(min_max_scale=False).loc["z"].astype(float)
    found = {name: float(row[name]) for name in SCIB_MEASURES if name in row and not np.isnan(row[name])}
    if single_batch:
        found[TOTAL] = found[BIO_CONSERVATION]
    return found


def exact_neighbors(z: NDArray[np.float32], n_neighbors: int) -> NeighborsResults:
    """Return the nearest neighbours of every cell, itself first, as scib-metrics expects them."""
    from scib_metrics.nearest_neighbors import NeighborsResults
    from sklearn.neighbors import NearestNeighbors

    distances, indices = NearestNeighbors(n_neighbors=n_neighbors).fit(z).kneighbors(z)
    return NeighborsResults(indices=indices, distances=distances)
