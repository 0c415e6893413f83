"""The four data sets of the paper, from their public addresses.

What the paper's authors did is known from their published code. Where that reads files which are not public,
or does what we believe to be a slip, the docstring of the loader says so, and what is done here instead.
"""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData, read_h5ad
from scipy import sparse

from vmmscvi.benchmark._datasets_download import CHECKSUMS, check_files, fetch, no_half_files

LUNG_ATLAS_URL = "https://figshare.com/ndownloader/files/24539942"
SPLIT_SEQ_URL = (
    "https://ftp.ncbi.nlm.nih.gov/geo/samples/GSM3017nnn/GSM3017261/suppl/GSM3017261_150000_CNS_nuclei.mat.gz"
)


@dataclass(frozen=True)
class PaperDataset:
    """How to get one of the paper's data sets, and how its authors chose genes and cells."""

    load: Callable[[Path, str | None], AnnData]
    """Takes the cache folder and a layer; returns raw counts with ``batch`` and ``cell_type``."""

    n_top_genes: int | None
    """Highly variable genes (Seurat v3); ``None`` for all genes."""

    genes_within_batches: bool = False
    """Whether genes are ranked within each batch."""


MIN_COUNTS = 3
"""Genes, then cells, with fewer counts are left out, after the selection of genes, as the authors do."""


def load_cortex(folder: Path, layer: str | None = None) -> AnnData:
    """Load 3,005 cells of mouse cortex and hippocampus, seven types, one batch.

    From [Zeisel2015]_. Known from the authors' code: ``scvi.data.cortex``, the 558 most variable genes
    (Seurat v3), one batch.

    Parameters
    ----------
    folder
        Cache folder of the data set.
    layer
        Must be ``None``: there is only ``X``.

    Returns
    -------
    Raw counts of all genes.

    References
    ----------
    .. [Zeisel2015] Zeisel et al., Cell types in the mouse cortex and hippocampus revealed by single-cell
       RNA-seq, Science 347 (2015).
    """
    import scvi

    adata = _from_scvi(scvi.data.cortex, "cortex", folder, layer)
    adata.obs["batch"] = "0"
    return adata


def load_pbmc(folder: Path, layer: str | None = None) -> AnnData:
    """Load 12 thousand blood cells, nine types, two batches (PBMC 4k and 8k of 10x Genomics).

    As in [Lopez2018]_. Known from the authors' code: ``scvi.data.pbmc_dataset`` with all of its genes; types
    are ``obs["str_labels"]``.

    Parameters
    ----------
    folder
        Cache folder of the data set.
    layer
        Must be ``None``: there is only ``X``.

    Returns
    -------
    Raw counts.

    References
    ----------
    .. [Lopez2018] Lopez et al., Deep generative modeling for single-cell transcriptomics, Nature Methods 15
       (2018).
    """
    import scvi

    adata = _from_scvi(scvi.data.pbmc_dataset, "pbmc_dataset", folder, layer)
    adata.obs = adata.obs.rename(columns={"str_labels": "cell_type"})
    return adata


def load_lung_atlas(folder: Path, layer: str | None = None) -> AnnData:
    """Load 32 thousand cells of human lung, 17 types, 16 batches.

    The lung atlas of scIB [Luecken2022]_. Known from the authors' code: scIB's file at figshare; the 2,000
    most variable genes within batches (Seurat v3). Their code takes ``X`` for counts. In this file ``X`` is
    normalised and log-transformed (the tutorials of scvi-tools select genes on it with a method for such
    values), and counts are in ``layers["counts"]``, which is what is loaded here; ``layer="X"`` loads what
    the authors' code does. Counts are corrected for ambient RNA: not all are whole numbers.

    Parameters
    ----------
    folder
        Cache folder of the data set.
    layer
        ``"counts"`` (the same as ``None``) or ``"X"``.

    Returns
    -------
    Counts of all genes.

    References
    ----------
    .. [Luecken2022] Luecken et al., Benchmarking atlas-level data integration in single-cell genomics, Nature
       Methods 19 (2022).
    """
    if layer not in (None, "counts", "X"):
        raise ValueError(f"`layer` is {layer!r}; the lung atlas has 'counts' and 'X'.")
    adata = read_h5ad(fetch(LUNG_ATLAS_URL, folder, "lung_atlas.h5ad"))
    if layer != "X":
        adata.X = adata.layers["counts"]
    return adata


