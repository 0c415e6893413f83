"""Reading input, and writing it again with results: what was there stays as it is, byte for byte."""

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
"""Encoding of ``obs`` since anndata 0.8, to which a column can be added."""


def read_h5ad(path: Path) -> AnnData:
    """Read a file.

    Raises
    ------
    CommandError
        If it cannot be read as h5ad.
    """
    try:
        return anndata.read_h5ad(path)
    except (
        Exception
    ) as error:  # h5py and anndata raise many kinds for files that are damaged or of other formats
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CommandError(f"{path} cannot be read as an h5ad file: {reason}") from error


def write_with_results(source: Path, adata: AnnData, results: Annotation, destination: Path) -> None:
    """Write a file with results added.

    The source is copied and results are added to the copy, which keeps everything else as it is, including
    compression and entries that this version of anndata could read but not write. Files from before anndata
    0.8 are written anew.

    Parameters
    ----------
    source
        The file that ``adata`` was read from; it is only read.
    adata
        Its content. Gets the results if the file is written anew.
    results
        What to add.
    destination
        The new file, which may not be ``source``.
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
    """Write an annotated file with further columns, which belong to the annotation from then on.

    Parameters
    ----------
    source, adata, destination
        As in :func:`write_with_results`.
    columns
        What to add to ``obs``.
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
        if adata.obs.index.name in columns:  # cells keep their names
            adata.obs.index.name = None
        adata.uns[UNS][WRITTEN] = np.array(written)
        write_h5ad(destination, adata, convert_strings_to_categoricals=False, compression="gzip")


def _can_be_extended(file: h5py.File) -> bool:
    return isinstance(file.get("obs"), h5py.Group) and _encoding(file["obs"]) == CURRENT_TABLE


def _extend(file: h5py.File, results: Annotation, earlier: set[str]) -> None:
    """Put results in the place of ``earlier`` ones, names such as ``"obs/vmm_cluster"``."""
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
    """Rename an index that is called like a result, which would be written over the names of the cells."""
    index = table.attrs["_index"]
    if index in results:
        name = "_index"
        while name in table:
            name += "_"
        table.move(index, name)
        table.attrs["_index"] = name


def _encoding(group: h5py.Group) -> tuple[Any, Any]:
    return group.attrs.get("encoding-type"), group.attrs.get("encoding-version")
