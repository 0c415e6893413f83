"""Columns and coordinates out of an AnnData, with errors that say what is there instead."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray


def column(adata: AnnData, key: str, argument: str = "key") -> pd.Series:
    """Return a column of ``adata.obs``.

    Raises
    ------
    ValueError
        If there is none; ``argument`` is the name of the argument that asked for it.
    """
    if key not in adata.obs:
        raise ValueError(f"`{argument}` is {key!r}; expected a column of `adata.obs`: {_listed(adata.obs)}.")
    return adata.obs[key]


def categories(adata: AnnData, key: str, argument: str = "key") -> pd.Series:
    """Return a column of ``adata.obs`` as a categorical of strings without unused categories.

    Categories keep their order; those of columns that are not categorical, and categories that are numbers
    written as text (the names of clusters), are sorted as numbers where all are numbers.
    """
    values = column(adata, key, argument)
    if not isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype("category")
    values = values.cat.remove_unused_categories()
    values = values.cat.rename_categories([str(name) for name in values.cat.categories])
    names = list(values.cat.categories)
    if names and all(name.isdecimal() for name in names):
        values = values.cat.reorder_categories(sorted(names, key=int))
    return values


def is_continuous(values: pd.Series) -> bool:
    """Whether a column is to be shown on a scale: a number that is neither a category nor a truth value."""
    return bool(pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values))


def coordinates(adata: AnnData, basis: str, n_columns: int | None = 2) -> NDArray[np.float64]:
    """Return the first columns, or all, of ``adata.obsm[basis]`` or, failing that, of ``"X_<basis>"``.

    Returns
    -------
    Array of shape ``(n_obs, n_columns)``.

    Raises
    ------
    ValueError
        If there are no such coordinates, or too few columns.
    """
    key = basis if basis in adata.obsm else f"X_{basis}"
    if key not in adata.obsm:
        raise ValueError(f"`basis` is {basis!r}; expected one of `adata.obsm`: {_listed(adata.obsm)}.")
    values = np.asarray(adata.obsm[key], dtype=np.float64)
    if values.ndim != 2 or (n_columns is not None and values.shape[1] < n_columns):
        raise ValueError(
            f"`adata.obsm[{key!r}]` has shape {values.shape}; expected {n_columns} columns or more."
        )
    return values[:, :n_columns]


def stored_colors(adata: AnnData, key: str) -> dict[str, str]:
    """Return the colours that scanpy stored for a column's categories; empty if there are none or too few."""
    values = adata.obs[key]
    stored = adata.uns.get(f"{key}_colors", ())
    if not isinstance(values.dtype, pd.CategoricalDtype) or len(stored) < len(values.cat.categories):
        return {}
    return {str(name): str(color) for name, color in zip(values.cat.categories, stored, strict=False)}


def stored_results(adata: AnnData, entry: str) -> Any | None:
    """Return an entry of ``adata.uns["vmmscvi"]``, or ``None``."""
    results = adata.uns.get("vmmscvi")
    return results.get(entry) if isinstance(results, dict) else None


def _listed(names: Any) -> str:
    found = [str(name) for name in names]
    return ", ".join(found[:15]) + (", ..." if len(found) > 15 else "") if found else "it is empty"
