"""Design of the simulated cells: type, batch, position on the trajectory and expected library size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vmmscvi.data._settings import SimulationSettings, as_shares, require_known, require_number

#: Concentration of the Dirichlet that random proportions come from: the largest of seven types then holds
#: about a quarter of the cells, the smallest a few percent.
SHARE_CONCENTRATION = 4.0
#: Counts are stored as float32, which is exact up to 2**24; expected library sizes stay well below.
MAX_LIBRARY_SIZE = 1e6


@dataclass(frozen=True)
class CellDesign:
    """One entry per cell, all of shape ``(n_cells,)``."""

    leaf: NDArray[np.intp]
    batch: NDArray[np.intp]
    position: NDArray[np.float64]
    """Position on the path through the types: ``leaf`` itself, or up to 0.5 away from it on a continuum."""
    library_size: NDArray[np.float64]


def draw_type_shares(settings: SimulationSettings, rng: np.random.Generator) -> NDArray[np.float64]:
    """Shares of the cells of every leaf type, shape ``(n_leaves,)``: given, equal, or drawn.

    Types that a mapping does not name divide the remaining share in proportions drawn from a Dirichlet.
    """
    leaves, asked = settings.tree.leaves, settings.proportions
    drawn: NDArray[np.float64] = rng.dirichlet(np.full(len(leaves), SHARE_CONCENTRATION))
    if isinstance(asked, str):
        if asked not in ("random", "equal"):
            raise ValueError(
                f"proportions is {asked!r}; expected 'random', 'equal', {len(leaves)} numbers, or a mapping "
                "from type names to numbers."
            )
        return drawn if asked == "random" else np.full(len(leaves), 1 / len(leaves))
    if not isinstance(asked, Mapping):
        return as_shares("proportions", asked, len(leaves))
    require_known("proportions", asked, leaves)
    for name, share in asked.items():
        require_number(f"proportions[{name!r}]", share, 0.0, 1.0)
    given = np.array([name in asked for name in leaves])
    if given.all():
        return as_shares("proportions", [asked[name] for name in leaves], len(leaves))
    left_over = 1 - sum(asked.values())
    if left_over <= 0 or any(share == 0 for share in asked.values()):
        raise ValueError(
            f"proportions is {dict(asked)!r}, which leaves {left_over:g} for {int((~given).sum())} other "
            "types; expected shares above 0 with a sum below 1."
        )
    shares = np.where(given, [asked.get(name, 0.0) for name in leaves], drawn)
    shares[~given] *= left_over / shares[~given].sum()
    return shares


def apportion(shares: NDArray[np.float64], total: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Divide ``total`` into whole numbers nearest to ``shares``: largest remainders, ties at random."""
    quota = shares / shares.sum() * total
    # Rounding first: 0.005 * 10,000 may come out as 49.999..., and must give 50 and no remainder.
    quota = np.where(np.abs(quota - np.rint(quota)) < 1e-6, np.rint(quota), quota)
    counts: NDArray[np.intp] = np.floor(quota).astype(np.intp)
    by_remainder = np.lexsort((rng.random(len(shares)), -(quota - counts)))
    counts[by_remainder[: max(total - int(counts.sum()), 0)]] += 1
    return counts


def draw_cells(
    settings: SimulationSettings, shares: NDArray[np.float64], rng: np.random.Generator
) -> CellDesign:
    """Draw type, batch, position on the path and expected library size of every cell, in random order."""
    leaf_counts = _draw_leaf_counts(settings, shares, rng)
    leaf = np.repeat(np.arange(len(shares)), leaf_counts)
    batch = np.concatenate(
        [_draw_batches(settings, i, int(count), rng) for i, count in enumerate(leaf_counts)]
    )
    order = rng.permutation(settings.n_cells)
    leaf, batch = leaf[order], batch[order]
    position = _draw_positions(settings, leaf, rng)
    return CellDesign(leaf, batch, position, draw_library_sizes(settings, position, batch, rng))


def _draw_leaf_counts(
    settings: SimulationSettings, shares: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.intp]:
    if not settings.exact_proportions:
        return rng.multinomial(settings.n_cells, shares).astype(np.intp)
    counts = apportion(shares, settings.n_cells, rng)
    # Every requested type exists: the largest types give a cell to those that rounding left empty.
    for empty in np.flatnonzero(counts == 0):
        counts[np.argmax(counts)] -= 1
        counts[empty] = 1
    return counts


def _draw_batches(
    settings: SimulationSettings, leaf: int, count: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    shares = settings.batch_shares * settings.present[:, leaf]
    shares = shares / shares.sum()
    counts = apportion(shares, count, rng) if settings.exact_proportions else rng.multinomial(count, shares)
    return np.repeat(np.arange(settings.n_batches), counts)


def _draw_positions(
    settings: SimulationSettings, leaf: NDArray[np.intp], rng: np.random.Generator
) -> NDArray[np.float64]:
    if not settings.continuum:
        return leaf.astype(np.float64)
    last = len(settings.tree.leaves) - 1
    low = np.where(leaf == 0, 0.0, -0.5)
    high = np.where(leaf == last, 0.0, 0.5)
    return leaf + rng.uniform(low, high)


def draw_library_sizes(
    settings: SimulationSettings,
    position: NDArray[np.float64],
    batch: NDArray[np.intp],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Draw expected library sizes with the median ``settings.depth``, shape ``(n_cells,)``."""
    parent = settings.tree.parent
    of_leaf = settings.type_depth_sd * rng.standard_normal(settings.n_types)[parent]
    of_batch = settings.batch_effect * settings.batch_depth_effect * rng.standard_normal(settings.n_batches)
    of_cell = settings.depth_sd * rng.standard_normal(settings.n_cells)
    log_size = of_cell + np.interp(position, np.arange(len(parent)), of_leaf) + of_batch[batch]
    size: NDArray[np.float64] = settings.depth * np.exp(log_size - np.median(log_size))
    if size.max() > MAX_LIBRARY_SIZE:
        raise ValueError(
            f"depth is {settings.depth:g} with depth_sd={settings.depth_sd:g}, which gives library sizes up "
            f"to {size.max():.3g}; expected at most {MAX_LIBRARY_SIZE:g} (counts are stored as float32)."
        )
    return size
