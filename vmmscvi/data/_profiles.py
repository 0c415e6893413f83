"""Profiles of the simulated types and batches: gene means, dispersions, markers and batch effects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vmmscvi.data._settings import SimulationSettings, marker_range

#: Relative spread of the markers' log fold changes.
FOLD_CHANGE_SPREAD = 0.25
#: Keeps the dispersion of very rare genes finite.
DISPERSION_MEAN_OFFSET = 0.01


@dataclass(frozen=True)
class Genes:
    """One entry per gene, all of shape ``(n_genes,)``."""

    mean: NDArray[np.float64]
    """Mean count before any effect of type or batch, in a cell of the median depth."""
    dispersion: NDArray[np.float64]
    """phi in Var = mean + phi * mean**2."""
    marked_coarse: NDArray[np.intp]
    """Coarse type that the gene marks, or -1."""
    marked_leaf: NDArray[np.intp]
    """Subtype that the gene marks, or -1; never set together with ``marked_coarse``."""
    log_fold_change: NDArray[np.float64]
    """Natural-log fold change of the gene in the type that it marks; 0 for other genes."""


@dataclass(frozen=True)
class Features:
    """Genes or peaks with their expected values in every type and batch, without counts."""

    genes: Genes
    log_types: NDArray[np.float64]
    """Unnormalised log profiles of the leaf types, shape ``(n_leaves, n_genes)``."""
    log_batches: NDArray[np.float64]
    """Log effects of the batches, shape ``(n_batches, n_leaves, n_genes)``."""

    @property
    def log_profiles(self) -> NDArray[np.float64]:
        """Unnormalised log profiles with batch effects, shape ``(n_batches, n_leaves, n_genes)``."""
        return self.log_types + self.log_batches


def draw_features(
    settings: SimulationSettings,
    of_genes: np.random.Generator,
    of_types: np.random.Generator,
    of_batches: np.random.Generator,
) -> Features:
    """Draw genes, type profiles and batch effects, each from a separate random stream."""
    genes = draw_genes(settings, of_genes)
    log_types = draw_log_type_profiles(settings, genes, of_types)
    return Features(genes, log_types, draw_batch_effects(settings, of_batches))


def draw_genes(settings: SimulationSettings, rng: np.random.Generator) -> Genes:
    """Draw gene means, dispersions around their trend, and the markers of each type.

    The trend is a constant plus a part that falls with the root of the mean, as the method of moments finds
    within type and batch in 10x data of blood cells.
    """
    n_genes = settings.n_genes
    log_mean = settings.gene_mean_sd * rng.standard_normal(n_genes)
    mean = settings.depth * softmax(log_mean)
    trend = settings.dispersion + settings.dispersion_trend / np.sqrt(mean + DISPERSION_MEAN_OFFSET)
    dispersion = trend * np.exp(settings.dispersion_sd * rng.standard_normal(n_genes))

    n_main, n_sub = settings.marker_counts
    coarse_ids = np.repeat(np.arange(settings.n_types), n_main if settings.n_types > 1 else 0)
    leaf_ids = np.repeat(np.flatnonzero(settings.tree.is_split), n_sub)
    start, stop = marker_range(n_genes)
    candidates = rng.permutation(np.argsort(mean)[start:stop])
    main_genes, sub_genes = np.split(candidates[: len(coarse_ids) + len(leaf_ids)], [len(coarse_ids)])
    marked_coarse, marked_leaf = np.full(n_genes, -1), np.full(n_genes, -1)
    marked_coarse[main_genes], marked_leaf[sub_genes] = coarse_ids, leaf_ids
    spread = np.exp(FOLD_CHANGE_SPREAD * rng.standard_normal(n_genes))
    size = np.where(
        marked_coarse >= 0,
        settings.marker_log_fold_change,
        np.where(marked_leaf >= 0, settings.subtype_log_fold_change, 0.0),
    )
    return Genes(mean, dispersion, marked_coarse, marked_leaf, size * spread)


def draw_log_type_profiles(
    settings: SimulationSettings, genes: Genes, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Unnormalised log expression of the leaf types, shape ``(n_leaves, n_genes)``.

    A subtype has its coarse type's profile, markers included, and its own markers on top.
    """
    background = settings.type_effect * rng.standard_normal((settings.n_types, settings.n_genes))
    if settings.n_types == 1:
        background[:] = 0.0  # a single type has the gene means as its profile
    marks_coarse = genes.marked_coarse == np.arange(settings.n_types)[:, None]
    coarse = np.log(genes.mean) + background + marks_coarse * genes.log_fold_change
    marks_leaf = genes.marked_leaf == np.arange(len(settings.tree.leaves))[:, None]
    return np.asarray(coarse[settings.tree.parent] + marks_leaf * genes.log_fold_change)


def draw_batch_effects(settings: SimulationSettings, rng: np.random.Generator) -> NDArray[np.float64]:
    """Log effects of the batches on the genes of each type, shape ``(n_batches, n_leaves, n_genes)``.

    Every effect has standard deviation ``batch_effect``; a share ``batch_type_interaction`` of its variance
    is drawn separately for each coarse type, the rest is common to all types. Subtypes share their parent's
    effect. A single batch has no effect.
    """
    common = rng.standard_normal((settings.n_batches, 1, settings.n_genes))
    own = rng.standard_normal((settings.n_batches, settings.n_types, settings.n_genes))
    if settings.n_batches == 1:
        return np.zeros((1, len(settings.tree.leaves), settings.n_genes))
    share = settings.batch_type_interaction
    effect = settings.batch_effect * (np.sqrt(1 - share) * common + np.sqrt(share) * own)
    return np.asarray(effect[:, settings.tree.parent])


def softmax(log_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Exponentiate and scale to sum 1 along the last axis."""
    values = np.exp(log_values - log_values.max(axis=-1, keepdims=True))
    return np.asarray(values / values.sum(axis=-1, keepdims=True))
