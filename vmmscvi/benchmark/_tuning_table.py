"""The table and the figure of tuning, and the choice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vmmscvi.benchmark import _schema

if TYPE_CHECKING:
    from vmmscvi.benchmark._cells import Cell

SETTING = ["dataset", "batch_size", "prior_lr_ratio"]
CHOSEN = "chosen_with_labels"


def tuning_table(cells: Iterable[Cell]) -> pd.DataFrame:
    """Gather the finished cells of tuning.

    Returns
    -------
    A row for each run with ``dataset``, ``batch_size``, ``prior_lr_ratio``, ``seed``, ``n_types``,
    ``n_clusters``, ``nmi`` (of the clusters), ``total`` (scIB) and ``chosen_with_labels``, see
    :func:`mark_chosen`.
    """
    rows = []
    for cell in cells:
        scores = pd.read_csv(cell.folder / _schema.SCORES_FILE, keep_default_na=False)
        value = scores.set_index([_schema.CLUSTERING, _schema.MEASURE])[_schema.VALUE].astype(float)
        rows.append(
            {
                "dataset": cell.dataset.name,
                "batch_size": cell.method.train["batch_size"],
                "prior_lr_ratio": cell.method.train["prior_lr_ratio"],
                "seed": cell.seed,
                "n_types": cell.record()["n_types"],
                "n_clusters": int(value[_schema.OWN, _schema.N_CLUSTERS]),
                "nmi": value[_schema.OWN, _schema.NMI],
                "total": value[_schema.NO_CLUSTERING, _schema.TOTAL],
            }
        )
    columns = [*SETTING, "seed", "n_types", "n_clusters", "nmi", "total"]
    return mark_chosen(pd.DataFrame(rows, columns=columns).sort_values([*SETTING, "seed"], ignore_index=True))


def mark_chosen(table: pd.DataFrame) -> pd.DataFrame:
    """Add a column that is true for the setting that the paper would choose for a data set.

    It has the largest mean total among settings whose mean number of clusters is at least the number of
    types; where there is no such setting none is chosen.
    """
    means = table.groupby(SETTING, as_index=False)[["n_types", "n_clusters", "total"]].mean()
    enough = means[means["n_clusters"] >= means["n_types"]]
    best = (
        enough.loc[enough.groupby("dataset")["total"].idxmax(), SETTING] if len(enough) else enough[SETTING]
    )
    chosen = pd.MultiIndex.from_frame(table[SETTING]).isin(pd.MultiIndex.from_frame(best))
    return table.assign(**{CHOSEN: chosen})


def tuning_figure(table: pd.DataFrame, files: Sequence[Path]) -> list[Path]:
    """Draw number of clusters and scIB total against the batch size, a line for each ratio.

    Parameters
    ----------
    table
        As from :func:`tuning_table`.
    files
        Where to save; the suffixes say the format.

    Returns
    -------
    The files; none if there is nothing to draw.
    """
    if table.empty:
        return []
    import matplotlib as mpl

    with mpl.rc_context({"backend": "Agg"}):
        figure = _draw(table)
        for file in files:
            figure.savefig(file, dpi=300, bbox_inches="tight")
        mpl.pyplot.close(figure)
    return list(files)


def _draw(table: pd.DataFrame) -> Any:
    import matplotlib.pyplot as plt

    from vmmscvi.plotting._figure import STYLE

    datasets = list(table["dataset"].unique())
    ratios = np.sort(table["prior_lr_ratio"].unique())
    colors = dict(zip(ratios, plt.get_cmap("viridis")(np.linspace(0, 0.9, len(ratios))), strict=True))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, len(datasets), figsize=(3.2 * len(datasets), 5), squeeze=False)
        for dataset, (above, below) in zip(datasets, axes.T, strict=True):
            rows = table[table["dataset"] == dataset]
            for ratio, line in rows.groupby("prior_lr_ratio"):
                means = line.groupby("batch_size")[["n_clusters", "total"]].mean()
                look: dict[str, Any] = {"color": colors[ratio], "marker": "o", "markersize": 4}
                above.plot(means.index, means["n_clusters"], label=f"{ratio:g}", **look)
                below.plot(means.index, means["total"], **look)
            above.axhline(rows["n_types"].iloc[0], color="0.5", linestyle="--", linewidth=1)
            chosen = rows[rows[CHOSEN]].groupby("batch_size")["total"].mean()
            below.plot(chosen.index, chosen, "o", markersize=10, markerfacecolor="none", color="black")
            above.set(title=dataset, ylabel="clusters (dashed: types)")
            below.set(xlabel="batch size", ylabel="scIB total (ring: chosen, with labels)")
            for panel in (above, below):
                panel.set_xscale("log", base=2)
                sizes = np.sort(rows["batch_size"].unique())
                panel.set_xticks(sizes, [str(size) for size in sizes])
        axes[0, -1].legend(title="ratio", loc="upper left", bbox_to_anchor=(1, 1))
    return figure
