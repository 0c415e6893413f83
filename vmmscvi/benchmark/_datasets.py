"""Data sets as every method of the benchmark sees them: raw counts, a batch and a type for each cell."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from vmmscvi._layers import layer_names
from vmmscvi.benchmark._datasets_download import cache_folder
from vmmscvi.benchmark._datasets_paper import MIN_COUNTS, PAPER_DATASETS
from vmmscvi.benchmark._specs import DatasetSpec

logger = logging.getLogger(__name__)

BATCH, CELL_TYPE = "batch", "cell_type"
PROVENANCE = "benchmark_dataset"
"""Entry of ``uns`` that says where the data come from and what was left out."""

ONE_BATCH = "0"
SUBSAMPLE_SEED = 0


def load_dataset(spec: DatasetSpec | str, **arguments: Any) -> AnnData:
    """Load a data set: genes and cells as asked for, raw counts, batches and types under fixed names.

    Genes are selected before cells are drawn, so that a subsample has the genes of the whole.

    Parameters
    ----------
    spec
        What to load, or the name of a source: ``"cortex"``, ``"pbmc"``, ``"lung_atlas"`` or ``"split_seq"``,
        the paper's data with the paper's filters and genes (or as many as ``n_top_genes``). Their only
        argument is ``cache``, a folder for downloads; by default the environment's ``VMMSCVI_CACHE``, or
        ``vmmscvi`` among the user's caches. Arguments of ``simulate`` are those of
        :func:`vmmscvi.data.simulate_preset`.
    **arguments
        Arguments of the source, if ``spec`` is a name.

    Returns
    -------
    Annotated data with float32 counts (CSR) in ``X``, the categories ``obs["batch"]`` and
    ``obs["cell_type"]``, and ``uns["benchmark_dataset"]``: what it was made from. Cells without a type, and
    those without counts in the selected genes, are left out, with a warning.

    Raises
    ------
    ValueError
        If something that ``spec`` names does not exist, or values cannot be raw counts.
    vmmscvi.benchmark.DownloadError
        If data are not in the cache and cannot be fetched.
    """
    if isinstance(spec, str):
        spec = DatasetSpec(spec, source=spec, arguments=arguments)
    elif arguments:
        raise ValueError(
            f"`arguments` are for names of sources; found {sorted(arguments)} and a DatasetSpec."
        )
    if spec.source is not None:
        return _load_paper(spec, spec.source)
    if spec.simulate is not None:
        return _simulate(spec)
    if spec.path is None:  # a specification has one of the three
        raise ValueError(f"dataset {spec.name!r} has no path, source or preset.")
    return load_h5ad(
        spec.path,
        batch_key=spec.batch_key,
        label_key=spec.label_key,
        layer=spec.layer,
        n_top_genes=spec.n_top_genes,
        subsample=spec.subsample,
    )


def load_h5ad(
    path: Path,
    *,
    batch_key: str | None = BATCH,
    label_key: str = CELL_TYPE,
    layer: str | None = None,
    n_top_genes: int | None = None,
    subsample: int | None = None,
) -> AnnData:
    """Load an h5ad file, see :func:`load_dataset`.

    Parameters
    ----------
    path
        The file.
    batch_key, label_key
        Columns of ``obs``; without ``batch_key`` all cells are one batch.
    layer
        Layer with the raw counts; ``X`` by default.
    n_top_genes
        Number of most variable genes to keep; all by default.
    subsample
        Number of cells to keep; all by default.

    Returns
    -------
    Annotated data as :func:`load_dataset` returns.

    Raises
    ------
    ValueError
        If the file, a column or the layer is not there, or values cannot be raw counts.
    """
    import anndata

    if not Path(path).is_file():
        raise ValueError(f"`path` is {str(path)!r}; expected an h5ad file.")
    adata = anndata.read_h5ad(path)
    standard = _standard(adata, batch_key, label_key, layer, Path(path).name)
    return _selected(standard, n_top_genes, subsample)


def _simulate(spec: DatasetSpec) -> AnnData:
    from vmmscvi.data import simulate_preset

    adata = simulate_preset(str(spec.simulate), **{"seed": 0, **spec.arguments})
    standard = _standard(adata, spec.batch_key, spec.label_key, spec.layer, f"simulated: {spec.simulate}")
    return _selected(standard, spec.n_top_genes, spec.subsample)


def _load_paper(spec: DatasetSpec, source: str) -> AnnData:
    if source not in PAPER_DATASETS:
        raise ValueError(f"`source` is {source!r}; expected one of {sorted(PAPER_DATASETS)}.")
    unknown = sorted(set(spec.arguments) - {"cache"})
    if unknown:
        raise ValueError(f"`arguments` of the source {source!r} has {unknown}; expected at most 'cache'.")
    paper = PAPER_DATASETS[source]
    cache = spec.arguments.get("cache")
    adata = paper.load(cache_folder(source, None if cache is None else Path(cache)), spec.layer)
    standard = _standard(adata, spec.batch_key, spec.label_key, None, source)
    batch_key = BATCH if paper.genes_within_batches else None
    n_top_genes = spec.n_top_genes or paper.n_top_genes
    return _selected(standard, n_top_genes, spec.subsample, batch_key, min_counts=MIN_COUNTS)


def _standard(
    adata: AnnData, batch_key: str | None, label_key: str, layer: str | None, origin: str
) -> AnnData:
    """Keep counts, batches and types; under fixed names and types, whatever they were before."""
    for argument, key in (("batch_key", batch_key), ("label_key", label_key)):
        if key is not None and key not in adata.obs:
            raise ValueError(f"`{argument}` is {key!r}; expected one of the columns {list(adata.obs)}.")
    if layer is not None and layer not in layer_names(adata):
        raise ValueError(f"`layer` is {layer!r}; expected one of {layer_names(adata)}, or None for X.")
    counts = sparse.csr_matrix(adata.X if layer is None else adata.layers[layer], dtype=np.float32)
    _check_counts(counts, origin)
    types = adata.obs[label_key]
    labelled = types.notna().to_numpy()
    if not labelled.all():
        logger.warning("%s: %d cells without a type are left out.", origin, int((~labelled).sum()))
    batches = pd.Series(ONE_BATCH, adata.obs_names) if batch_key is None else adata.obs[batch_key]
    obs = pd.DataFrame(
        {BATCH: pd.Categorical(batches.astype(str)), CELL_TYPE: pd.Categorical(types.astype(str))},
        index=adata.obs_names.astype(str),
    )
    standard = AnnData(counts[labelled], obs[labelled], pd.DataFrame(index=adata.var_names.astype(str)))
    standard.obs_names_make_unique()
    standard.var_names_make_unique()
    standard.uns[PROVENANCE] = {"origin": origin, "n_obs": adata.n_obs, "n_vars": adata.n_vars}
    return standard


def _check_counts(counts: sparse.csr_matrix, origin: str) -> None:
    if not np.isfinite(counts.data).all() or (counts.nnz and counts.data.min() < 0):
        raise ValueError(f"{origin} has negative or missing values; raw counts are expected.")
    share = float(np.mean(counts.data != np.round(counts.data))) if counts.nnz else 0.0
    if share > 0:
        logger.warning(
            "%s: %.0f%% of the positive values are not whole numbers. Raw counts are expected.",
            origin,
            100 * share,
        )


def _selected(
    adata: AnnData,
    n_top_genes: int | None,
    subsample: int | None,
    batch_key: str | None = BATCH,
    min_counts: int = 1,
) -> AnnData:
    """Select genes; leave out genes and cells with too few counts; draw cells."""
    if n_top_genes is not None and n_top_genes < adata.n_vars:
        adata = adata[:, _variable_genes(adata, n_top_genes, batch_key)]
    # as in the paper: genes first, and cells by their counts in the genes that are left
    if min_counts > 1:
        adata = adata[:, _totals(adata, 0) >= min_counts]
    enough = _totals(adata, 1) >= min_counts
    if not enough.all():
        logger.warning(
            "%s: %d cells have fewer than %d counts in the %d genes and are left out.",
            adata.uns[PROVENANCE]["origin"],
            int((~enough).sum()),
            min_counts,
            adata.n_vars,
        )
    cells = np.flatnonzero(enough)
    if subsample is not None and subsample < len(cells):
        cells = np.sort(np.random.default_rng(SUBSAMPLE_SEED).choice(cells, subsample, replace=False))
    adata = adata[cells].copy()
    for key in (BATCH, CELL_TYPE):
        adata.obs[key] = adata.obs[key].cat.remove_unused_categories()
    return adata


def _variable_genes(adata: AnnData, n_top_genes: int, batch_key: str | None) -> NDArray[np.bool_]:
    """Most variable genes by Seurat v3, as the paper and scvi-tools' tutorials choose them."""
    import scanpy as sc

    from vmmscvi._gene_selection import mask_of_variable_genes

    if find_spec("skmisc") is None:
        raise ValueError(
            "`n_top_genes` selects genes as Seurat v3 does, which needs the package scikit-misc: install "
            "vmmscvi[benchmark], or give data whose genes are selected."
        )
    batches = None if batch_key is None else adata.obs[batch_key]
    if batches is not None and batches.nunique() == 1:
        batches = None
    return mask_of_variable_genes(
        sc.pp.highly_variable_genes, adata.X, batches, n_top_genes, flavor="seurat_v3"
    )


def _totals(adata: Any, axis: int) -> NDArray[np.float64]:
    """Sum over cells (axis 0) or over genes (axis 1)."""
    return np.asarray(adata.X.sum(axis=axis), dtype=np.float64).ravel()
