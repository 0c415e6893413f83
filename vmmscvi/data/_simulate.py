"""Labelled multi-batch counts that look like 10x data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from anndata import AnnData

from vmmscvi.data._annotation import cell_table, feature_table, record
from vmmscvi.data._design import draw_cells, draw_type_shares
from vmmscvi.data._drawing import draw_counts, spawn_generators
from vmmscvi.data._profiles import draw_features
from vmmscvi.data._settings import SimulationSettings, TypeShares


def simulate_counts(
    *,
    n_cells: int = 3000,
    n_genes: int = 1200,
    n_types: int = 7,
    n_subtypes: int | Mapping[str, int] = 1,
    proportions: TypeShares = "random",
    exact_proportions: bool = True,
    continuum: bool = False,
    n_markers: int | None = None,
    marker_log_fold_change: float = 1.8,
    n_subtype_markers: int | None = None,
    subtype_log_fold_change: float = 1.5,
    type_effect: float = 0.3,
    n_batches: int = 3,
    batch_proportions: Sequence[float] | None = None,
    batch_effect: float = 0.3,
    batch_type_interaction: float = 0.2,
    batch_depth_effect: float = 0.6,
    missing: Mapping[str, Sequence[str]] | None = None,
    depth: float = 600.0,
    depth_sd: float = 0.35,
    type_depth_sd: float = 0.25,
    gene_mean_sd: float = 2.0,
    dispersion: float = 0.05,
    dispersion_trend: float = 0.25,
    dispersion_sd: float = 0.4,
    seed: int | np.random.Generator = 0,
) -> AnnData:
    r"""Simulate labelled counts of several cell types in several batches.

    The count of gene :math:`g` in cell :math:`i` of type :math:`t` and batch :math:`b` is negative binomial,

    .. math::
        x_{ig} \sim \mathrm{NB}(\mu_{ig}, \phi_g), \qquad
        \mu_{ig} = s_i \, \mathrm{softmax}_g(\log m_g + \delta_{tg} + \beta_{btg}), \qquad
        \mathrm{Var}(x_{ig}) = \mu_{ig} + \phi_g \mu_{ig}^2 ,

    with log-normal gene means :math:`m_g`, log-normal library sizes :math:`s_i`, type differences
    :math:`\delta` (markers, and a small difference in every gene) and batch effects :math:`\beta`. There is
    no dropout and no ambient RNA; zeros result only from depth and dispersion. The defaults follow 10x data
    of blood cells and give a data set of moderate difficulty.

    Parameters
    ----------
    n_cells, n_genes
        Size of the data.
    n_types
        Number of coarse types, named ``type0``, ``type1``, ... With 1 there are no type differences.
    n_subtypes
        Number of subtypes of every coarse type, or a mapping that names the types to split, such as
        ``{"type0": 3}``. Subtypes, named ``type0.0``, ``type0.1``, ..., share the profile and the markers of
        their coarse type and have additional markers. Types that are not split keep their name.
    proportions
        Shares of the types (or subtypes, if split): ``"random"`` draws them from a Dirichlet(4, ..., 4),
        ``"equal"`` makes them equal, a sequence gives them in order and a mapping by name. Types that a
        mapping does not name divide the rest at random, so ``{"type6": 0.005}`` makes one rare type.
    exact_proportions
        Whether types, and batches within types, have exactly their share of the cells (rounded to whole
        cells, at least one per type). Otherwise they are drawn with these probabilities, and a rare type may
        have no cells.
    continuum
        Whether cells lie on a path through the types in order, instead of in groups. The logarithms of two
        neighbouring types' profiles are interpolated; ``cell_type`` is then the nearer of the two.
    n_markers
        Number of marker genes of each coarse type; a gene marks at most one type. By default 50, or fewer if
        there are too few genes of sufficient expression.
    marker_log_fold_change
        Median log fold change (natural logarithm) of a marker in its type.
    n_subtype_markers, subtype_log_fold_change
        The same for subtypes; by default 15 markers, or fewer if there are too few genes.
    type_effect
        Standard deviation of the log difference of every gene in every coarse type, markers or not.
    n_batches
        Number of batches, named ``batch0``, ``batch1``, ...
    batch_proportions
        Shares of the batches in order; equal by default.
    batch_effect
        Standard deviation of the log effect of a batch on a gene; a single batch has no effect. Values up to
        0.1 resemble donors of one experiment, 0.3 two experiments, 0.4 different protocols. Above 0.5,
        uncorrected data cluster mainly by batch.
    batch_type_interaction
        Share of the variance of the batch effects that differs between coarse types, from 0 to 1.
    batch_depth_effect
        Standard deviation of the batches' log depth, as a multiple of ``batch_effect``.
    missing
        Coarse types or subtypes that a batch lacks, such as ``{"batch1": ["type3"]}``.
    depth
        Median expected library size, in molecules over all simulated genes.
    depth_sd, type_depth_sd
        Standard deviation of the log library size of cells of the same type and batch, and of the log depths
        of coarse types.
    gene_mean_sd
        Standard deviation of the log gene means.
    dispersion, dispersion_trend, dispersion_sd
        The dispersion :math:`\phi_g` is ``dispersion + dispersion_trend / sqrt(mean + 0.01)``, with the mean
        count at the median depth, times a log-normal factor of standard deviation ``dispersion_sd`` on the
        log scale. With ``dispersion`` and ``dispersion_trend`` 0 the counts are Poisson.
    seed
        An integer, or a generator to draw it from. The same seed gives identical data. Each part of the
        simulation has a separate random stream, so that, for example, a change of ``batch_effect`` scales the
        same batch effects on the same cells.

    Returns
    -------
    AnnData
        Annotated data of shape ``(n_cells, n_genes)``:

        - ``X``: counts, CSR, float32. No cell is empty: a cell without any molecule, which occurs only at
          very small ``depth``, receives one in a gene drawn from its expected profile. A gene may be zero in
          all cells.
        - ``obs``: ``batch``, ``cell_type``, ``cell_type_coarse`` (the same as ``cell_type`` without
          subtypes), ``expected_library_size`` and, on a continuum, ``pseudotime`` from 0 to 1.
        - ``var``: ``mean`` (expected count without effects at the median depth), ``dispersion``,
          ``marker_of`` (the type that the gene marks, or missing), ``marker_level`` (``"type"``,
          ``"subtype"`` or missing), ``marker_log_fold_change`` (0 for other genes).
        - ``uns["simulation"]``: ``settings``, ``types`` (finest level), ``batches``, ``proportions`` of the
          types and, unless they have more than a million entries, ``profiles`` (expected shares of the genes
          by type before batch effects, ``(n_types, n_genes)``) and ``batch_effects`` (log scale,
          ``(n_batches, n_types, n_genes)``).

    Raises
    ------
    ValueError
        If an argument has an impossible value, or the arguments contradict each other.

    Examples
    --------
    >>> from vmmscvi.data import simulate_counts
    >>> adata = simulate_counts(n_cells=500, n_genes=300, proportions={"type6": 0.01}, seed=1)
    >>> int((adata.obs["cell_type"] == "type6").sum())
    5
    """
    arguments = {name: value for name, value in locals().items() if name != "seed"}
    settings = SimulationSettings(**arguments)
    of_shares, of_cells, of_genes, of_types, of_batches, of_counts = spawn_generators(seed, 6)
    shares = draw_type_shares(settings, of_shares)
    cells = draw_cells(settings, shares, of_cells)
    genes = draw_features(settings, of_genes, of_types, of_batches)
    counts = draw_counts(cells, genes.genes.dispersion, genes.log_profiles, of_counts)

    adata = AnnData(counts, obs=cell_table(settings, cells), var=feature_table(settings, genes.genes))
    adata.uns["simulation"] = record(settings, shares, genes, {**arguments, "seed": seed})
    return adata
