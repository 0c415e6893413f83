"""Train one cell and write what came out; runs in a process that does nothing else but train."""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmmscvi.benchmark import _files
from vmmscvi.benchmark._cells import Cell
from vmmscvi.benchmark._data import BATCH, LABELS, load_dataset
from vmmscvi.benchmark._methods import Fit, fitter
from vmmscvi.benchmark._resources import measured
from vmmscvi.benchmark._schema import (
    DECODED_FILE,
    EMBEDDING_FILE,
    HISTORY_FILE,
    RUN_FILE,
    SCORES_FILE,
    TRAINED,
)

logger = logging.getLogger(__name__)
PACKAGES = (
    "vmmscvi",
    "scvi-tools",
    "torch",
    "numpy",
    "scanpy",
    "scikit-learn",
    "scib-metrics",
    "harmonypy",
    "scanorama",
)


def train_cell(cell: Cell) -> None:
    """Train, and write embedding, history, decoded centres and, last, the record of the run."""
    adata = load_dataset(cell.dataset).copy()
    sizes = {
        "n_obs": adata.n_obs,
        "n_vars": adata.n_vars,
        "n_batches": int(adata.obs[BATCH].nunique()),
        "n_types": int(adata.obs[LABELS].nunique()),
    }
    labels = {key: adata.obs[key].to_numpy(dtype=str) for key in (LABELS, BATCH)}
    obs_names = adata.obs_names.to_numpy(dtype=str)
    for left_over in cell.folder.glob(".*.tmp"):  # of a run that was killed
        left_over.unlink(missing_ok=True)
    for name in (RUN_FILE, SCORES_FILE, EMBEDDING_FILE, HISTORY_FILE, DECODED_FILE):  # of other settings
        (cell.folder / name).unlink(missing_ok=True)
    fit = fitter(cell.method.kind)
    with measured() as usage:
        read_off = fit(adata, cell.method, cell.seed)
    found = read_off()
    if not np.isfinite(found.z).all():
        raise ValueError("The embedding has values that are not finite.")
    _files.write_arrays(
        cell.folder / EMBEDDING_FILE,
        {
            "z": found.z,
            **_clusters(found),
            "labels": labels[LABELS],
            "batch": labels[BATCH],
            "obs_names": obs_names,
        },
    )
    if found.history is not None:
        _files.write_table(cell.folder / HISTORY_FILE, found.history, index=True)
    if found.decoded is not None:
        decoded = {
            "expression": found.decoded.expression,
            "clusters": found.decoded.clusters,
            "genes": adata.var_names.to_numpy(dtype=str),
        }
        _files.write_arrays(cell.folder / DECODED_FILE, decoded)
    weights = found.component_weights
    record: Mapping[str, Any] = {
        "dataset": cell.dataset.name,
        "method": cell.method.name,
        "kind": cell.method.kind,
        "seed": cell.seed,
        "status": TRAINED,
        "error": None,
        **sizes,
        "n_epochs": found.n_epochs,
        "train_seconds": usage.seconds,
        "train_cpu_seconds": usage.cpu_seconds,
        "peak_memory_mb": usage.peak_memory_mb,
        "elbo_validation": found.elbo_validation,
        "n_components": None if weights is None else len(weights),
        "n_clusters_by_weight": None if weights is None else int(np.sum(weights * adata.n_obs >= 1)),
        "settings": cell.settings(),
        "versions": versions(),
        "machine": platform.machine(),
        "threads": cell.threads,
    }
    _files.write_json(cell.folder / RUN_FILE, record)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _clusters(found: Fit) -> dict[str, NDArray[Any]]:
    if found.clusters is None or found.cluster_probability is None:
        return {"clusters": np.empty(0, dtype=str), "cluster_probability": np.empty(0, dtype=np.float32)}
    return {"clusters": found.clusters, "cluster_probability": found.cluster_probability}
