"""Labelled CITE-seq data: counts of genes, and of surface proteins with background and foreground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from vmmscvi.data._annotation import storable
from vmmscvi.data._drawing import spawn_generators
from vmmscvi.data._options import DEFAULTS, require_options
from vmmscvi.data._settings import MAX_LOG_SD, require_count, require_known, require_number
from vmmscvi.data._simulate import simulate_counts

#: Share of the proteins that a coarse type carries.
CARRIED_SHARE = 0.3
#: Median background count of a protein, and the spread of its logarithm over proteins.
BACKGROUND_MEDIAN = 8.0
BACKGROUND_SPREAD = 0.7
#: Relative spread of the proteins' log fold changes.
FOLD_CHANGE_SPREAD = 0.25


@dataclass(frozen=True, kw_only=True)
class ProteinSettings:
    """Checked arguments of :func:`simulate_cite` that concern proteins; see there for their meaning."""

    n_types: int
    n_proteins: int
    n_protein_pairs: int
    n_pair_markers: int
    protein_log_fold_change: float
    background_sd: float
    protein_batch_effect: float
    protein_dispersion: float
    without_protein: Sequence[str]

    def __post_init__(self) -> None:
        """Check every argument that can be checked without the cells."""
        require_count("n_types", self.n_types, 1)
        require_count("n_proteins", self.n_proteins, 1)
        require_count("n_protein_pairs", self.n_protein_pairs, 0)
        require_count("n_pair_markers", self.n_pair_markers, 1)
        require_number("protein_log_fold_change", self.protein_log_fold_change, 0.0, 2 * MAX_LOG_SD)
        for name in ("background_sd", "protein_batch_effect"):
            require_number(name, getattr(self, name), 0.0, MAX_LOG_SD)
        require_number("protein_dispersion", self.protein_dispersion, 0.0)
        if self.n_protein_pairs > self.n_types:
            raise ValueError(
                f"n_protein_pairs is {self.n_protein_pairs}; expected at most n_types={self.n_types}."
            )
        needed = self.n_protein_pairs * self.n_pair_markers
        if needed > self.n_proteins:
            raise ValueError(
                f"n_pair_markers is {self.n_pair_markers} for {self.n_protein_pairs} pairs of types, "
                f"{needed} proteins in total; expected at most n_proteins={self.n_proteins}."
            )
        if isinstance(self.without_protein, str):
            raise ValueError(
                f"without_protein is the string {self.without_protein!r}; expected a list of batch names."
            )

    def require_batches(self, batches: Sequence[str]) -> None:
        """Raise unless the batches without proteins exist, and others are left."""
        require_known("without_protein", self.without_protein, batches)
        if set(self.without_protein) == set(batches):
            raise ValueError(
                f"without_protein is {list(self.without_protein)}, every batch; expected at least one batch "
                "with proteins."
            )


def simulate_cite(
    *,
    n_types: int = 6,
    n_proteins: int = 30,
    n_protein_pairs: int = 2,
    n_pair_markers: int = 4,
    protein_log_fold_change: float = 1.8,
    background_sd: float = 0.4,
    protein_batch_effect: float = 0.2,
    protein_dispersion: float = 0.15,
    without_protein: Sequence[str] = (),
    seed: int | np.random.Generator = 0,
    **options: Any,
) -> AnnData:
    r"""Simulate labelled CITE-seq data, with types that only proteins distinguish.

    Genes are those of :func:`simulate_counts`. The count of protein :math:`p` in cell :math:`i` of type
    :math:`t` and batch :math:`b` is negative binomial with mean

    .. math::
        a_{ip} \, (1 + c_{tp} (e^{f_p} - 1)), \qquad
        \log a_{ip} \sim \mathcal{N}(\log m_p + \beta_{bp}, \sigma^2) ,

    with background :math:`a`, fold changes :math:`f` over the background, and :math:`c_{tp}` 1 if the type
    carries the protein.

    Parameters
    ----------
    n_types
        Number of coarse types, which genes distinguish.
    n_proteins
        Number of proteins. Each coarse type carries about three in ten of them.
    n_protein_pairs
        Number of coarse types that consist of two types with the same gene expression: ``type0.0`` and
        ``type0.1``, ``type1.0`` and ``type1.1``, ...
    n_pair_markers
        Proteins that one type of a pair carries and the other lacks; they mark no other type.
    protein_log_fold_change
        Median log fold change (natural logarithm) of the foreground over the background.
    background_sd
        Standard deviation of a cell's log background, half of its variance common to all proteins of the
        cell.
    protein_batch_effect
        Standard deviation of the log effect of a batch on the proteins' background; none with one batch.
    protein_dispersion
        Dispersion of the negative binomial; 0 is Poisson.
    without_protein
        Batches whose proteins were not measured, such as ``["batch1"]``. Their counts are 0, by which
        scvi-tools' TOTALVI recognises them.
    seed
        As in :func:`simulate_counts`.
    **options
        Other arguments of :func:`simulate_counts`, except those of subtypes, which the pairs replace.

    Returns
    -------
    AnnData
        Annotated data as from :func:`simulate_counts`, with these additions:

        - ``obsm["protein"]``: protein counts, a table of floats with the names of the proteins as columns.
        - ``obs["has_protein"]``: whether the proteins of the cell were measured.
        - ``obs["cell_type"]``: types, with the pairs separated; ``cell_type_coarse``: types that genes
          distinguish.
        - ``uns["simulation"]["protein"]``: settings, names (``names``), ``background`` (:math:`m_p`),
          ``log_fold_change`` (:math:`f_p`) and ``carried`` (:math:`c_{tp}`, types by proteins).

    Raises
    ------
    ValueError
        If an argument has an impossible value, or the arguments contradict each other.

    Examples
    --------
    >>> from vmmscvi.data import simulate_cite
    >>> adata = simulate_cite(n_cells=300, n_genes=200, n_batches=2, without_protein=["batch1"])
    >>> adata.obsm["protein"].shape
    (300, 30)
    """
    settings = ProteinSettings(
        n_types=n_types,
        n_proteins=n_proteins,
        n_protein_pairs=n_protein_pairs,
        n_pair_markers=n_pair_markers,
        protein_log_fold_change=protein_log_fold_change,
        background_sd=background_sd,
        protein_batch_effect=protein_batch_effect,
        protein_dispersion=protein_dispersion,
        without_protein=without_protein,
    )
    subtype_options = {"n_subtypes", "n_subtype_markers", "subtype_log_fold_change"}
    require_options("options", options, set(DEFAULTS) - subtype_options - {"n_types"})
    of_genes, of_proteins, of_batches, of_counts = spawn_generators(seed, 4)
    pairs = {f"type{i}": 2 for i in range(n_protein_pairs)}
    adata = simulate_counts(n_types=n_types, n_subtypes=pairs, n_subtype_markers=0, seed=of_genes, **options)
    settings.require_batches(list(adata.obs["batch"].cat.categories))

    background = BACKGROUND_MEDIAN * np.exp(BACKGROUND_SPREAD * of_proteins.standard_normal(n_proteins))
    spread = np.exp(FOLD_CHANGE_SPREAD * of_proteins.standard_normal(n_proteins))
    log_fold_change = protein_log_fold_change * spread
    carried = _draw_carried(settings, list(adata.obs["cell_type"].cat.categories), of_proteins)
    log_background = np.log(background) + _draw_log_ambient(settings, adata, of_batches, of_counts)
    fold = 1 + carried[adata.obs["cell_type"].cat.codes] * np.expm1(log_fold_change)
    counts = _draw_proteins(settings, np.exp(log_background) * fold, of_counts)
    has_protein = ~adata.obs["batch"].isin(list(without_protein)).to_numpy()
    counts[~has_protein] = 0

    names = [f"protein{i}" for i in range(n_proteins)]
    adata.obs["has_protein"] = has_protein
    adata.obsm["protein"] = pd.DataFrame(counts, index=adata.obs_names, columns=names)
    simulation = adata.uns["simulation"]
    simulation["settings"]["seed"] = storable({"seed": seed})["seed"]
    simulation["protein"] = {
        "settings": storable({**vars(settings), "without_protein": list(without_protein)}),
        "names": np.array(names),
        "background": background,
        "log_fold_change": log_fold_change,
        "carried": carried,
    }
    return adata


def _draw_carried(
    settings: ProteinSettings, leaves: Sequence[str], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Return which type carries which protein, shape ``(n_leaves, n_proteins)``."""
    coarse = [name.split(".")[0] for name in leaves]
    of_coarse = {name: rng.random(settings.n_proteins) < CARRIED_SHARE for name in dict.fromkeys(coarse)}
    carried = np.array([of_coarse[name] for name in coarse])
    markers = rng.permutation(settings.n_proteins)[: settings.n_protein_pairs * settings.n_pair_markers]
    carried[:, markers] = False
    for pair, proteins in enumerate(markers.reshape(settings.n_protein_pairs, settings.n_pair_markers)):
        first, second = (leaves.index(f"type{pair}.{half}") for half in (0, 1))
        carried[first, proteins[::2]] = True
        carried[second, proteins[1::2]] = True
    return carried


def _draw_log_ambient(
    settings: ProteinSettings, adata: AnnData, of_batches: np.random.Generator, of_cells: np.random.Generator
) -> NDArray[np.float64]:
    """Return log deviations of cells from the proteins' background, shape ``(n_cells, n_proteins)``."""
    n_batches = len(adata.obs["batch"].cat.categories)
    effects = of_batches.standard_normal((n_batches, settings.n_proteins))
    effects *= settings.protein_batch_effect if n_batches > 1 else 0.0
    common = of_cells.standard_normal((adata.n_obs, 1))
    own = of_cells.standard_normal((adata.n_obs, settings.n_proteins))
    deviation = settings.background_sd * np.sqrt(0.5) * (common + own)
    return np.asarray(effects[adata.obs["batch"].cat.codes] + deviation)


def _draw_proteins(
    settings: ProteinSettings, mean: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float32]:
    dispersion = settings.protein_dispersion
    if dispersion > 0:
        mean = mean * dispersion * rng.standard_gamma(1 / dispersion, mean.shape)
    return rng.poisson(mean).astype(np.float32)
