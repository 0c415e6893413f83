"""Access to columns and coordinates of an AnnData, with errors that list the available names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from vmmscvi._annotation import CLUSTER, NAME, is_annotated
from vmmscvi._layers import layer_names
from vmmscvi.plotting._palette import category_colors


@runtime_checkable
class Model(Protocol):
    """A model that holds data and can annotate them."""

    adata: Any

    def annotate(self) -> None:
        """Write results to the data."""


def as_anndata(data: AnnData | Model, argument: str = "adata") -> AnnData:
    """Return the data of a model, or the data themselves; of a MuData only the annotation of cells.

    Raises
    ------
    ValueError
        If ``data`` is neither data nor a model, or a model whose data have not been annotated.
    """
    if isinstance(data, AnnData):
        return data
    if _is_mudata(data):
        return _of_all_modalities(data)
    if not isinstance(data, Model):
        raise ValueError(f"`{argument}` is a {type(data).__name__}; expected an AnnData or a trained model.")
    found: Any = data.adata
    if not hasattr(found, "obs") or not is_annotated(found):
        raise ValueError(f"`{argument}` is a model without annotated data: call its `annotate()` first.")
    return found if isinstance(found, AnnData) else _of_all_modalities(found)


def _is_mudata(data: Any) -> bool:
    return hasattr(data, "mod") and hasattr(data, "obsm")


def _of_all_modalities(mdata: Any) -> AnnData:
    """Return the annotation of a MuData's cells, without the features of its modalities."""
    return AnnData(obs=mdata.obs.copy(), obsm=dict(mdata.obsm), uns=dict(mdata.uns))


def column_or_gene(adata: AnnData, key: str, layer: str | None = None, argument: str = "color") -> pd.Series:
    """Return a column of ``adata.obs``, or else the values of a gene, normalised if they are counts.

    Raises
    ------
    ValueError
        If there is neither a column nor a gene of this name, or the layer is missing.
    """
    if key in adata.obs:
        return adata.obs[key]
    if key not in adata.var_names:
        raise ValueError(
            f"`{argument}` is {key!r}; expected a gene or a column of `adata.obs`: {_listed(adata.obs)}."
        )
    if layer is not None and layer not in layer_names(adata):
        raise ValueError(f"`layer` is {layer!r}; expected one of `adata.layers`: {layer_names(adata)}.")
    matrix = adata.X if layer is None else adata.layers[layer]
    values = matrix[:, int(np.flatnonzero(adata.var_names == key)[0])]
    values = np.asarray(values.todense() if sparse.issparse(values) else values, dtype=np.float64).ravel()
    if np.array_equal(values, np.round(values)):
        total = np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel()
        values = np.log1p(values / np.maximum(total, 1.0) * 1e4)
    return pd.Series(values, adata.obs_names, name=key)


def display_names(adata: AnnData, key: str, groups: Iterable[str]) -> dict[str, str]:
    """Return the names of groups in plots; named clusters are shown by name and number."""
    names = [str(name) for name in groups]
    table = stored_results(adata, "clusters") if key == CLUSTER else None
    if not isinstance(table, pd.DataFrame) or "name" not in table:
        return {name: name for name in names}
    known = table["name"]
    return {
        name: f"{known[name]} ({name})" if name in known and str(known[name]) != name else name
        for name in names
    }


def column(adata: AnnData, key: str, argument: str = "key") -> pd.Series:
    """Return a column of ``adata.obs``.

    Raises
    ------
    ValueError
        If the column is missing; the message names ``argument``.
    """
    if key not in adata.obs:
        raise ValueError(f"`{argument}` is {key!r}; expected a column of `adata.obs`: {_listed(adata.obs)}.")
    return adata.obs[key]


def categories(adata: AnnData, key: str, argument: str = "key") -> pd.Series:
    """Return a column of ``adata.obs`` as a categorical of strings without unused categories.

    Categories keep their order, except that purely numeric names, such as those of clusters, are sorted as
    numbers.
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
    """Return whether to show a column on a continuous scale: numeric, neither categorical nor boolean."""
    return bool(pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values))


def coordinates(adata: AnnData, basis: str, n_columns: int | None = 2) -> NDArray[np.float64]:
    """Return the first columns (or all) of ``adata.obsm[basis]``, or else of ``"X_<basis>"``.

    Returns
    -------
    numpy.ndarray
        Coordinates of shape ``(n_obs, n_columns)``.

    Raises
    ------
    ValueError
        If the coordinates are missing or have too few columns.
    """
    key = basis if basis in adata.obsm else f"X_{basis}"
    if key not in adata.obsm:
        raise ValueError(f"`basis` is {basis!r}; expected one of `adata.obsm`: {_listed(adata.obsm)}.")
    values = np.asarray(adata.obsm[key], dtype=np.float64)
    if values.ndim != 2 or (n_columns is not None and values.shape[1] < n_columns):
        raise ValueError(
            f"`adata.obsm[{key!r}]` has shape {values.shape}; expected at least {n_columns} columns."
        )
    return values[:, :n_columns]


def stored_colors(adata: AnnData, key: str) -> dict[str, str]:
    """Return the colours that scanpy stored for a column's categories; empty if there are none or too few.

    Names of clusters default to the colours of the clusters.
    """
    values = adata.obs[key]
    stored = adata.uns.get(f"{key}_colors", ())
    if not isinstance(values.dtype, pd.CategoricalDtype) or len(stored) < len(values.cat.categories):
        return _colors_of_names(adata) if key == NAME and CLUSTER in adata.obs else {}
    return {str(name): str(color) for name, color in zip(values.cat.categories, stored, strict=False)}


def _colors_of_names(adata: AnnData) -> dict[str, str]:
    """Return the colour of the first cluster of each name."""
    clusters, names = categories(adata, CLUSTER), adata.obs[NAME].astype(str)
    colors = category_colors(clusters.cat.categories, None, stored_colors(adata, CLUSTER))
    found: dict[str, str] = {}
    for cluster, color in colors.items():
        for name in names[(clusters == cluster).to_numpy()].unique():
            found.setdefault(name, color)
    return found


def stored_results(adata: AnnData, entry: str) -> Any | None:
    """Return an entry of ``adata.uns["vmmscvi"]``, or ``None``."""
    results = adata.uns.get("vmmscvi")
    return results.get(entry) if isinstance(results, dict) else None


def _listed(names: Any) -> str:
    found = [str(name) for name in names]
    return ", ".join(found[:15]) + (", ..." if len(found) > 15 else "") if found else "it is empty"
