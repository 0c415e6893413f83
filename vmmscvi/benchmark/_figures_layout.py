"""Coordinates in the plane for the embedding of one cell of the benchmark, computed once."""

from __future__ import annotations

import logging
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmmscvi.benchmark._cells import file_digest
from vmmscvi.benchmark._data import fixed_sample
from vmmscvi.benchmark._files import read_arrays, write_arrays
from vmmscvi.benchmark._report_data import Run
from vmmscvi.benchmark._schema import EMBEDDING_FILE

logger = logging.getLogger(__name__)

LAYOUT_FILE = "layout.npz"
"""``xy``, ``cells`` (which of the embedding's cells), ``kind`` and ``embedding`` (SHA256 of its file)."""

MAX_CELLS = 5000
"""Larger sets are drawn by a random sample, the same for all methods and seeds."""

N_NEIGHBORS = 15


def layout(run: Run) -> tuple[NDArray[np.float32], NDArray[np.int64], str]:
    """Return coordinates, read from the cell's folder, or computed and kept there.

    Minimum-distortion embedding with the settings that scvi-tools had for it (15 neighbours, standardised,
    repulsive fraction 0.7) where pymde can be imported, UMAP otherwise. [Agrawal2021]_

    Parameters
    ----------
    run
        A finished cell.

    Returns
    -------
    Coordinates, shape ``(n, 2)``; indices of the cells that they are of, shape ``(n,)``; and ``"MDE"`` or
    ``"UMAP"``.

    References
    ----------
    .. [Agrawal2021] Agrawal, Ali & Boyd, Minimum-distortion embedding, Foundations and Trends in Machine
       Learning 14 (2021).
    """
    embedding = run.folder / EMBEDDING_FILE
    cache = run.folder / LAYOUT_FILE
    digest = file_digest(embedding)
    pymde = _pymde()
    kind = "UMAP" if pymde is None else "MDE"
    if cache.is_file():
        kept = read_arrays(cache)
        if str(kept["embedding"]) == digest and str(kept["kind"]) == kind:
            return kept["xy"], kept["cells"], kind
    z = read_arrays(embedding)["z"]
    cells = fixed_sample(len(z), MAX_CELLS)
    xy = _umap(z[cells]) if pymde is None else _mde(pymde, z[cells])
    arrays: dict[str, NDArray[Any]] = {
        "xy": xy,
        "cells": cells,
        "kind": np.array(kind),
        "embedding": np.array(digest),
    }
    write_arrays(cache, arrays)
    return xy, cells, kind


def _pymde() -> ModuleType | None:
    try:
        import pymde
    except ImportError:
        return None
    except Exception as error:  # pymde imports torchvision, which raises if it does not match torch
        logger.warning("pymde cannot be imported (%s); UMAP is drawn instead.", error)
        return None
    module: ModuleType = pymde
    return module


def _mde(pymde: ModuleType, z: NDArray[np.float32]) -> NDArray[np.float32]:
    import torch

    pymde.seed(0)
    problem = pymde.preserve_neighbors(
        torch.as_tensor(z),
        embedding_dim=2,
        constraint=pymde.Standardized(),
        repulsive_fraction=0.7,
        n_neighbors=N_NEIGHBORS,
        verbose=False,
    )
    return np.asarray(problem.embed(verbose=False).cpu().numpy(), dtype=np.float32)


def _umap(z: NDArray[np.float32]) -> NDArray[np.float32]:
    from vmmscvi._neighbors import neighbor_graph, umap

    return umap(neighbor_graph(z, seed=0), seed=0)
