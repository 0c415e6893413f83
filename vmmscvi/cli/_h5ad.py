"""Read the input, and write it again with results; existing content is kept byte for byte."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.io import write_elem, write_h5ad

from vmmscvi._annotation import UNS, WRITTEN, Annotation, written_entries
from vmmscvi.cli._errors import CommandError

CURRENT_TABLE = ("dataframe", "0.2.0")
"""Encoding of ``obs`` since anndata 0.8, which allows columns to be added."""


def read_h5ad(path: Path) -> AnnData:
    """Read a file.

    Raises
    ------
    CommandError
        If it is not a readable h5ad file.
    """
    try:
        return anndata.read_h5ad(path)
    except Exception as error:  # h5py and anndata raise many types for damaged files and other formats
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CommandError(f"{path} cannot be read as an h5ad file: {reason}") from error


def write_with_results(source: Path, adata: AnnData, results: Annotation, destination: Path) -> None:
    """Write a copy of a file with results added.

    Results are added to a copy of the source. This keeps all other content, including compression and
    entries that this version of anndata can read but not write. Files from before anndata 0.8 are rewritten
    completely.

    Parameters
    ----------
    source
        The file from which ``adata`` was read; not changed.
    adata
        Content of the file. Receives the results if the file is rewritten.
    results
        Results to add.
    destination
        The new file; must differ from ``source``.
    """
    shutil.copyfile(source, destination)
    with h5py.File(destination, "r+") as file:
        if can_be_extended := _can_be_extended(file):
            _extend(file, results, written_entries(adata))
    if not can_be_extended:
        destination.unlink()
        results.write_to(adata)
        write_h5ad(destination, adata, convert_strings_to_categoricals=False, compression="gzip")


def write_with_columns(
    source: Path, adata: AnnData, columns: Mapping[str, pd.Categorical], destination: Path
) -> None:
    """Write an annotated file with further columns, and record them as part of the annotation.

    Parameters
    ----------
    source, adata
        As in :func:`write_with_results`.
    columns
        Columns to add to ``obs``.
    destination
        As in :func:`write_with_results`.
    """
    written = sorted(written_entries(adata) | {f"obs/{name}" for name in columns})
    shutil.copyfile(source, destination)
    with h5py.File(destination, "r+") as file:
        if can_be_extended := _can_be_extended(file):
            _add_columns(file["obs"], columns)
            write_elem(file[f"uns/{UNS}"], WRITTEN, np.array(written))
    if not can_be_extended:
        destination.unlink()
        for name, values in columns.items():
            adata.obs[name] = values
        if adata.obs.index.name in columns:  # keep the names of the cells
            adata.obs.index.name = None
        adata.uns[UNS][WRITTEN] = np.array(written)
        write_h5ad(destination, adata, convert_strings_to_categoricals=False, compression="gzip")


def _can_be_extended(file: h5py.File) -> bool:
    return isinstance(file.get("obs"), h5py.Group) and _encoding(file["obs"]) == CURRENT_TABLE


def _extend(file: h5py.File, results: Annotation, earlier: set[str]) -> None:
    """Replace ``earlier`` results (names such as ``"obs/vmm_cluster"``) by new ones."""
    table = file["obs"]
    _keep_index(table, set(results.columns))
    for entry in earlier:
        if entry in file:
            del file[entry]
    order = [str(name) for name in table.attrs["column-order"]]
    table.attrs["column-order"] = _names([name for name in order if f"obs/{name}" not in earlier])
    _add_columns(table, results.columns)
    for group, entries in (("obsm", results.obsm()), ("uns", {UNS: results.stored_uns()})):
        if group not in file:
            write_elem(file, group, {})
        for name, value in entries.items():
            write_elem(file[group], name, value)


def _add_columns(table: h5py.Group, columns: Mapping[str, Any]) -> None:
    _keep_index(table, set(columns))
    order = [str(name) for name in table.attrs["column-order"]]
    for name, values in columns.items():
        write_elem(table, name, values)
        order += [name] if name not in order else []
    table.attrs["column-order"] = _names(order)


def _names(names: list[str]) -> Any:
    return np.array(names, dtype=h5py.string_dtype())


def _keep_index(table: h5py.Group, results: set[str]) -> None:
    """Rename an index that has the name of a result, which would overwrite the names of the cells."""
    index = table.attrs["_index"]
    if index in results:
        name = "_index"
        while name in table:
            name += "_"
        table.move(index, name)
        table.attrs["_index"] = name


def _encoding(group: h5py.Group) -> tuple[Any, Any]:
    return group.attrs.get("encoding-type"), group.attrs.get("encoding-version")
