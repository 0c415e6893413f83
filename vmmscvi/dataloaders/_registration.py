"""Registration of batches and covariates of cells on disk, as for an AnnData."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from numpy.typing import NDArray
from scvi import REGISTRY_KEYS

from vmmscvi.dataloaders._count_files import CountFiles
from vmmscvi.model import SCVI_VMM
from vmmscvi.model._genes import registered_genes, require_same_genes
from vmmscvi.model._validation import check_batches, check_covariates


class ObsColumns(TypedDict, total=False):
    """Columns of ``obs``, with the names of :meth:`vmmscvi.SCVI_VMM.setup_anndata`."""

    batch_key: str | None
    labels_key: str | None
    size_factor_key: str | None
    categorical_covariate_keys: list[str] | None
    continuous_covariate_keys: list[str] | None


Columns = Mapping[str, Any]


def register(
    files: CountFiles, columns: ObsColumns, file_key: str | None, registry: dict[str, Any] | None
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Register the cells without their counts.

    Parameters
    ----------
    files
        The cells.
    columns
        Columns of ``obs``.
    file_key
        Name of a column to create from the names of the files.
    registry
        Registry of other cells with the same genes, batches and categories. It also supplies columns that
        ``columns`` does not name.

    Returns
    -------
    tuple[dict, dict]
        Registry as made by :meth:`vmmscvi.SCVI_VMM.setup_anndata`; and codes and covariates by their names in
        the registry, arrays of shape ``(n_cells, n_columns)``.

    Raises
    ------
    TypeError
        If ``columns`` has an unknown name.
    ValueError
        If a column is missing, a batch or category is unknown, a batch has one cell, genes differ, or
        covariates are not finite.
    """
    asked: dict[str, Any] = {**columns}
    unknown = sorted(set(asked) - set(ObsColumns.__annotations__))
    if unknown:
        raise TypeError(
            f"unexpected argument {unknown[0]!r}; expected one of {list(ObsColumns.__annotations__)}."
        )
    if registry is not None:
        known = {name: registry["setup_args"].get(name) for name in ObsColumns.__annotations__}
        asked = known | {name: value for name, value in asked.items() if value}
    obs = _read_obs(files, asked, file_key)
    if registry is not None:
        require_same_genes(files.var_names, registered_genes(registry), "files")
    nothing = sp.csr_matrix(files.shape, dtype=np.float32)
    cells = AnnData(
        X=nothing if files.layer is None else None,
        obs=obs,
        var=pd.DataFrame(index=files.var_names),
        layers={} if files.layer is None else {files.layer: nothing},
    )
    SCVI_VMM.setup_anndata(cells, layer=files.layer, source_registry=registry, **asked)
    manager = SCVI_VMM._get_most_recent_anndata_manager(cells, required=True)
    if registry is None:
        check_batches(manager)
    check_covariates(manager)
    annotations = {
        name: _as_columns(manager.get_from_registry(name))
        for name in manager.data_registry
        if name != REGISTRY_KEYS.X_KEY
    }
    return manager.registry if registry is None else registry, annotations


def _read_obs(files: CountFiles, columns: Columns, file_key: str | None) -> pd.DataFrame:
    """Read the requested columns, and add the column of file names."""
    obs = files.obs(sorted({name for value in columns.values() for name in _as_list(value)} - {file_key}))
    if file_key is not None:
        stems = [path.name.removesuffix(".h5ad") for path in files.paths]
        if len(set(stems)) < len(stems):
            raise ValueError(f"`file_key` needs files of different names, found {stems}.")
        obs[file_key] = pd.Categorical.from_codes(
            files.file_of(np.arange(len(obs))).astype(np.int32), categories=stems
        )
    for argument, value in columns.items():
        missing = [name for name in _as_list(value) if name not in obs]
        if missing:
            raise ValueError(
                f"`{argument}`: {missing[0]!r} is not a column of `obs` in all files; the first one has "
                f"{files.obs_columns()[:20]}. Pass the name of a column."
            )
    obs.index = obs.index.astype(str)
    return obs


def _as_list(value: str | Sequence[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])


def _as_columns(values: Any) -> NDArray[Any]:
    """Convert to two dimensions and to the types of scvi-tools' own loader."""
    table = np.asarray(values)
    is_code = np.issubdtype(table.dtype, np.integer)
    return table.reshape(len(table), -1).astype(np.int64 if is_code else np.float32)
