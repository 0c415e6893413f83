"""Checks of matrices of peaks and proteins before training."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from scvi.data import AnnDataManager

from vmmscvi.model._validation import row_chunks


def check_features(adata_manager: AnnDataManager, key: str, integral: bool, allow_empty: bool) -> None:
    """Check a registered matrix of non-negative values.

    Parameters
    ----------
    adata_manager
        Manager of the registered data.
    key
        Name of the matrix in the registry.
    integral
        Whether values must be whole numbers.
    allow_empty
        Whether cells may have only zeros, for modalities that were not measured.

    Raises
    ------
    ValueError
        If there are NaN, negative or fractional values, or empty cells.
    """
    if key not in adata_manager.data_registry:
        return
    field = adata_manager.data_registry[key]
    has_key = field.attr_key not in (None, "None")
    where = f"`{field.attr_name}[{field.attr_key!r}]`" if has_key else f"`{field.attr_name}`"
    n_empty = 0
    for start, chunk in row_chunks(adata_manager.get_from_registry(key), adata_manager.adata.n_obs):
        values: Any = chunk.data if sparse.issparse(chunk) else np.asarray(chunk)
        stop = start + chunk.shape[0] - 1
        if not np.isfinite(values).all():
            raise ValueError(f"{where} has NaN or infinite values (first seen in cells {start} to {stop}).")
        if values.size and values.min() < 0:
            raise ValueError(f"{where} has negative values (smallest: {values.min():g}); expected counts.")
        if integral and values.size and not (values == np.round(values)).all():
            fractional = values[values != np.round(values)].ravel()[0]
            raise ValueError(
                f"{where} has fractional values (for example {fractional:g}); expected raw counts."
            )
        n_empty += int((np.asarray(chunk.sum(axis=1)).ravel() == 0).sum())
    if n_empty and not allow_empty:
        raise ValueError(
            f"{where} has {n_empty} cells without any count. Remove them before `setup_anndata`."
        )
