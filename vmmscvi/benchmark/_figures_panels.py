"""Panels like those of the paper's Figure 3: methods as rows; batch, type and cluster as columns."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.figure import Figure

from vmmscvi.benchmark._figures_layout import layout
from vmmscvi.benchmark._files import read_arrays
from vmmscvi.benchmark._report_data import ReportData, Run
from vmmscvi.benchmark._schema import DONE, EMBEDDING_FILE

TITLES = {"batch": "Batch", "labels": "Annotated type"}


def embedding_figure(data: ReportData, dataset: str) -> Figure | None:
    """Draw the embeddings of a dataset.

    Of each method the first finished seed is drawn: no score chooses it, as the paper does.

    Parameters
    ----------
    data
        Results.
    dataset
        Which dataset.

    Returns
    -------
    The figure; ``None`` if no cell is finished.
    """
    from vmmscvi.plotting import embedding_panels

    chosen = {method: run for method in data.methods(dataset) if (run := _first_done(data, dataset, method))}
    if not chosen:
        return None
    adata: AnnData | None = None
    colors: dict[str, list[str | None]] = {}
    titles = dict(TITLES)
    kinds = set()
    for method, run in chosen.items():
        xy, cells, kind = layout(run)
        kinds.add(kind)
        arrays = read_arrays(run.folder / EMBEDDING_FILE)
        if adata is None:
            obs = pd.DataFrame({key: arrays[key][cells] for key in TITLES}, arrays["obs_names"][cells])
            adata = AnnData(obs=obs)
        adata.obsm[method] = xy
        cluster: str | None = None
        if arrays["clusters"].size:
            cluster = f"cluster: {method}"
            adata.obs[cluster] = arrays["clusters"][cells]
            titles[cluster] = f"Own clusters ({len(np.unique(arrays['clusters']))})"
        colors[method] = [*(key for key in TITLES if _varies(adata, key)), cluster]
    figure = embedding_panels(
        adata, {method: method for method in chosen}, colors, titles=titles, empty="no clusters\nof its own"
    )
    for ax in figure.axes:  # layouts fill their panels: without frames, rows would run into each other
        ax.spines[:].set_visible(True)
        ax.spines[:].set_color("0.8")
    only = f", {next(iter(chosen))}" if len(chosen) == 1 else ""  # a single row has no name of its own
    figure.suptitle(f"{dataset}{only}, {' and '.join(sorted(kinds))}")
    return figure


def _first_done(data: ReportData, dataset: str, method: str) -> Run | None:
    return next((run for run in data.of(dataset, method) if run.status == DONE), None)


def _varies(adata: AnnData, key: str) -> bool:
    """Whether a column is worth a panel: batches of a single-batch set are not."""
    return key != "batch" or adata.obs[key].nunique() > 1
