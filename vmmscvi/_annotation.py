"""Results of a model as entries of an AnnData and its file. Nothing is computed here."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

EMBEDDING = "X_vmm"
CLUSTER = "vmm_cluster"
NAME = "vmm_cluster_name"
PROBABILITY = "vmm_cluster_probability"
SECOND = "vmm_second_cluster"
ENTROPY = "vmm_entropy"
NOVELTY = "vmm_novelty"
VERDICT = "vmm_verdict"
LEAF = "vmm_leaf"
LABEL = "vmm_label"
LABEL_PROBABILITY = "vmm_label_probability"
UNS = "vmmscvi"
WRITTEN = "written"
"""Entry of ``uns["vmmscvi"]`` with the names of all written entries, such as ``"obs/vmm_cluster"``."""

LIBRARIES = ("scvi-tools", "torch", "lightning", "anndata", "scanpy", "numpy")
ENTRIES = [
    f"obsm/{EMBEDDING}",
    *(f"obs/{name}" for name in (CLUSTER, NAME, PROBABILITY, SECOND, ENTROPY, NOVELTY, VERDICT, LEAF)),
    *(f"obs/{name}" for name in (LABEL, LABEL_PROBABILITY)),
]
"""All entries that an annotation may write."""
WRITTEN_BEFORE = {f"obsm/{EMBEDDING}", *(f"obs/{name}" for name in (CLUSTER, PROBABILITY, LEAF))}
"""Entries of files from versions that did not store such a list."""

Column: TypeAlias = "pd.Categorical | NDArray[np.float32]"


@dataclass(frozen=True)
class Annotation:
    """Results for ``n`` cells: the embedding and, for a mixture, the clusters."""

    embedding: NDArray[np.float32]
    """Posterior means, shape ``(n, p)``; stored in ``obsm["X_vmm"]``."""
    columns: Mapping[str, Column]
    """Columns of ``obs``, length ``n``."""
    uns: Mapping[str, Any]
    """Settings, versions, weights, history, table and tree of the clusters; stored in ``uns["vmmscvi"]``."""
    embeddings: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """Further entries of ``obsm``, such as UMAP coordinates."""

    @property
    def clusters(self) -> pd.Categorical | None:
        """Cluster of every cell, or ``None`` without a mixture."""
        return self.columns.get(CLUSTER)

    @property
    def n_clusters(self) -> int:
        """Number of non-empty clusters; 0 without a mixture."""
        return 0 if self.clusters is None else len(self.clusters.categories)

    def obsm(self) -> dict[str, NDArray[np.float32]]:
        """Return all entries of ``obsm`` by name."""
        return {EMBEDDING: self.embedding, **self.embeddings}

    def entries(self) -> list[str]:
        """Return the names of all written entries, such as ``"obs/vmm_cluster"``."""
        return [*(f"obsm/{name}" for name in self.obsm()), *(f"obs/{name}" for name in self.columns)]

    def stored_uns(self) -> dict[str, Any]:
        """Return the entry of ``uns``, including the list of written entries."""
        return {**self.uns, WRITTEN: np.array(self.entries())}

    def write_to(self, adata: Any) -> None:
        """Write the results to an AnnData or MuData of the same cells; earlier results are removed."""
        forget_annotation(adata)
        for name, coordinates in self.obsm().items():
            adata.obsm[name] = coordinates
        for name, values in self.columns.items():
            adata.obs[name] = values
        if adata.obs.index.name in self.columns:  # a file cannot hold both; keep the names of the cells
            adata.obs.index.name = None
        adata.uns[UNS] = self.stored_uns()


def is_annotated(adata: Any) -> bool:
    """Return whether ``uns["vmmscvi"]`` is an annotation of this package."""
    stored = adata.uns.get(UNS)
    return isinstance(stored, Mapping) and "versions" in stored


def written_entries(adata: Any) -> set[str]:
    """Return the names of entries written by an earlier annotation, such as ``"obs/vmm_cluster"``."""
    if not is_annotated(adata):
        return set()
    stored = adata.uns[UNS].get(WRITTEN)
    return set(WRITTEN_BEFORE) if stored is None else {str(name) for name in np.atleast_1d(stored)}


def foreign_entries(adata: Any, entries: Sequence[str] = ENTRIES) -> list[str]:
    """Return those of ``entries`` that are in an AnnData but were not written by this package."""
    foreign = [
        name
        for name in entries
        if name not in written_entries(adata)
        and name.split("/", 1)[1] in getattr(adata, name.split("/", 1)[0])
    ]
    return foreign + ([f"uns/{UNS}"] if UNS in adata.uns and not is_annotated(adata) else [])


def forget_annotation(adata: Any) -> None:
    """Remove the entries written by an earlier annotation."""
    for entry in written_entries(adata):
        slot, name = entry.split("/", 1)
        if name in getattr(adata, slot):
            del getattr(adata, slot)[name]
    adata.uns.pop(UNS, None)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries on which results depend."""
    from vmmscvi import __version__

    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # not part of this installation
            continue
    return {"vmmscvi": __version__, "python": platform.python_version(), **found}


def storable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that an h5ad file can hold; ``None`` and other types are left out."""
    stored: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, str | bool | int | float | np.ndarray | np.generic):
            stored[name] = value
        elif isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in value):
            stored[name] = np.array(value)
    return stored
