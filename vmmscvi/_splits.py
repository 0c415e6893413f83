"""Genes that separate the two sides of each split of a cluster tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from vmmscvi._markers import STANDARD_ERRORS, Array, Expression, expression_of, log_fold_change
from vmmscvi.priors import ClusterTree


def split_table(
    counts: Any,
    gene_names: Sequence[str],
    tree: ClusterTree,
    batches: Any,
    n_genes: int,
    min_size: int,
) -> pd.DataFrame:
    """Return the genes of each side of each split; see :meth:`vmmscvi.SCVI_VMM.get_split_markers`."""
    sizes = tree.assignments.value_counts().reindex(list(tree.leaves)).to_numpy()
    sides = tree.sides()
    chosen = [
        i
        for i in reversed(range(len(sides)))
        if min(int(sizes[list(side)].sum()) for side in sides[i]) >= min_size
    ]
    changes: dict[int, list[tuple[Array, Array]]] = {i: [] for i in chosen}
    for _, moments in expression_of(counts, tree.assignments, batches):
        for i in chosen:
            changes[i].append(_left_against_right(moments.union(sides[i])))
    rows: list[pd.DataFrame] = []
    for i in chosen:
        change, error = (np.concatenate(parts) for parts in zip(*changes[i], strict=True))
        for side, sign, leaves in (("left", 1.0, sides[i][0]), ("right", -1.0, sides[i][1])):
            score = (sign * change - STANDARD_ERRORS * error) / np.log(2)
            best = np.argsort(-score, kind="stable")[:n_genes]
            rows.append(
                pd.DataFrame(
                    {
                        "node": len(tree.leaves) + i,
                        "side": side,
                        "members": tree.name_of(leaves),
                        "gene": np.asarray(gene_names, dtype=object)[best],
                        "rank": np.arange(1, len(best) + 1),
                        "score": score[best],
                        "log2_fold_change": sign * change[best] / np.log(2),
                        "n_effective": tree.n_effective[i],
                        "n_cells": int(sizes[list(leaves)].sum()),
                    }
                )
            )
    columns = ["node", "side", "members", "gene", "rank", "score", "log2_fold_change", "n_effective"]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=[*columns, "n_cells"])


def _left_against_right(moments: Expression) -> tuple[Array, Array]:
    found = log_fold_change(moments.log_rates(), moments.n_cells, 0, 1)
    if found is None:  # the two sides share no batch
        moments = moments.without_batches()
        found = log_fold_change(moments.log_rates(), moments.n_cells, 0, 1)
    if found is None:
        raise ValueError("A side of a split has no cells; expected cells with counts on both sides.")
    return found
