"""Labelled multiome data: genes and peaks of the same cells, possibly with missing modalities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from vmmscvi.data._annotation import cell_table, feature_table, storable, true_profiles
from vmmscvi.data._design import apportion, draw_cells, draw_library_sizes, draw_type_shares
from vmmscvi.data._drawing import draw_counts, draw_fragments, spawn_generators
from vmmscvi.data._options import CELL_OPTIONS, DEFAULTS, FEATURE_OPTIONS, require_options
from vmmscvi.data._peaks import PEAK_DEFAULTS, PEAK_OPTIONS, peak_settings
from vmmscvi.data._profiles import draw_features
from vmmscvi.data._settings import SimulationSettings, as_shares, require_count, require_known

#: In the order and with the names of ``scvi.data.organize_multiome_anndatas``.
CELL_MODALITIES = ("paired", "expression", "accessibility")
GENES, PEAKS = "Gene Expression", "Peaks"


def simulate_multiome(
    *,
    n_genes: int = 1200,
    n_peaks: int = 20_000,
    modalities: Mapping[str, float] | None = None,
    rna: Mapping[str, Any] | None = None,
    peaks: Mapping[str, Any] | None = None,
    seed: int | np.random.Generator = 0,
    **options: Any,
) -> AnnData:
    """Simulate genes and peaks of the same cells, in the layout of ``scvi.data.organize_multiome_anndatas``.

    Genes are those of :func:`simulate_counts`, peaks those of :func:`simulate_peaks`. A cell has one type and
    one batch; depths, markers and batch effects differ between the modalities.

    Parameters
    ----------
    n_genes, n_peaks
        Number of features of each modality.
    modalities
        Shares of the cells with both modalities (``"paired"``), only genes (``"expression"``) and only peaks
        (``"accessibility"``), such as ``{"paired": 0.5, "expression": 0.5}``. By default all cells are
        paired. Cells are assigned at random, independent of type and batch.
    rna, peaks
        Arguments of :func:`simulate_counts` and of :func:`simulate_peaks` about the features, such as
        ``rna={"depth": 300}``. ``n_subtypes={"type0": 2}`` with ``rna={"n_subtype_markers": 0}`` makes two
        subtypes that only peaks distinguish.
    seed
        As in :func:`simulate_counts`.
    **options
        Arguments of :func:`simulate_counts` about the cells: ``n_cells``, types, proportions and batches.
        ``n_batches`` is 2 by default.

    Returns
    -------
    AnnData
        Annotated data of shape ``(n_cells, n_genes + n_peaks)``:

        - ``X``: counts, CSR, float32, genes first. Missing modalities are 0.
        - ``obs``: as from :func:`simulate_counts`, with ``expected_fragments`` and ``modality``. Cells are
          ordered paired, expression, accessibility; their names end in the modality.
        - ``var``: as from :func:`simulate_counts`, and ``modality``, ``"Gene Expression"`` or ``"Peaks"``.
        - ``uns["simulation"]``: ``settings``, ``types``, ``batches``, ``proportions``; ``rna`` and
          ``peaks``, each with ``profiles`` and ``batch_effects`` unless they are large.

    Raises
    ------
    ValueError
        If an argument has an impossible value, or the arguments contradict each other.

    Examples
    --------
    >>> from vmmscvi.data import simulate_multiome
    >>> thirds = dict.fromkeys(["paired", "expression", "accessibility"], 1 / 3)
    >>> adata = simulate_multiome(n_cells=300, n_genes=200, n_peaks=1000, modalities=thirds)
    >>> adata.obs["modality"].value_counts(sort=False).to_list()
    [100, 100, 100]

    MULTIVI takes the two modalities as a MuData:

    >>> from mudata import MuData
    >>> is_gene = adata.var["modality"] == "Gene Expression"
    >>> mdata = MuData({"rna": adata[:, is_gene].copy(), "atac": adata[:, ~is_gene].copy()})
    """
    rna, peaks = _checked("rna", rna, FEATURE_OPTIONS), _checked("peaks", peaks, PEAK_OPTIONS)
    require_options("options", options, CELL_OPTIONS)
    require_count("n_genes", n_genes, 2)
    cell_options = {"n_batches": PEAK_DEFAULTS["n_batches"], **options}
    of_genes = SimulationSettings(**{**DEFAULTS, **cell_options, **rna, "n_genes": n_genes})
    of_peaks = peak_settings(n_peaks, {**cell_options, **peaks})
    modality_shares = _modality_shares(modalities)

    of_shares, of_cells, of_modality, of_depth, *streams = spawn_generators(seed, 12)
    shares = draw_type_shares(of_genes, of_shares)
    cells = draw_cells(of_genes, shares, of_cells)
    fragments = draw_library_sizes(of_peaks, cells.position, cells.batch, of_depth)
    genes = draw_features(of_genes, *streams[:3])
    regions = draw_features(of_peaks, *streams[3:6])
    expression = draw_counts(cells, genes.genes.dispersion, genes.log_profiles, streams[6])
    accessibility = draw_fragments(replace(cells, library_size=fragments), regions.log_profiles, streams[7])

    counts = apportion(modality_shares, of_genes.n_cells, of_modality)
    modality = of_modality.permutation(np.repeat(np.arange(len(CELL_MODALITIES)), counts))
    has_genes, has_peaks = (sp.diags((modality != other).astype(np.float32)) for other in (2, 1))
    X = sp.hstack([has_genes @ expression, has_peaks @ accessibility], format="csr")
    X.eliminate_zeros()
    obs = cell_table(of_genes, cells)
    obs["expected_fragments"] = fragments
    obs["modality"] = pd.Categorical.from_codes(modality, categories=list(CELL_MODALITIES))
    obs.index = obs.index + "_" + obs["modality"].astype(str)
    var = pd.concat([feature_table(of_genes, genes.genes), feature_table(of_peaks, regions.genes, "peak")])
    var["modality"] = pd.Categorical([GENES] * n_genes + [PEAKS] * n_peaks, categories=[GENES, PEAKS])
    order = np.argsort(modality, kind="stable")
    adata = AnnData(X[order].astype(np.float32), obs=obs.iloc[order], var=var)
    arguments = {
        **cell_options,
        "n_genes": n_genes,
        "n_peaks": n_peaks,
        "modalities": modalities or {"paired": 1.0},
    }
    adata.uns["simulation"] = {
        "settings": storable({**arguments, "rna": rna, "peaks": peaks, "seed": seed}),
        "types": np.array(of_genes.tree.leaves),
        "batches": np.array(of_genes.batches),
        "proportions": shares,
        "rna": true_profiles(genes),
        "peaks": true_profiles(regions),
    }
    return adata


def _checked(name: str, options: Mapping[str, Any] | None, allowed: frozenset[str]) -> Mapping[str, Any]:
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise ValueError(f"{name} is {options!r}; expected a mapping, such as {{'depth': 300}}.")
    require_options(name, options, allowed)
    return options


def _modality_shares(modalities: Mapping[str, float] | None) -> np.ndarray:
    """Return the shares of ``CELL_MODALITIES``; 0 for those that are not named."""
    if modalities is None:
        return np.array([1.0, 0.0, 0.0])
    if not isinstance(modalities, Mapping):
        raise ValueError(f"modalities is {modalities!r}; expected a mapping, such as {{'paired': 1}}.")
    require_known("modalities", modalities, CELL_MODALITIES)
    given = as_shares("modalities", list(modalities.values()), len(modalities))
    shares = dict(zip(modalities, given, strict=True))
    return np.array([shares.get(name, 0.0) for name in CELL_MODALITIES])
