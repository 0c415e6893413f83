"""Figures of an experiment, of all scores and layouts that are there.

    python figures.py results/tables --out results/tables/figures --datasets pbmc_2src --methods VMM "N(0, I)"

Scores are drawn seed by seed. Embeddings and decoded centres are those of the first seed that has a layout:
no score chooses it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from anndata import AnnData, read_h5ad
from data import BATCH, CELL_TYPE
from matplotlib.figure import Figure
from results import number_of, parser, read_scores, trials
from tables import CLUSTERINGS

from vmmscvi.plotting import COLORS, embedding_panels

DRAWN = ("own", "leiden_1", "leiden_best")
N_PER_CLUSTER, MAX_GENES = 4, 40
PSEUDO_COUNT = 0.1
"""Added to expression before a ratio, as a multiple of the mean over genes: absent genes mark nothing."""


def clusterings(scores: pd.DataFrame, measure: str) -> Figure | None:
    """Draw a measure of own clusters and of Leiden's, method by method."""
    rows = scores[scores["clustering"].isin(DRAWN) & (scores["measure"] == measure)]
    if rows.empty:
        return None
    colors = {CLUSTERINGS[name]: color for name, color in zip(DRAWN, COLORS, strict=False)}
    rows = rows.assign(clustering=rows["clustering"].map(CLUSTERINGS))
    present = [name for name in colors if name in set(rows["clustering"])]
    grid = sns.catplot(
        rows, x="value", y="method", hue="clustering", col="dataset", col_wrap=_columns(rows), kind="strip",
        dodge=True, hue_order=present, palette=colors, height=3.2, jitter=False, alpha=0.8,
    )  # fmt: skip
    grid.set_titles("{col_name}").set_axis_labels(measure.upper(), "")
    return grid.figure


def numbers(scores: pd.DataFrame) -> Figure | None:
    """Draw numbers of own clusters and of Leiden's at resolution 1, over that of types."""
    rows = scores[scores["clustering"].isin(DRAWN[:2]) & (scores["measure"] == "n_clusters")]
    if rows.empty:
        return None
    types = rows["dataset"].map(
        {name: number_of(scores, name, "n_types") for name in rows["dataset"].unique()}
    )
    rows = rows.assign(
        ratio=rows["value"] / types.astype(float), clustering=rows["clustering"].map(CLUSTERINGS)
    )
    rows["method"] = rows["method"].cat.remove_unused_categories()
    grid = sns.catplot(
        rows, x="ratio", y="dataset", hue="method", col="clustering", kind="strip", dodge=True, jitter=False,
        palette=list(COLORS[: rows["method"].nunique()]), height=1.5 + 0.6 * rows["dataset"].nunique(),
        aspect=3.2 / (1.5 + 0.6 * rows["dataset"].nunique()),
    )  # fmt: skip
    grid.set_titles("{col_name}").set_axis_labels("clusters / annotated types", "")
    for ax in grid.axes.flat:
        ax.set_xscale("log", base=2)
        low, high = ax.get_xlim()
        ax.set_xlim(min(low, 0.45), max(high, 2.2))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.axvline(1, color="black", linewidth=0.8, zorder=0)
    return grid.figure


def integration(scores: pd.DataFrame) -> Figure | None:
    """Draw bio conservation against batch correction: seeds, and their means in black rings."""
    both = {name: trials(scores, "", name) for name in ("Batch correction", "Bio conservation")}
    rows = pd.DataFrame(both).dropna().rename_axis(["dataset", "method", "seed"]).reset_index()
    if rows.empty:
        return None
    order = [name for name in scores["method"].cat.categories if name in set(rows["method"])]
    look = {"x": "Batch correction", "y": "Bio conservation"}
    grid = sns.relplot(
        rows, **look, hue="method", style="method", hue_order=order, style_order=order, col="dataset",
        col_wrap=_columns(rows), palette=list(COLORS[: len(order)]), height=2.8,
        facet_kws={"sharex": False, "sharey": False},
    )  # fmt: skip
    for dataset, ax in grid.axes_dict.items():
        means = rows[rows["dataset"] == dataset].groupby("method")[list(look.values())].mean()
        ax.scatter(
            means[look["x"]], means[look["y"]], s=90, facecolor="none", edgecolor="black", linewidth=0.7
        )
    grid.set_titles("{col_name}")
    return grid.figure


def _columns(rows: pd.DataFrame) -> int:
    return min(4, rows["dataset"].nunique())


