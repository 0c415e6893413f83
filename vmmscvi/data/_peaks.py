"""Labelled accessibility of peaks: sparse fragment or read counts of several types and batches."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from vmmscvi.data._annotation import cell_table, feature_table, record
from vmmscvi.data._design import draw_cells, draw_type_shares
from vmmscvi.data._drawing import draw_fragments, spawn_generators
from vmmscvi.data._options import CELL_OPTIONS, DEFAULTS, DISPERSIONS, FEATURE_OPTIONS, require_options
from vmmscvi.data._profiles import draw_features
from vmmscvi.data._settings import SimulationSettings, marker_range, require_count

#: Peaks differ less in their mean than genes do, and thousands of them differ a little between any two types.
PEAK_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        "depth": 2500.0,
        "depth_sd": 0.5,
        "gene_mean_sd": 1.0,
        "type_effect": 0.1,
        "batch_effect": 0.1,
        "marker_log_fold_change": 1.5,
        "n_batches": 2,
    }
)
PEAK_OPTIONS = FEATURE_OPTIONS - DISPERSIONS
#: Share of the peaks that mark each type unless ``n_markers`` is given.
MARKER_SHARE = 0.01
#: Share of the fragments with one of their two ends outside the peak.
ONE_END_SHARE = 0.2


def simulate_peaks(
    *, n_peaks: int = 20_000, reads: bool = False, seed: int | np.random.Generator = 0, **options: Any
) -> AnnData:
    """Simulate labelled scATAC counts of several cell types in several batches.

    Fragments are Poisson, with the profiles and depths of :func:`simulate_counts`. The matrix is never
    dense: 100,000 peaks take the memory of their fragments.

    Parameters
    ----------
    n_peaks
        Number of peaks.
    reads
        Whether ``X`` holds reads, as from counting the ends of fragments: two for each fragment, or one for
        a fifth of the fragments. ``scvi.data.reads_to_fragments`` recovers the fragments if a peak lost at
        most one read.
    seed
        As in :func:`simulate_counts`.
    **options
        Other arguments of :func:`simulate_counts`, except ``n_genes`` and the dispersions. These defaults
        differ: ``depth=2500``, ``depth_sd=0.5``, ``gene_mean_sd=1`` (of the peaks' log means),
        ``type_effect=0.1``, ``batch_effect=0.1``, ``marker_log_fold_change=1.5``, ``n_batches=2``.
        ``n_markers`` is 1% of the peaks for each type, or fewer if there are too few peaks;
        ``n_subtype_markers`` is the same for subtypes.

    Returns
    -------
    AnnData
        Annotated data of shape ``(n_cells, n_peaks)`` as from :func:`simulate_counts`. ``X`` is CSR, float32,
        and no cell is empty. ``var["dispersion"]`` is 0.

    Raises
    ------
    ValueError
        If an argument has an impossible value, or the arguments contradict each other.

    Examples
    --------
    >>> from vmmscvi.data import simulate_peaks
    >>> adata = simulate_peaks(n_cells=200, n_peaks=5000, n_types=4)
    >>> adata.shape
    (200, 5000)
    """
    require_options("options", options, CELL_OPTIONS | PEAK_OPTIONS)
    if not isinstance(reads, bool):
        raise ValueError(f"reads is {reads!r}; expected True or False.")
    settings = peak_settings(n_peaks, options)
    of_shares, of_cells, of_peaks, of_types, of_batches, of_counts, of_reads = spawn_generators(seed, 7)
    shares = draw_type_shares(settings, of_shares)
    cells = draw_cells(settings, shares, of_cells)
    peaks = draw_features(settings, of_peaks, of_types, of_batches)
    counts = draw_fragments(cells, peaks.log_profiles, of_counts)
    if reads:
        counts = _count_ends(counts, of_reads)
    adata = AnnData(
        counts, obs=cell_table(settings, cells), var=feature_table(settings, peaks.genes, prefix="peak")
    )
    arguments = {"n_peaks": n_peaks, "reads": reads, "seed": seed, **PEAK_DEFAULTS, **options}
    adata.uns["simulation"] = record(settings, shares, peaks, arguments)
    return adata


def peak_settings(n_peaks: int, options: Mapping[str, Any]) -> SimulationSettings:
    """Return checked settings in which peaks take the place of genes."""
    require_count("n_peaks", n_peaks, 2)
    values = {**DEFAULTS, **PEAK_DEFAULTS, **options, **dict.fromkeys(DISPERSIONS, 0.0), "n_genes": n_peaks}
    settings = SimulationSettings(**values)
    # In proportion to the peaks, because fifty markers among 100,000 peaks carry no information.
    start, stop = marker_range(n_peaks)
    room = (stop - start) // (settings.n_types + int(settings.tree.is_split.sum()))
    n_markers = min(int(MARKER_SHARE * n_peaks), room)
    for name in ("n_markers", "n_subtype_markers"):
        values[name] = n_markers if values[name] is None else values[name]
    return SimulationSettings(**values)


def _count_ends(fragments: sp.csr_matrix, rng: np.random.Generator) -> sp.csr_matrix:
    """Return the number of fragment ends in each peak: two for most fragments, one for some."""
    ends = fragments.copy()
    lost = rng.binomial(fragments.data.astype(np.int64), ONE_END_SHARE)
    ends.data = (2 * fragments.data - lost).astype(np.float32)
    return ends
