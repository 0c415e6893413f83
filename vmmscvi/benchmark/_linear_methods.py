"""Methods on principal components: PCA alone, Harmony, Scanorama."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vmmscvi.benchmark._data import BATCH, normalized, principal_components
from vmmscvi.benchmark._methods import Fit
from vmmscvi.benchmark._specs import MethodSpec

if TYPE_CHECKING:
    from anndata import AnnData


def fit(adata: AnnData, method: MethodSpec, seed: int) -> Callable[[], Fit]:
    """Compute an embedding; see :func:`vmmscvi.benchmark._methods.fitter`."""
    embed = EMBEDDINGS[method.kind]
    z = embed(adata, seed, **method.model)
    return lambda: Fit(z=np.ascontiguousarray(z, dtype=np.float32))


def pca(adata: AnnData, seed: int, n_components: int = 10) -> NDArray[np.float32]:
    """Principal components of normalised, log-transformed counts; the same for every seed."""
    return principal_components(adata, n_components)


def harmony(
    adata: AnnData, seed: int, n_components: int = 50, n_latent: int | None = None, **kwargs: Any
) -> NDArray[np.float32]:
    """Harmony [Korsunsky2019]_ on the principal components.

    Parameters
    ----------
    adata, seed
        As in :func:`fit`.
    n_components
        Principal components that are corrected.
    n_latent
        How many of them are kept afterwards; all by default.
    **kwargs
        Arguments of :func:`harmonypy.run_harmony`.

    References
    ----------
    .. [Korsunsky2019] Korsunsky et al., Fast, sensitive and accurate integration of single-cell data with
       Harmony, Nature Methods 16 (2019).
    """
    components = principal_components(adata, n_components)
    if adata.obs[BATCH].nunique() > 1:
        harmonypy = import_module("harmonypy")
        arguments = {"verbose": False, "random_state": seed, **kwargs}
        result = harmonypy.run_harmony(components, adata.obs[[BATCH]].copy(), BATCH, **arguments)
        corrected = np.asarray(result.Z_corr, dtype=np.float32)
        # the orientation differs between versions
        components = corrected if corrected.shape == components.shape else corrected.T
    return components[:, :n_latent]


def scanorama(adata: AnnData, seed: int, n_latent: int = 50, **kwargs: Any) -> NDArray[np.float32]:
    """Scanorama [Hie2019]_ on normalised, log-transformed counts; with one batch their components.

    Parameters
    ----------
    adata, seed
        As in :func:`fit`.
    n_latent
        Dimensions of the embedding.
    **kwargs
        Arguments of :func:`scanorama.integrate`.

    References
    ----------
    .. [Hie2019] Hie, Bryson & Berger, Efficient integration of heterogeneous single-cell transcriptomes using
       Scanorama, Nature Biotechnology 37 (2019).
    """
    if adata.obs[BATCH].nunique() == 1:
        return principal_components(adata, n_latent)
    library = import_module("scanorama")
    data = normalized(adata)
    batches = [np.flatnonzero(data.obs[BATCH] == name) for name in data.obs[BATCH].cat.categories]
    genes = [list(data.var_names)] * len(batches)
    arguments = {"dimred": min(n_latent, min(data.shape) - 1), "seed": seed, "verbose": 0, **kwargs}
    parts, _ = library.integrate([data.X[cells].tocsr() for cells in batches], genes, **arguments)
    z = np.empty((data.n_obs, parts[0].shape[1]), dtype=np.float32)
    for cells, part in zip(batches, parts, strict=True):
        z[cells] = part
    return z


EMBEDDINGS: dict[str, Callable[..., NDArray[np.float32]]] = {
    "pca": pca,
    "harmony": harmony,
    "scanorama": scanorama,
}