def embeddings(layouts: dict[str, AnnData], dataset: str) -> Figure:
    """Draw methods as rows; batch, type and own cluster as columns, as in the paper's Figure 3."""
    adata: AnnData | None = None
    colors: dict[str, list[str | None]] = {}
    titles = {BATCH: "batch", CELL_TYPE: "annotated type"}
    for method, drawn in layouts.items():
        if adata is None:
            adata = AnnData(obs=drawn.obs[[BATCH, CELL_TYPE]])
        adata.obsm[method] = drawn.obsm["X_umap"]
        cluster = f"cluster: {method}" if "cluster" in drawn.obs else None
        if cluster:
            adata.obs[cluster] = drawn.obs["cluster"].astype(str).astype("category").to_numpy()
            titles[cluster] = f"own clusters ({drawn.obs['cluster'].nunique()})"
        shown = [BATCH, CELL_TYPE] if adata.obs[BATCH].nunique() > 1 else [CELL_TYPE]
        colors[method] = [*shown, cluster]
    figure = embedding_panels(
        adata, {method: method for method in layouts}, colors, titles=titles, empty="no clusters\nof its own"
    )
    figure.suptitle(f"{dataset}, UMAP")
    return figure


def marker_genes(expression: np.ndarray, n_per_cluster: int) -> list[np.ndarray]:
    """Return indices of genes that mark each cluster, best first, from decoded expression alone.

    The score of a gene is the log ratio of its expression to the mean of the other clusters. A gene marks one
    cluster at most, that of its best score.
    """
    if len(expression) < 2:
        return [np.argsort(-expression[0], kind="stable")[:n_per_cluster]]
    offset = PSEUDO_COUNT / expression.shape[1]
    others = (expression.sum(axis=0) - expression) / (len(expression) - 1)
    scores = np.log((expression + offset) / (others + offset))
    own = np.where((scores == scores.max(axis=0)) & (scores > 0), scores, -np.inf)
    order = np.argsort(-own, axis=1, kind="stable")
    return [genes[np.isfinite(score[genes])][:n_per_cluster] for genes, score in zip(order, own, strict=True)]


def centers(decoded: pd.DataFrame, shares: pd.Series, title: str) -> Figure:
    """Draw decoded centres at the markers of the clusters, each gene from its lowest to its highest value."""
    n = int(np.clip(MAX_GENES // len(decoded), 1, N_PER_CLUSTER))
    log_expression = np.log1p(1e4 * decoded)
    if len(decoded) > 2:  # similar clusters side by side
        leaves = sns.clustermap(log_expression, col_cluster=False).dendrogram_row.reordered_ind
        decoded, log_expression = decoded.iloc[leaves], log_expression.iloc[leaves]
    drawn = log_expression.iloc[:, np.concatenate(marker_genes(decoded.to_numpy(), n))[: 2 * MAX_GENES]]
    scaled = (drawn - drawn.min()) / (drawn.max() - drawn.min()).clip(lower=1e-9)
    scaled.index = [f"{name} ({shares.get(name, 0):.0%})" for name in scaled.index]
    figure = Figure(figsize=(2.5 + 0.2 * scaled.shape[1], 1.8 + 0.22 * len(scaled)), layout="constrained")
    ax = figure.subplots()
    bar = {"label": "of a gene: 0 lowest, 1 highest"}
    sns.heatmap(scaled, ax=ax, cmap="viridis", xticklabels=True, yticklabels=True, cbar_kws=bar)
    ax.set(xlabel="marker genes, by decoded expression", ylabel="cluster (share of cells)", title=title)
    return figure


def figures(results: Path, scores: pd.DataFrame) -> Iterator[tuple[str, Figure | None]]:
    """Yield name and figure; ``None`` without data."""
    yield "clusterings_nmi", clusterings(scores, "nmi")
    yield "clusterings_ari", clusterings(scores, "ari")
    yield "clusters_found", numbers(scores)
    yield "integration", integration(scores)
    for dataset, of_dataset in scores.groupby("dataset", observed=True):
        folders = of_dataset.drop_duplicates(["method", "seed"])[["method", "folder"]]
        files = {}
        for method, folder in folders.itertuples(index=False):
            if (file := Path(folder) / "layout.h5ad").is_file():
                files.setdefault(method, file)
        layouts = {method: read_h5ad(file) for method, file in files.items()}
        if not layouts:
            continue
        folder = next(iter(files.values())).parents[2].name
        yield f"embedding_{folder}", embeddings(layouts, str(dataset))
        for method, drawn in layouts.items():
            if "decoded" in drawn.uns:
                shares = drawn.obs["cluster"].value_counts(normalize=True)
                title = f"{dataset}, {method}: decoded centres"
                name = f"centers_{folder}_{files[method].parents[1].name}"
                yield name, centers(drawn.uns["decoded"], shares, title)


def main() -> None:
    """Command line."""
    arguments = parser(__doc__).parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    mpl.use("Agg")
    sns.set_theme(style="ticks", font_scale=0.8)
    scores = read_scores(arguments.results, arguments.datasets, arguments.methods)
    for name, figure in figures(arguments.results, scores):
        if figure is not None:
            figure.savefig(arguments.out / f"{name}.png", dpi=200, bbox_inches="tight")
            figure.savefig(arguments.out / f"{name}.pdf", bbox_inches="tight")
        mpl.pyplot.close("all")


if __name__ == "__main__":
    main()
