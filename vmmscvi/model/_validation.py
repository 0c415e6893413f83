"""Checks of the user's data, to prevent NaN and silently wrong models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from anndata import AnnData
from scipy import sparse
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager

from vmmscvi._layers import layer_names
from vmmscvi.model._categories import check_categories

ROWS_PER_CHUNK = 8192
CATEGORICAL = ("batch_key", "labels_key", "categorical_covariate_keys")
"""Arguments whose columns hold categories."""


def check_keys(adata: AnnData, layer: str | None, columns: Mapping[str, str | Sequence[str] | None]) -> None:
    """Check that the layer and columns to register exist.

    Parameters
    ----------
    adata
        The data.
    layer
        Name of the layer of counts; ``None`` for ``adata.X``.
    columns
        Value of every argument that names columns of ``adata.obs``.

    Raises
    ------
    ValueError
        If the layer or a column is missing, or a categorical column has missing values. The message names
        the argument and the available names.
    """
    layers = layer_names(adata)
    if layer is not None and layer not in layers:
        raise ValueError(
            f"`layer`: {layer!r} is not in `adata.layers`, which has {layers}. Pass one of them, "
            "or leave `layer` out if the raw counts are in `adata.X`."
        )
    for argument, value in columns.items():
        if argument.endswith("_keys") and isinstance(value, str):
            raise ValueError(f"`{argument}` must be a list of columns, found {value!r}: pass [{value!r}].")
        names = [value] if isinstance(value, str) else value or []
        missing = [name for name in names if name not in adata.obs]
        if missing:
            raise ValueError(
                f"`{argument}`: {missing[0]!r} is not a column of `adata.obs`, which has "
                f"{list(adata.obs.columns)[:20]}. Pass the name of a column."
            )
        if argument in CATEGORICAL and hasattr(adata.obs, "columns"):
            for name in names:
                check_categories(adata.obs[name], argument)


def check_counts(adata_manager: AnnDataManager, require_counts: bool = True) -> None:
    """Check the registered expression matrix.

    Parameters
    ----------
    adata_manager
        Manager of the registered AnnData.
    require_counts
        Whether values must be non-negative integers without empty cells (all likelihoods but ``"normal"``).

    Raises
    ------
    ValueError
        If there are NaN, negative or fractional values, or cells without a count.
    """
    where = _describe_matrix(adata_manager)
    n_obs = adata_manager.adata.n_obs
    empty_cells: list[int] = []
    for start, chunk in row_chunks(adata_manager.get_from_registry(REGISTRY_KEYS.X_KEY), n_obs):
        values = chunk.data if sparse.issparse(chunk) else np.asarray(chunk)
        if not np.isfinite(values).all():
            raise ValueError(
                f"{where} has NaN or infinite values (first seen in cells {start} to "
                f"{start + chunk.shape[0] - 1}). Remove these cells or genes, or register the layer that "
                "holds the raw counts."
            )
        if not require_counts:
            continue
        if values.size and values.min() < 0:
            raise ValueError(
                f"{where} has negative values (smallest: {values.min():g}); raw counts are expected. "
                "Scaled or regressed data cannot be used: register the raw counts with "
                "`setup_anndata(adata, layer=...)`."
            )
        if not _is_integral(values):
            fractional = values[values != np.round(values)].ravel()[0]
            raise ValueError(
                f"{where} has fractional values (for example {fractional:g}); raw counts are expected. "
                "Normalised or log-transformed data cannot be used: register the raw counts with "
                "`setup_anndata(adata, layer=...)`, or round estimated counts first."
            )
        totals = np.asarray(chunk.sum(axis=1)).ravel()
        empty_cells.extend((np.flatnonzero(totals == 0) + start).tolist())
    if empty_cells:
        names = adata_manager.adata.obs_names[empty_cells[:5]].tolist()
        raise ValueError(
            f"{where} has {len(empty_cells)} cells without any count (for example {names}). Remove them, for "
            "example with `scanpy.pp.filter_cells(adata, min_counts=1)`, after the selection of genes."
        )


def check_batches(adata_manager: AnnDataManager) -> None:
    """Check that every batch has at least two cells.

    Raises
    ------
    ValueError
        If a batch has a single cell, because its effect could not be separated from the cell's state.
    """
    if REGISTRY_KEYS.BATCH_KEY not in adata_manager.data_registry:
        return
    batches = np.asarray(adata_manager.get_from_registry(REGISTRY_KEYS.BATCH_KEY)).ravel()
    state = adata_manager.get_state_registry(REGISTRY_KEYS.BATCH_KEY)
    n_cells = np.bincount(batches.astype(int), minlength=len(state.categorical_mapping))
    lonely = [str(state.categorical_mapping[i]) for i in np.flatnonzero(n_cells == 1)]
    if lonely:
        raise ValueError(
            f"`batch_key` {state.original_key!r} has batches of a single cell: {lonely[:5]}. A batch needs "
            "at least two cells, preferably dozens: merge such batches or remove their cells."
        )


def check_covariates(adata_manager: AnnDataManager) -> None:
    """Check continuous covariates and size factors, for which scvi-tools accepts any value.

    Raises
    ------
    ValueError
        If a continuous covariate is not finite, or a size factor is not a positive number.
    """
    registered = adata_manager.data_registry
    if REGISTRY_KEYS.CONT_COVS_KEY in registered:
        covariates = adata_manager.get_from_registry(REGISTRY_KEYS.CONT_COVS_KEY)
        for name, column in covariates.items():
            if not np.isfinite(column.to_numpy(dtype=float)).all():
                raise ValueError(
                    f"`continuous_covariate_keys`: {name!r} has NaN or infinite values. Impute them, or "
                    "remove these cells."
                )
    if REGISTRY_KEYS.SIZE_FACTOR_KEY in registered:
        factors = np.asarray(adata_manager.get_from_registry(REGISTRY_KEYS.SIZE_FACTOR_KEY), dtype=float)
        invalid = factors[~(np.isfinite(factors) & (factors > 0))]
        if invalid.size:
            raise ValueError(
                f"`size_factor_key`: size factors must be positive and finite, found {invalid[0]:g}."
            )


def check_n_components(n_components: int, n_train: int) -> None:
    """Check that there are enough training cells to initialise every component from a different cell.

    Raises
    ------
    ValueError
        If there are more components than training cells.
    """
    if n_components > n_train:
        raise ValueError(
            f"`n_components` is {n_components}, but there are only {n_train} training cells, and every "
            f"component is initialised from a different cell. Pass at most {n_train}, preferably a tenth."
        )


def check_start_cells(start_cells: np.ndarray | None, n_components: int, n_obs: int | None) -> None:
    """Check the cells that initialise the pseudo-inputs.

    Parameters
    ----------
    start_cells
        Positions of the cells, ``None`` for random ones.
    n_components
        Number of components.
    n_obs
        Number of cells.

    Raises
    ------
    ValueError
        If they are not one different position for each component.
    """
    if start_cells is None:
        return
    if start_cells.shape != (n_components,) or not np.issubdtype(start_cells.dtype, np.integer):
        raise ValueError(
            f"`start_cells` must have {n_components} positions of cells, one for each component, found shape "
            f"{start_cells.shape} of {start_cells.dtype}: change it or `n_components`."
        )
    if n_obs is not None and not ((start_cells >= 0) & (start_cells < n_obs)).all():
        raise ValueError(f"`start_cells` must be positions from 0 to {n_obs - 1}, found {start_cells[:5]}.")
    if len(np.unique(start_cells)) < len(start_cells):
        raise ValueError(
            "`start_cells` has duplicates; expected different cells, because components with the same "
            "initial values stay the same."
        )


def _describe_matrix(adata_manager: AnnDataManager) -> str:
    layer = adata_manager.data_registry[REGISTRY_KEYS.X_KEY].attr_key
    return "`adata.X`" if layer in (None, "None") else f"`adata.layers[{layer!r}]`"


def row_chunks(matrix: Any, n_obs: int) -> Iterator[tuple[int, Any]]:
    """Yield blocks of rows of a dense, sparse or on-disk matrix."""
    if isinstance(matrix, sparse.csc_matrix | sparse.csc_array):
        matrix = matrix.tocsr()
    for start in range(0, n_obs, ROWS_PER_CHUNK):
        yield start, matrix[start : start + ROWS_PER_CHUNK]


def _is_integral(values: np.ndarray) -> bool:
    return bool(np.issubdtype(values.dtype, np.integer) or (values == np.round(values)).all())
