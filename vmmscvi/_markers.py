r"""Marker genes from observed counts: genes with reliably higher counts in a group than in other groups.

Genes are ranked by a lower bound of their log fold change within batches. A rank test asks how well a gene
separates cells instead. It ranks abundant genes with small changes first, the more so the more cells there
are. These are pure functions of counts; no model is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

FEWEST_CELLS = 20
"""Groups with fewer cells are marked as small, because their markers are uncertain."""
PSEUDO_COUNT = 1.0
"""Molecules added to every group at the rate of all cells, so that no counts mean no change."""
STANDARD_ERRORS = 1.0
"""Distance of the bound below the log fold change, in standard errors."""
VALUES_PER_CHUNK = 2**24

Array = NDArray[np.float64]


class Expression(NamedTuple):
    """Moments of ``G`` genes in ``K`` groups and ``B`` batches, per cell of mean library size."""

    n_cells: Array
    """Cells, shape ``(K, B)``."""
    total: Array
    """Sums of scaled counts, shape ``(K, B, G)``."""
    squares: Array
    """Sums of their squares, shape ``(K, B, G)``."""
    n_expressing: Array
    """Cells with a count, shape ``(K, B, G)``."""

    def union(self, groups: Sequence[Sequence[int]]) -> Expression:
        """Moments of unions of groups."""
        return Expression(*(np.stack([m[list(g)].sum(0) for g in groups]) for m in self))

    def without_batches(self) -> Expression:
        """Moments of all batches, merged into one."""
        return Expression(*(m.sum(1, keepdims=True) for m in self))

    def log_rates(self) -> tuple[Array, Array]:
        """Shrunk log rates and their squared standard errors, shape ``(K, B, G)``.

        The overdispersion of counts is the ratio of variance and mean in a group, at least 1.
        """
        rate = self.total.sum(0) / np.maximum(self.n_cells.sum(0), 1.0)[:, None]
        rate = np.maximum(rate, 1e-12)
        n = self.n_cells[:, :, None]
        mean = self.total / np.maximum(n, 1.0)
        variance = np.maximum(self.squares / np.maximum(n, 1.0) - mean**2, 0.0)
        overdispersion = np.maximum(variance / np.maximum(mean, 1e-12), 1.0)
        total = self.total + PSEUDO_COUNT
        return np.log(total / (n + PSEUDO_COUNT / rate)), overdispersion / total


def expression_of(counts: Any, groups: pd.Series, batches: Any) -> Iterator[tuple[slice, Expression]]:
    """Yield the moments of the groups, for blocks of genes.

    Parameters
    ----------
    counts
        Counts, sparse or dense, shape ``(n, G)``.
    groups
        Categorical group of each cell, length ``n``; cells without a group are ignored.
    batches
        Integer code of each cell's batch, length ``n``.

    Yields
    ------
    tuple[slice, Expression]
        The genes of a block, and their moments.
    """
    counts = sparse.csr_matrix(counts, dtype=np.float64)
    library = np.asarray(counts.sum(axis=1)).ravel()
    codes = groups.cat.codes.to_numpy().astype(np.int64)  # pandas uses the smallest integer type
    keep = np.flatnonzero((codes >= 0) & (library > 0))
    scale = library[keep].mean() / library[keep]
    batch_codes = np.unique(np.asarray(batches)[keep], return_inverse=True)[1].ravel()
    n_groups, n_batches = len(groups.cat.categories), int(batch_codes.max()) + 1
    cell = codes[keep] * n_batches + batch_codes
    members = sparse.csr_matrix(
        (np.ones(len(keep)), (cell, np.arange(len(keep)))), shape=(n_groups * n_batches, len(keep))
    )
    n_cells = np.bincount(cell, minlength=n_groups * n_batches).reshape(n_groups, n_batches).astype(float)
    scaled = (sparse.diags_array(scale) @ counts[keep]).tocsc()
    step = max(1, VALUES_PER_CHUNK // (n_groups * n_batches))
    for start in range(0, counts.shape[1], step):
        genes = slice(start, min(start + step, counts.shape[1]))
        chunk = scaled[:, genes]
        sums = (members @ m for m in (chunk, chunk.power(2), (chunk > 0).astype(float)))
        moments = [np.asarray(m.todense()).reshape(n_groups, n_batches, -1) for m in sums]
        yield genes, Expression(n_cells, *moments)


def log_fold_change(
    log_rates: tuple[Array, Array], n_cells: Array, group: int, other: int
) -> tuple[Array, Array] | None:
    """Log fold change of one group against another within batches, and its standard error, shape ``(G,)``.

    Batches are weighted by the harmonic mean of the numbers of cells. ``None`` if the groups share no batch.
    """
    n, m = n_cells[group], n_cells[other]
    weights = n * m / np.maximum(n + m, 1.0)
    if not weights.any():
        return None
    weights = (weights / weights.sum())[:, None]
    rate, variance = log_rates
    change = (weights * (rate[group] - rate[other])).sum(0)
    return change, np.sqrt((weights**2 * (variance[group] + variance[other])).sum(0))


class Ranking(NamedTuple):
    """Comparison of one group with every other group."""

    score: Array
    """Mean lower bound of the log2 fold change, shape ``(G,)``."""
    change: Array
    """Mean log2 fold change, shape ``(G,)``."""
    within_batches: bool
    """Whether another group shares a batch with this one."""


def rank_genes(moments: Expression, group: int) -> Ranking:
    """Compare one group with every other group; all others have equal weight, whatever their size."""
    others = [k for k in range(len(moments.n_cells)) if k != group and moments.n_cells[k].any()]
    rates = moments.log_rates()
    pairs = [log_fold_change(rates, moments.n_cells, group, other) for other in others]
    found = [pair for pair in pairs if pair is not None]
    if not found:
        if moments.n_cells.shape[1] == 1:
            raise ValueError("Found only one group; expected two or more to compare.")
        return rank_genes(moments.without_batches(), group)._replace(within_batches=False)
    changes, errors = (np.stack(parts) for parts in zip(*found, strict=True))
    score = (changes - STANDARD_ERRORS * errors).mean(0)
    return Ranking(score / np.log(2), changes.mean(0) / np.log(2), True)


def marker_table(
    counts: Any,
    gene_names: Sequence[str],
    groups: pd.Series,
    batches: Any,
    wanted: Sequence[str],
    n_genes: int,
) -> pd.DataFrame:
    """Return the best markers of each wanted group; see :meth:`vmmscvi.SCVI_VMM.get_markers`.

    Parameters
    ----------
    counts
        As in :func:`expression_of`.
    gene_names
        Names of the genes, length ``G``.
    groups, batches
        As in :func:`expression_of`.
    wanted
        Groups in the table. Each is compared with all other groups.
    n_genes
        Number of rows for each group.

    Returns
    -------
    DataFrame
        The table of markers.
    """
    names = [str(name) for name in groups.cat.categories]
    columns: dict[str, list[dict[str, Array]]] = {name: [] for name in wanted}
    n_cells, within = np.zeros(len(names)), dict.fromkeys(wanted, True)
    for _, moments in expression_of(counts, groups, batches):
        n_cells = moments.n_cells.sum(1)
        sums, expressing = moments.total.sum(1), moments.n_expressing.sum(1)
        for name in wanted:
            k = names.index(name)
            ranking = rank_genes(moments, k)
            within[name] = ranking.within_batches
            others = max(n_cells.sum() - n_cells[k], 1.0)
            own = max(n_cells[k], 1.0)
            columns[name].append(
                {
                    "score": ranking.score,
                    "log2_fold_change": ranking.change,
                    "mean": sums[k] / own,
                    "mean_others": (sums.sum(0) - sums[k]) / others,
                    "expressed": expressing[k] / own,
                    "expressed_others": (expressing.sum(0) - expressing[k]) / others,
                }
            )
    tables = []
    for name in wanted:
        parts = {key: np.concatenate([part[key] for part in columns[name]]) for key in columns[name][0]}
        best = np.argsort(-parts["score"], kind="stable")[:n_genes]
        table = pd.DataFrame({key: values[best] for key, values in parts.items()})
        table.insert(0, "cluster", name)
        table.insert(1, "gene", np.asarray(gene_names, dtype=object)[best])
        table.insert(2, "rank", np.arange(1, len(best) + 1))
        table["n_cells"] = int(n_cells[names.index(name)])
        table["is_small"] = table["n_cells"] < FEWEST_CELLS
        table["within_batches"] = within[name]
        tables.append(table)
    return pd.concat(tables, ignore_index=True)