def load_split_seq(folder: Path, layer: str | None = None) -> AnnData:
    """Load 156 thousand nuclei of mouse brain and spinal cord, measured by SPLiT-seq.

    **Not the paper's matrix.** The authors' code reads a smaller matrix of their own with two batches (by the
    column ``polydT``, going by its name the primer of the reverse transcription) and 18 types
    (``cellchat_clusters``); neither file is public. This is the published data of [Rosenberg2018]_,
    GSE110823. Assumed here: the nuclei of the brain alone; the batch is the age (postnatal day 2 or 11: two
    batches that differ in biology, too); types are the first word of the published clusters' names without
    their number, a region or a class; nuclei of "Unresolved" clusters are left out; the 2,000 most variable
    genes within batches. Numbers on it are not to be compared with the paper's.

    Parameters
    ----------
    folder
        Cache folder of the data set.
    layer
        Must be ``None``: there is only ``X``.

    Returns
    -------
    Raw counts of all genes.

    References
    ----------
    .. [Rosenberg2018] Rosenberg et al., Single-cell profiling of the developing mouse brain and spinal cord
       with split-pool barcoding, Science 360 (2018).
    """
    from scipy.io import loadmat

    _no_layer("split_seq", layer)
    with gzip.open(fetch(SPLIT_SEQ_URL, folder, "GSM3017261_150000_CNS_nuclei.mat.gz")) as file:
        with warnings.catch_warnings():  # SciPy will return sparse arrays, which is as well
            warnings.filterwarnings("ignore", "The default value for `spmatrix`", DeprecationWarning)
            content = loadmat(file)
    samples = _stripped(content["sample_type"])
    clusters = _stripped(content["cluster_assignment"])
    obs = pd.DataFrame(
        {
            "batch": samples.str.split("_").str[0].to_numpy(),
            "cell_type": clusters.str.split().str[1].to_numpy(),
            "cluster": clusters.to_numpy(),
        },
        index=np.ravel(content["barcodes"]).astype(str),
    )
    adata = AnnData(sparse.csr_matrix(content["DGE"]), obs, pd.DataFrame(index=_stripped(content["genes"])))
    adata.obs_names_make_unique()
    adata.var_names_make_unique()
    kept = samples.str.endswith("brain").to_numpy() & (obs["cell_type"] != "Unresolved").to_numpy()
    return adata[kept].copy()


def _stripped(padded: Any) -> pd.Series:
    """Strings out of a character matrix of MATLAB, which pads them with blanks."""
    return pd.Series(np.ravel(padded)).str.strip()


def _from_scvi(load: Callable[..., AnnData], name: str, folder: Path, layer: str | None) -> AnnData:
    """Load by way of ``scvi.data``, which downloads what is not in the folder."""
    _no_layer(name, layer)
    kept = _files(folder)
    check_files(folder, kept)
    with no_half_files(folder, [f"the files of scvi.data.{name}"]):
        adata = load(save_path=str(folder))
    check_files(folder, _files(folder))
    return adata


def _files(folder: Path) -> list[str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != CHECKSUMS)
    return [path.relative_to(folder).as_posix() for path in files]


def _no_layer(name: str, layer: str | None) -> None:
    if layer is not None:
        raise ValueError(f"`layer` is {layer!r}; the data set {name} has counts in `X` alone, expected None.")


PAPER_DATASETS: Mapping[str, PaperDataset] = MappingProxyType(
    {
        "cortex": PaperDataset(load_cortex, n_top_genes=558),
        "pbmc": PaperDataset(load_pbmc, n_top_genes=None),
        "lung_atlas": PaperDataset(load_lung_atlas, n_top_genes=2000, genes_within_batches=True),
        "split_seq": PaperDataset(load_split_seq, n_top_genes=2000, genes_within_batches=True),
    }
)
