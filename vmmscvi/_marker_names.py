"""Names of clusters from a dictionary of marker genes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from vmmscvi._markers import expression_of, rank_genes

UNCLEAR = "unclear"
LEAST_EVIDENCE, MOST_EVIDENCE = -1.0, 6.0
"""Bounds (log2) of the evidence of one gene, so that no single gene decides."""
GENES_SHOWN = 4


def score_names(
    counts: Any,
    gene_names: Sequence[str],
    groups: pd.Series,
    batches: Any,
    markers: Mapping[str, Sequence[str]],
    min_margin: float,
) -> pd.DataFrame:
    """Score every name for every group; see :meth:`vmmscvi.SCVI_VMM.name_clusters`."""
    found = _found(markers, gene_names)
    listed = list(dict.fromkeys(gene for genes in found.values() for gene in genes))
    evidence = _evidence(counts, gene_names, groups, batches, listed)
    n_names = Counter(gene for genes in found.values() for gene in genes)
    scores = pd.DataFrame(
        {
            # missing genes contribute nothing, and genes shared by several names contribute to each
            name: sum(evidence[gene] / n_names[gene] for gene in genes) / len(set(markers[name]))
            for name, genes in found.items()
        },
        index=evidence.index,
    )
    rows = []
    for cluster, row in scores.iterrows():
        ranked = row.sort_values(ascending=False, kind="stable")
        best = str(ranked.index[0])
        margin = float(ranked.iloc[0] - ranked.iloc[1]) if len(ranked) > 1 else np.inf
        is_clear = ranked.iloc[0] > 0 and margin >= min_margin
        own = evidence.loc[cluster, found[best]].sort_values(ascending=False)
        rows.append(
            {
                "name": best if is_clear else UNCLEAR,
                "score": float(ranked.iloc[0]),
                "margin": margin,
                "best": best,
                "second": str(ranked.index[1]) if len(ranked) > 1 else "",
                "genes": ", ".join(own.index[own > 0][:GENES_SHOWN]),
                "n_found": len(found[best]),
            }
        )
    return pd.DataFrame(rows, index=pd.Index(evidence.index, name="cluster"))


def _found(markers: Mapping[str, Sequence[str]], gene_names: Sequence[str]) -> dict[str, list[str]]:
    if not markers:
        raise ValueError("`markers` is empty; expected lists of marker genes by name.")
    known = set(gene_names)
    found: dict[str, list[str]] = {}
    for name, genes in markers.items():
        if isinstance(genes, str):
            raise ValueError(f"`markers[{name!r}]` is {genes!r}; expected a list of genes.")
        found[name] = [gene for gene in dict.fromkeys(genes) if gene in known]
        if not found[name]:
            raise ValueError(f"`markers[{name!r}]` is {list(genes)}; expected at least one gene of the data.")
    return found


def _evidence(
    counts: Any, gene_names: Sequence[str], groups: pd.Series, batches: Any, listed: list[str]
) -> pd.DataFrame:
    """Bounded scores of the listed genes, one row for each group."""
    names = [str(name) for name in groups.cat.categories]
    parts = []
    for genes, moments in expression_of(counts, groups, batches):
        scores = np.stack([rank_genes(moments, k).score for k in range(len(names))])
        part = pd.DataFrame(scores, index=names, columns=list(gene_names)[genes])
        parts.append(part.loc[:, [gene for gene in listed if gene in part]])
    table = pd.concat(parts, axis=1)
    table = table.loc[:, ~table.columns.duplicated()]
    return table[listed].clip(LEAST_EVIDENCE, MOST_EVIDENCE)
