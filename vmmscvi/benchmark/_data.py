"""Data sets as the methods and the scores get them: read once, normalised, as principal components."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scanpy as sc
from anndata import AnnData
from numpy.typing import NDArray

from vmmscvi.benchmark import _datasets
from vmmscvi.benchmark._specs import DatasetSpec

BATCH = _datasets.BATCH
LABELS = _datasets.CELL_TYPE
N_COMPONENTS = 50


def load_dataset(spec: DatasetSpec) -> AnnData:
    """Load a data set as :func:`vmmscvi.benchmark._datasets.load_dataset` does.

    It is kept for the next call, and therefore to be copied before it is changed.
    """
    return _load(_Key(spec))


def unintegrated_components(spec: DatasetSpec) -> NDArray[np.float32]:
    """:func:`principal_components` of a data set, likewise kept for the next call."""
    return _components(_Key(spec))


def fixed_sample(n: int, size: int) -> NDArray[np.int64]:
    """Draw ``size`` of ``n`` cells, in order; all of them if there are no more. Always the same ones."""
    if size >= n:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, size, replace=False))


def normalized(adata: AnnData) -> AnnData:
    """Return log1p of counts scaled to the median library size."""
    data = adata.copy()
    sc.pp.normalize_total(data)
    sc.pp.log1p(data)
    return data


def principal_components(adata: AnnData, n_components: int = N_COMPONENTS) -> NDArray[np.float32]:
    """Principal components of :func:`normalized` data, shape ``(n_obs, n_components)`` or fewer columns."""
    n_components = min(n_components, min(adata.shape) - 1)
    return np.asarray(sc.pp.pca(normalized(adata).X, n_comps=n_components, random_state=0), dtype=np.float32)


class _Key:
    """A specification that can be a key of a cache, although its arguments cannot be hashed."""

    def __init__(self, spec: DatasetSpec) -> None:
        self.spec = spec

    def __hash__(self) -> int:
        return hash(self.spec.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.spec == self.spec


@lru_cache(maxsize=1)
def _load(key: _Key) -> AnnData:
    return _datasets.load_dataset(key.spec)


@lru_cache(maxsize=1)
def _components(key: _Key) -> NDArray[np.float32]:
    return principal_components(_load(key))
