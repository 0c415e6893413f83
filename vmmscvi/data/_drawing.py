"""Random streams, and the drawing of counts: dense negative binomials, sparse Poisson fragments."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from vmmscvi.data._design import CellDesign
from vmmscvi.data._profiles import softmax

#: Entries (cells x genes) drawn at a time: bounds the dense intermediates to a few tens of MB.
CHUNK_ENTRIES = 1_000_000


def spawn_generators(seed: int | np.random.Generator, n: int) -> list[np.random.Generator]:
    """Return independent generators; a given generator advances, so a second call gives other data."""
    if isinstance(seed, np.random.Generator):
        sequence = np.random.SeedSequence(seed.integers(2**32, size=4).tolist())
    elif isinstance(seed, Integral) and not isinstance(seed, bool) and seed >= 0:
        sequence = np.random.SeedSequence(int(seed))
    else:
        raise ValueError(f"seed is {seed!r}; expected a non-negative integer or a numpy.random.Generator.")
    return [np.random.default_rng(child) for child in sequence.spawn(n)]


def draw_counts(
    cells: CellDesign,
    dispersion: NDArray[np.float64],
    log_profiles: NDArray[np.float64],
    rng: np.random.Generator,
) -> sp.csr_matrix:
    """Draw the counts in chunks of cells; ``log_profiles`` is ``(n_batches, n_leaves, n_genes)``."""
    n_cells, n_genes = len(cells.leaf), len(dispersion)
    step = max(1, CHUNK_ENTRIES // n_genes)
    normalised = softmax(log_profiles)
    chunks = []
    for start in range(0, n_cells, step):
        rows = slice(start, min(start + step, n_cells))
        batch, leaf, position = cells.batch[rows], cells.leaf[rows], cells.position[rows]
        if np.array_equal(position, leaf):
            shares = normalised[batch, leaf]
        else:
            shares = _interpolate(log_profiles, batch, position)
        mean = shares * cells.library_size[rows, None]
        chunks.append(sp.csr_matrix(_draw_negative_binomial(mean, dispersion, rng).astype(np.float32)))
    return sp.vstack(chunks, format="csr")


def _interpolate(
    log_profiles: NDArray[np.float64], batch: NDArray[np.intp], position: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return profiles between two neighbouring types, ``(n_cells, n_genes)``."""
    last = log_profiles.shape[1] - 1
    lower = np.clip(np.floor(position).astype(np.intp), 0, last - 1)
    weight = (position - lower)[:, None]
    return softmax((1 - weight) * log_profiles[batch, lower] + weight * log_profiles[batch, lower + 1])


def _draw_negative_binomial(
    mean: NDArray[np.float64], dispersion: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw gamma-Poisson counts ``(n_cells, n_genes)`` without empty rows."""
    if dispersion.any():
        shape = np.broadcast_to(1 / dispersion, mean.shape)
        counts = rng.poisson(rng.standard_gamma(shape) * dispersion * mean)
    else:
        counts = rng.poisson(mean)
    for row in np.flatnonzero(counts.sum(axis=1) == 0):
        # At a vanishing depth this is the law of a cell given that it is not empty.
        counts[row, rng.choice(mean.shape[1], p=mean[row] / mean[row].sum())] = 1
    return counts


def draw_fragments(
    cells: CellDesign, log_profiles: NDArray[np.float64], rng: np.random.Generator
) -> sp.csr_matrix:
    """Draw Poisson counts without empty rows, and without a dense matrix.

    A cell's total is Poisson, and its profile gives the probability of each peak for a fragment. This is the
    law of independent Poisson counts. Memory grows with the number of fragments. ``log_profiles`` has shape
    ``(n_batches, n_leaves, n_peaks)``.
    """
    n_peaks = log_profiles.shape[2]
    totals = np.maximum(rng.poisson(cells.library_size), 1)
    order, blocks = [], []
    for rows, shares in _cells_by_profile(cells, log_profiles):
        bounds = np.cumsum(shares)
        uniform = bounds[-1] * rng.random(totals[rows].sum())  # rounding: the last bound is not quite 1
        peaks = np.searchsorted(bounds[:-1], uniform, side="right")
        of_row = np.repeat(np.arange(len(rows)), totals[rows])
        ones = np.ones(len(peaks), dtype=np.float32)
        order.append(rows)
        blocks.append(sp.csr_matrix((ones, (of_row, peaks)), shape=(len(rows), n_peaks)))
    fragments = sp.vstack(blocks, format="csr")[np.argsort(np.concatenate(order))]
    fragments.sort_indices()
    return fragments


def _cells_by_profile(
    cells: CellDesign, log_profiles: NDArray[np.float64]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
    """Yield the cells of one batch and type, or of one position on a continuum, and their profile."""
    if not np.array_equal(cells.position, cells.leaf):
        for row in range(len(cells.leaf)):
            rows = np.array([row])
            yield rows, _interpolate(log_profiles, cells.batch[rows], cells.position[rows])[0]
        return
    for batch, leaf in np.unique(np.stack([cells.batch, cells.leaf], axis=1), axis=0):
        rows = np.flatnonzero((cells.batch == batch) & (cells.leaf == leaf))
        yield rows, softmax(log_profiles[batch, leaf])
