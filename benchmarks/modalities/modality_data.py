"""Data sets of the comparison by modality: real sets are read from a folder, simulated ones are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from vmmscvi.data import simulate_cite, simulate_multiome, simulate_peaks

THIRDS: Mapping[str, float] = MappingProxyType(
    dict.fromkeys(("paired", "expression", "accessibility"), 1 / 3)
)
CUT_SEED = 0


@dataclass(frozen=True)
class DataSpec:
    """One data set: how it is made, which labels are compared with, which models apply."""

    name: str
    modality: str
    labels: tuple[str, ...]
    """Columns of ``obs``, coarse first."""
    models: tuple[str, ...]
    load: Callable[[Path], ad.AnnData]
    """Genes or peaks in ``X``, ``obsm["protein"]``, ``obsm["peaks"]``; ``obs["batch"]``. What was not
    measured is 0. ``obs["modality"]`` exists where cells were cut to one modality."""
    optional: bool = False
    """Left out unless named."""


def read(name: str) -> Callable[[Path], ad.AnnData]:
    """Return a loader of a file of the folder of real data."""

    def load(folder: Path) -> ad.AnnData:
        path = folder / f"{name}.h5ad"
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist; --data is the folder that holds {path.name}.")
        return ad.read_h5ad(path)

    return load


def without_controls(adata: ad.AnnData) -> ad.AnnData:
    """Drop isotype controls, proteins whose names begin with IgG."""
    protein = adata.obsm["protein"]
    adata.obsm["protein"] = protein.loc[:, ~protein.columns.str.startswith("IgG")]
    return adata


def cut_to_thirds(adata: ad.AnnData) -> ad.AnnData:
    """Take the peaks of a third of the cells away, and the genes of another; the same cells in every run."""
    third = np.random.default_rng(CUT_SEED).permutation(np.arange(adata.n_obs) % 3)
    names = np.array(list(THIRDS))
    adata.obs["modality"] = pd.Categorical(names[third], categories=names)
    adata.X = _keep(adata.X, third != 2)
    adata.obsm["peaks"] = _keep(adata.obsm["peaks"], third != 1)
    return adata


def split_features(adata: ad.AnnData) -> ad.AnnData:
    """Move the peaks of :func:`vmmscvi.data.simulate_multiome` from ``X`` to ``obsm["peaks"]``."""
    is_gene = (adata.var["modality"] == "Gene Expression").to_numpy()
    genes = adata[:, is_gene].copy()
    genes.obsm["peaks"] = adata.X[:, ~is_gene]
    genes.uns["peak_names"] = adata.var_names[~is_gene].to_numpy(str)
    return genes


def _keep(counts: sp.csr_matrix, cells: np.ndarray) -> sp.csr_matrix:
    kept = sp.csr_matrix(sp.diags(cells.astype(np.float32)) @ counts, dtype=np.float32)
    kept.eliminate_zeros()
    return kept


def _after(
    load: Callable[[Path], ad.AnnData], change: Callable[[ad.AnnData], ad.AnnData]
) -> Callable[[Path], ad.AnnData]:
    return lambda folder: change(load(folder))


CITE, ATAC, MULTIOME = "CITE-seq", "scATAC", "multiome"
CITE_MODELS, ATAC_MODELS, MULTIOME_MODELS = ("TOTALVI", "SCVI"), ("PEAKVI", "POISSONVI"), ("MULTIVI",)
SIMULATED_TYPES = ("cell_type_coarse", "cell_type")
SNARE_TYPES = ("cell_type_coarse", "cell_type")
PBMC_TYPES = ("cell_type_main", "cell_type")

#: In the order of the time that a training takes, shortest first.
SPECS: tuple[DataSpec, ...] = (
    DataSpec("bmmc_cite_op", CITE, ("cell_type_l1",), CITE_MODELS, read("bmmc_cite_op")),
    DataSpec("schep_scatac", ATAC, ("cell_type",), ATAC_MODELS, read("schep_scatac")),
    DataSpec("hao_pbmc_mosaic", CITE, ("cell_type",), (*CITE_MODELS, "MULTIVI"), read("hao_pbmc_mosaic")),
    DataSpec("sccat_celllines", MULTIOME, ("cell_type",), MULTIOME_MODELS, read("sccat_celllines")),
    DataSpec(
        "sccat_celllines_thirds",
        MULTIOME,
        ("cell_type",),
        MULTIOME_MODELS,
        _after(read("sccat_celllines"), cut_to_thirds),
    ),
    DataSpec(
        "sim_peaks_2000",
        ATAC,
        ("cell_type",),
        ATAC_MODELS,
        lambda _: simulate_peaks(n_cells=1500, n_peaks=2000),
    ),
    DataSpec(
        "sim_cite", CITE, SIMULATED_TYPES, CITE_MODELS, lambda _: simulate_cite(n_cells=2000, n_batches=2)
    ),
    DataSpec(
        "sim_cite_missing",
        CITE,
        SIMULATED_TYPES,
        CITE_MODELS,
        lambda _: simulate_cite(n_cells=2000, n_batches=2, without_protein=["batch1"]),
    ),
    DataSpec(
        "buenrostro_bm0828_scatac", ATAC, ("cell_type",), ATAC_MODELS, read("buenrostro_bm0828_scatac")
    ),
    DataSpec(
        "sim_multiome_thirds",
        MULTIOME,
        ("cell_type",),
        MULTIOME_MODELS,
        lambda _: split_features(simulate_multiome(n_cells=1500, n_peaks=5000, modalities=THIRDS)),
    ),
    DataSpec(
        "sim_peaks_20000",
        ATAC,
        ("cell_type",),
        ATAC_MODELS,
        lambda _: simulate_peaks(n_cells=1500, n_peaks=20_000),
    ),
    DataSpec("pbmc10k_cite", CITE, PBMC_TYPES, CITE_MODELS, read("pbmc10k_cite")),
    DataSpec(
        "pbmc10k_cite_no_controls",
        CITE,
        PBMC_TYPES,
        ("TOTALVI",),
        _after(read("pbmc10k_cite"), without_controls),
        optional=True,
    ),
    DataSpec("snare_mouse_cortex", MULTIOME, SNARE_TYPES, MULTIOME_MODELS, read("snare_mouse_cortex")),
    DataSpec(
        "snare_mouse_cortex_thirds",
        MULTIOME,
        SNARE_TYPES,
        MULTIOME_MODELS,
        _after(read("snare_mouse_cortex"), cut_to_thirds),
    ),
    DataSpec(
        "sim_peaks_100000",
        ATAC,
        ("cell_type",),
        ATAC_MODELS,
        lambda _: simulate_peaks(n_cells=1500, n_peaks=100_000),
        optional=True,
    ),
    DataSpec(
        "sim_tiny", CITE, ("cell_type",), CITE_MODELS,
        lambda _: simulate_cite(n_cells=120, n_genes=60, n_types=3, n_protein_pairs=1, n_batches=1),
        optional=True,
    ),
)  # fmt: skip
BY_NAME: Mapping[str, DataSpec] = MappingProxyType({spec.name: spec for spec in SPECS})


def chosen(names: list[str] | None) -> list[DataSpec]:
    """Return the named data sets in their order, or all that are not optional."""
    unknown = sorted(set(names or []) - set(BY_NAME))
    if unknown:
        raise ValueError(f"--sets holds {unknown}; expected names among {sorted(BY_NAME)}.")
    return [spec for spec in SPECS if (spec.name in names if names else not spec.optional)]


def require_models(names: list[str] | None) -> None:
    """Raise unless all names are those of models."""
    known = {model for spec in SPECS for model in spec.models}
    unknown = sorted(set(names or []) - known)
    if unknown:
        raise ValueError(f"--models holds {unknown}; expected names among {sorted(known)}.")
