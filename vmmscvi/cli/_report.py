"""The HTML report on a training and its clusters, with embedded figures."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.figure import Figure

from vmmscvi import plotting
from vmmscvi._annotation import CLUSTER, UNS
from vmmscvi.cli._map_panels import CUT, column_of_markers, map_panels
from vmmscvi.priors import ClusterTree

REPORT_DPI = 130
MARKERS_IN_TABLE = 8
MARKERS_IN_FIGURE, MARKERS_OF_MANY, MANY = 3, 2, 12
"""Genes per cluster in the figure; genes per cluster if there are more than ``MANY`` clusters; ``MANY``."""
SMALLEST_SCALE = 0.65
"""Smallest scale of a figure; on narrower screens it scrolls, which keeps text legible."""
ONE_BATCH, UNDECIDED, SMALL = 0.95, 0.3, 20
"""Thresholds of warnings: share of one batch, share of undecided cells, number of cells."""

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1080px; margin: 2em auto; padding: 0 1em }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em; border-bottom: 1px solid #ddd }
table { border-collapse: collapse; font-size: 0.9em }
th, td { padding: 0.2em 0.7em; text-align: left; vertical-align: top }
tr:nth-child(even) { background: #f5f5f5 } td.number { text-align: right }
img { max-width: 100%; height: auto } .wide { overflow-x: auto }
.warning { background: #fff4e0; border-left: 4px solid #e69f00; padding: 0.5em 1em }
"""


