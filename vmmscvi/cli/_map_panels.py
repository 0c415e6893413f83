"""Panels of the map of a result, for figure and report."""

from __future__ import annotations

from collections.abc import Sequence

from anndata import AnnData

from vmmscvi._annotation import CLUSTER, PROBABILITY, written_entries

CUT = "vmm_cut"
"""Column with clusters that are coarser or finer than the model's."""


def map_panels(
    adata: AnnData, batch_key: str | None, color: Sequence[str]
) -> tuple[list[str | None], dict[str, str]]:
    """Choose panels: batches if there are several, requested columns, clusters and their probability.

    Parameters
    ----------
    adata
        Annotated data.
    batch_key
        Column with the batches.
    color
        Further columns or genes.

    Returns
    -------
    tuple[list[str | None], dict[str, str]]
        Unique keys (only ``None``, for grey cells, if there are none), and titles by key.
    """
    has_batches = batch_key is not None and adata.obs[batch_key].nunique() > 1
    clusters = [name for name in (CUT, CLUSTER) if f"obs/{name}" in written_entries(adata)]
    keys = [*([batch_key] if has_batches else []), *color, *clusters]
    titles = {name: f"{name} ({adata.obs[name].nunique()})" for name in clusters}
    if CLUSTER in clusters:
        keys.append(PROBABILITY)
        titles |= {CLUSTER: f"clusters ({adata.obs[CLUSTER].nunique()})", PROBABILITY: "probability"}
    return [*dict.fromkeys(keys)] or [None], titles


def column_of_markers(adata: AnnData) -> str:
    """Return the column of clusters to find markers for: the merged clusters, if there are any."""
    return CUT if f"obs/{CUT}" in written_entries(adata) else CLUSTER
