"""Reading input, and writing it again with results: what was there stays as it is, byte for byte."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
from anndata import AnnData
from anndata.io import write_elem, write_h5ad

from vmmscvi.cli._errors import CommandError
from vmmscvi.cli._results import EMBEDDING, UNS, Results

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


def write_with_results(source: Path, adata: AnnData, results: Results, destination: Path) -> None:
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
        can_be_extended = isinstance(file.get("obs"), h5py.Group) and _encoding(file["obs"]) == CURRENT_TABLE
        if can_be_extended:
            _extend(file, results)
    if not can_be_extended:
        destination.unlink()
        add_results(adata, results)
        write_h5ad(destination, adata, convert_strings_to_categoricals=False, compression="gzip")


def add_results(adata: AnnData, results: Results) -> None:
    """Put results into an AnnData of the same cells; earlier ones are replaced, names of cells are kept."""
    if adata.obs.index.name in results.columns():
        adata.obs.index.name = None
    adata.obsm[EMBEDDING] = results.embedding
    for name, values in results.columns().items():
        adata.obs[name] = values
    adata.uns[UNS] = dict(results.uns)


def _extend(file: h5py.File, results: Results) -> None:
    table = file["obs"]
    _keep_index(table, set(results.columns()))
    order = [str(name) for name in table.attrs["column-order"]]
    for name, values in results.columns().items():
        write_elem(table, name, values)
        order += [name] if name not in order else []
    table.attrs["column-order"] = np.array(order, dtype=h5py.string_dtype())
    for name, entry, value in (("obsm", EMBEDDING, results.embedding), ("uns", UNS, dict(results.uns))):
        if name not in file:
            write_elem(file, name, {})
        write_elem(file[name], entry, value)


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