def report_page(
    adata: AnnData,
    markers: pd.DataFrame | None,
    *,
    splits: pd.DataFrame | None = None,
    title: str,
    basis: str,
    batch_key: str | None,
    layer: str | None,
    color: Sequence[str] = (),
) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    adata
        Annotated data with counts and coordinates in the plane.
    markers
        Table of markers; ``None`` if there are fewer than two clusters.
    splits
        Genes that separate the two sides of each split of the tree.
    title
        Heading.
    basis
        Entry of ``obsm`` with the coordinates.
    batch_key
        Column with the batches.
    layer
        Layer with the counts.
    color
        Further columns for the map.

    Returns
    -------
    str
        The page.
    """
    stored = adata.uns[UNS]
    has_clusters = CLUSTER in adata.obs
    panels, titles = map_panels(adata, batch_key, color)
    parts = [f"<h1>{escape(title)}</h1>", _summary(adata, batch_key)]
    if notes := warnings_of(adata, markers, batch_key):
        items = "".join(f"<li>{escape(note)}</li>" for note in notes)
        parts.append(f'<h2>Warnings</h2><div class="warning"><ul>{items}</ul></div>')
    with mpl.rc_context({"backend": "Agg"}):
        drawn = plotting.embedding_panels(adata, basis, panels, titles=titles)
        parts.append(_section("Map (UMAP of the embedding)", drawn))
        if has_clusters:
            parts.append("<h2>Clusters</h2>" + _html_table(stored["clusters"].reset_index()))
            if batch_key and adata.obs[batch_key].nunique() > 1:
                parts.append(_section("Composition", _figure_of(plotting.composition(adata, by=batch_key))))
            if "cluster_tree" in stored and len(ClusterTree.from_anndata(adata).leaves) > 1:
                drawn = _figure_of(plotting.cluster_tree(adata, genes=splits))
                parts.append(_section("Finer and coarser clusters", drawn))
        if markers is not None:
            groupby = column_of_markers(adata)
            n_genes = MARKERS_IN_FIGURE if adata.obs[groupby].nunique() <= MANY else MARKERS_OF_MANY
            drawn = plotting.markers(adata, markers, n_genes=n_genes, groupby=groupby, layer=layer)
            parts.append(_section("Markers", drawn) + _marker_list(markers))
        if "history" in stored:
            parts.append(_section("Training", plotting.training_history(adata)))
    parts.append("<h2>Settings</h2>" + _key_values(stored["settings"]))
    parts.append("<h2>Versions</h2>" + _key_values(stored["versions"]))
    body = "\n".join(parts)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body>{body}</body></html>\n"
    )


def warnings_of(adata: AnnData, markers: pd.DataFrame | None, batch_key: str | None) -> list[str]:
    """List the points to check before using the clusters."""
    if CLUSTER not in adata.obs:
        return ["This prior has no clusters: cluster the embedding yourself."]
    table, found = adata.uns[UNS]["clusters"], []
    if len(table) == 1:
        found.append("Only one cluster: the data may be homogeneous, or too few to be split.")
    if small := list(table.index[table["n_cells"] < SMALL]):
        found.append(
            f"Clusters with fewer than {SMALL} cells: {', '.join(small)}. Their markers are uncertain."
        )
    if undecided := list(table.index[table["undecided"] > UNDECIDED]):
        found.append(
            f"More than {UNDECIDED:.0%} of the cells lie between clusters (probability below 0.8) in: "
            f"{', '.join(undecided)}."
        )
    if batch_key and adata.obs[batch_key].nunique() > 1:
        shares = pd.crosstab(adata.obs[CLUSTER], adata.obs[batch_key], normalize="index").max(axis=1)
        if one := [str(name) for name in shares.index[shares > ONE_BATCH]]:
            found.append(
                f"Clusters with cells of nearly one batch only: {', '.join(one)}. Either the type occurs "
                "only there, or a batch effect remains."
            )
    if markers is not None and not markers["within_batches"].all():
        alone = list(dict.fromkeys(markers.loc[~markers["within_batches"], "cluster"]))
        found.append(
            f"Clusters that share no batch with another: {', '.join(alone)}. Their markers may reflect the "
            "batch."
        )
    return found


def _summary(adata: AnnData, batch_key: str | None) -> str:
    n_clusters = adata.obs[CLUSTER].nunique() if CLUSTER in adata.obs else 0
    n_batches = adata.obs[batch_key].nunique() if batch_key else 1
    batches = f", {n_batches} batches" if n_batches > 1 else ""
    n_epochs = adata.uns[UNS].get("n_epochs", 0)
    cut = ""
    if column_of_markers(adata) == CUT:
        sizes = adata.obs[CUT].value_counts()
        cut = (
            f" Merged into {len(sizes)} clusters of at least {sizes.min():,} cells (vmm_cut); the markers "
            "are for these."
        )
    return f"<p>{adata.n_obs:,} cells{batches}, {n_clusters} clusters; {n_epochs} epochs.{cut}</p>"


def _figure_of(ax: Any) -> Figure:
    figure: Figure = ax.figure
    return figure


def _section(heading: str, figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=REPORT_DPI, bbox_inches="tight")
    width = figure.get_figwidth() * 96
    plt.close(figure)
    image = base64.b64encode(buffer.getvalue()).decode()
    text = escape(heading)
    size = f"width: {width:.0f}px; min-width: {SMALLEST_SCALE * width:.0f}px"
    source = f"data:image/png;base64,{image}"
    return f'<h2>{text}</h2><div class="wide"><img style="{size}" alt="{text}" src="{source}"></div>'


def _html_table(table: pd.DataFrame) -> str:
    head = "".join(f"<th>{escape(str(name).replace('_', ' '))}</th>" for name in table)
    rows = []
    for row in table.itertuples(index=False):
        cells = "".join(
            f'<td class="number">{escape(_as_number(value))}</td>'
            if isinstance(value, int | float | np.number)
            else f"<td>{escape(str(value))}</td>"
            for value in row
        )
        rows.append(f"<tr>{cells}</tr>")
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _as_number(value: Any) -> str:
    """Format whole numbers in full, and other numbers with three decimals."""
    return f"{value:,}" if isinstance(value, int | np.integer) else f"{value:.3f}"


def _marker_list(markers: pd.DataFrame) -> str:
    best = markers[markers["rank"] <= MARKERS_IN_TABLE]
    table = best.groupby("cluster", sort=False)["gene"].agg(lambda genes: ", ".join(genes.astype(str)))
    return _html_table(table.rename("markers, best first").reset_index())


def _key_values(values: Mapping[str, Any]) -> str:
    rows = []
    for name, value in values.items():
        text = f"{len(value)} values" if isinstance(value, np.ndarray) and value.size > 5 else str(value)
        rows.append(f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>")
    return f"<table>{''.join(rows)}</table>"
