"""How well batches are mixed in the demonstration, with scikit-learn alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import silhouette_samples


def batch_mixing(embedding: NDArray[np.float32], types: ArrayLike, batches: ArrayLike) -> float:
    r"""Return how well batches are mixed within types: 1 perfectly, 0 not at all.

    The mean over types, then over their cells, of :math:`1 - |s|`, with :math:`s` the silhouette of the
    cell with respect to the batches of its type, as in the benchmark scIB. [Luecken2022]_

    Parameters
    ----------
    embedding
        Latent positions, shape ``(n, p)``.
    types, batches
        Labels, shape ``(n,)`` each.

    Returns
    -------
    The score; NaN if no type has cells of two batches.

    References
    ----------
    .. [Luecken2022] Luecken et al., Benchmarking atlas-level data integration in single-cell genomics, Nature
       Methods 19 (2022).
    """
    types, batches = np.asarray(types), np.asarray(batches)
    scores = []
    for name in np.unique(types):
        cells = types == name
        n_batches = len(np.unique(batches[cells]))
        if 1 < n_batches < cells.sum():
            silhouettes = silhouette_samples(embedding[cells], batches[cells])
            scores.append(float(np.mean(1 - np.abs(silhouettes))))
    return float(np.mean(scores)) if scores else float("nan")
