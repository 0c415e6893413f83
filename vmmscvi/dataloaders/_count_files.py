"""Sparse counts of one or several h5ad files as one matrix on disk, read by rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata.io import read_elem
from numpy.typing import NDArray

Rows = NDArray[np.int64]


class CountFiles:
    """The cells of several h5ad files, concatenated. Only row pointers are held in memory.

    Parameters
    ----------
    paths
        The files. All must have the same genes in the same order.
    layer
        Layer of the counts, a CSR matrix; ``X`` by default.

    Raises
    ------
    ValueError
        If a file is missing or is not an h5ad file, the counts are missing or not CSR, or genes differ.
    """

    def __init__(self, paths: Sequence[Path], layer: str | None) -> None:
        self.paths, self.layer = list(paths), layer
        if not self.paths:
            raise ValueError("`files` is empty: pass the path of at least one h5ad file.")
        pointers: list[Rows] = []
        n_obs = []
        for path in self.paths:
            with _open(path) as file:
                matrix = self._matrix(file, path)
                pointer = matrix["indptr"][:].astype(np.int64)
                genes = _names(file["var"])
                if not pointers:
                    self.var_names = genes
                elif not genes.equals(self.var_names):
                    raise ValueError(
                        f"`files`: the genes of {str(path)!r} differ from those of {str(self.paths[0])!r}, "
                        "or are in another order. Write files with the same genes in the same order."
                    )
            pointers.append(pointer)
            n_obs.append(len(pointer) - 1)
        self.first_row: Rows = np.concatenate([[0], np.cumsum(n_obs)])
        self._pointers = pointers
        self.shape = (int(self.first_row[-1]), len(self.var_names))

    @property
    def n_stored(self) -> Rows:
        """Number of stored counts of every cell."""
        return np.concatenate([np.diff(pointer) for pointer in self._pointers])

    @property
    def where(self) -> str:
        """Name of the counts in messages."""
        return "`layer`: `X`" if self.layer is None else f"`layer`: {self.layer!r}"

    def require_counts(self, rows: Rows, totals: NDArray[Any]) -> None:
        """Check that no cell is empty.

        Parameters
        ----------
        rows
            Positions of cells.
        totals
            Sum or number of counts of each cell.

        Raises
        ------
        ValueError
            If it is zero for a cell.
        """
        empty = rows[totals == 0]
        if len(empty):
            names = self.obs_names()[empty[:5]].tolist()
            raise ValueError(
                f"{self.where} has at least {len(empty)} cells without any count (for example {names}). "
                "Remove them first."
            )

    def obs(self, columns: Sequence[str]) -> pd.DataFrame:
        """Read columns of ``obs``; columns that are not in every file are left out.

        Parameters
        ----------
        columns
            Names of the columns.

        Returns
        -------
        DataFrame
            The columns of all cells.
        """
        parts: list[pd.DataFrame] = []
        for path in self.paths:
            with _open(path) as file:
                found = [name for name in columns if name in file["obs"]]
                table = {name: read_elem(file["obs"][name]) for name in found}
                n_obs = len(self._pointers[len(parts)]) - 1
                parts.append(pd.DataFrame(table, index=pd.RangeIndex(n_obs), columns=found))
        together = pd.concat(parts, ignore_index=True, join="inner")
        for name in together.columns:
            # categories that differ between files become objects
            if together[name].dtype == object and isinstance(parts[0][name].dtype, pd.CategoricalDtype):
                together[name] = together[name].astype("category")
        return together

    def obs_columns(self) -> list[str]:
        """Names of the columns of ``obs`` of the first file."""
        with _open(self.paths[0]) as file:
            return [str(name) for name in file["obs"].attrs["column-order"]]

    def obs_names(self) -> pd.Index:
        """Read the names of all cells."""
        names = []
        for path in self.paths:
            with _open(path) as file:
                names.append(_names(file["obs"]))
        return names[0].append(names[1:])

    def file_of(self, rows: Rows) -> NDArray[np.intp]:
        """Find the index of the file of each row.

        Parameters
        ----------
        rows
            Positions of cells.

        Returns
        -------
        numpy.ndarray
            Indices of files, shape of ``rows``.
        """
        return np.searchsorted(self.first_row, rows, side="right") - 1

    @contextmanager
    def open(self) -> Iterator[OpenCounts]:
        """Open the files within the context."""
        with ExitStack() as stack:
            matrices = [self._matrix(stack.enter_context(_open(path)), path) for path in self.paths]
            yield OpenCounts(self, matrices)

    def _matrix(self, file: h5py.File, path: Path) -> Any:
        """Find the matrix of counts, and check that it is stored by rows."""
        where = "X" if self.layer is None else f"layers/{self.layer}"
        if where not in file:
            layers = list(file["layers"]) if "layers" in file else []
            raise ValueError(f"`layer`: {str(path)!r} has no {where!r}; its layers are {layers}.")
        matrix = file[where]
        encoding = matrix.attrs.get("encoding-type", "unknown")
        if encoding != "csr_matrix":
            raise ValueError(
                f"`layer`: {where!r} of {str(path)!r} is stored as {encoding!r}; expected a CSR matrix. "
                "Write the file with `scipy.sparse.csr_matrix` counts."
            )
        return matrix


class OpenCounts:
    """Open files, for reading rows.

    Parameters
    ----------
    files
        The files.
    matrices
        HDF5 group of the matrix of each file.
    """

    def __init__(self, files: CountFiles, matrices: Sequence[Any]) -> None:
        self._files = files
        self._parts = [(matrix["data"], matrix["indices"]) for matrix in matrices]

    def read(self, rows: Rows) -> sp.csr_matrix:
        """Read cells; consecutive cells of a file are read together.

        Parameters
        ----------
        rows
            Positions of cells, ascending.

        Returns
        -------
        scipy.sparse.csr_matrix
            Counts of shape ``(len(rows), n_genes)``, float32.
        """
        files, n_genes = self._files, self._files.shape[1]
        of_file = files.file_of(rows)
        is_first = np.append(True, (np.diff(rows) != 1) | (np.diff(of_file) != 0))
        firsts = np.flatnonzero(is_first)
        lasts = np.append(firsts[1:], len(rows)) - 1
        spans = []
        length = np.empty(len(rows), dtype=np.int64)
        for first, last, number in zip(firsts, lasts, of_file[firsts], strict=True):
            pointer = files._pointers[number]
            start, stop = rows[[first, last]] - files.first_row[number]
            length[first : last + 1] = np.diff(pointer[start : stop + 2])
            spans.append((number, int(pointer[start]), int(pointer[stop + 1])))
        values = np.empty(length.sum(), dtype=np.float32)
        genes = np.empty(len(values), dtype=np.int32)
        filled = 0
        for number, start, stop in spans:
            data, indices = self._parts[number]
            values[filled : filled + stop - start] = data[start:stop]
            genes[filled : filled + stop - start] = indices[start:stop]
            filled += stop - start
        return sp.csr_matrix((values, genes, np.append(0, np.cumsum(length))), (len(rows), n_genes))


def _open(path: Path) -> h5py.File:
    if not path.is_file():
        raise ValueError(f"`files`: there is no file {str(path)!r}; expected the path of an h5ad file.")
    if not h5py.is_hdf5(path):
        raise ValueError(f"`files`: {str(path)!r} is not HDF5; expected an h5ad file.")
    file = h5py.File(path, "r")
    for table in ("obs", "var"):
        if table not in file or file[table].attrs.get("encoding-type") != "dataframe":
            file.close()
            raise ValueError(
                f"`files`: {str(path)!r} has no table {table!r} in the format of anndata >= 0.8. Read the "
                "file with anndata and write it again."
            )
    return file


def _names(table: Any) -> pd.Index:
    return pd.Index(np.asarray(read_elem(table[table.attrs["_index"]])).astype(str), dtype=object)
