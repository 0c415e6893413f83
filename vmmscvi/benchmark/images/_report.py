"""Report of the image benchmark: tables as CSV and Markdown, figures as PNG and PDF."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vmmscvi.benchmark.images._tables import (
    CLUSTERS,
    SURGERY,
    comparison_table,
    read_cells,
    read_reference,
    to_markdown,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TABLES = {"table1_elbo_surgery": SURGERY, "table2_clusters": CLUSTERS}
DPI = 130


def write_report(results: Path, out: Path, reference: Path | None = None) -> list[Path]:
    """Write tables and figures of all complete cells.

    Parameters
    ----------
    results
        Folder that :func:`vmmscvi.benchmark.images.run_cells` wrote.
    out
        Folder for tables and figures; made if it is not there.
    reference
        Folder with the paper's tables, whose values are put beside ours.

    Returns
    -------
    The files that were written.

    Raises
    ------
    ValueError
        If there is no complete cell, or the folder of the reference has no tables.
    """
    cells = read_cells(results)
    paper = None if reference is None else read_reference(reference)
    out.mkdir(parents=True, exist_ok=True)
    files = []
    for name, wanted in TABLES.items():
        measures = tuple(measure for measure in wanted if measure in cells)
        if not measures:
            continue
        table = comparison_table(cells, measures, paper)
        table.to_csv(out / f"{name}.csv", index=False)
        (out / f"{name}.md").write_text(to_markdown(table))
        files += [out / f"{name}.csv", out / f"{name}.md"]
    return files + _write_figures(cells, out)


def _write_figures(cells: pd.DataFrame, out: Path) -> list[Path]:
    import numpy as np

    from vmmscvi.benchmark.images._cell import ARRAYS_FILE
    from vmmscvi.benchmark.images._figures import batch_size_figure, predictive_figure
    from vmmscvi.benchmark.images._settings import TITLES

    files = []
    clustered = cells[cells["method"] != "standard_normal"]
    for dataset, group in clustered.groupby("dataset", sort=False):
        if group["batch_size"].nunique() > 1:
            files += _save(batch_size_figure(group), out / f"batch_size_{dataset}")
    for _, cell in clustered[clustered["seed"] == clustered["seed"].min()].iterrows():
        with np.load(Path(cell["folder"]) / ARRAYS_FILE) as file:
            arrays = dict(file)
        title = f"{TITLES[cell['method']]}, {cell['dataset']}: {int(cell['n_clusters'])} clusters"
        name = f"clusters_{cell['dataset']}_{cell['method']}_batch{cell['batch_size']}"
        files += _save(predictive_figure(arrays, title), out / name)
    return files


def _save(figure: Figure, path: Path) -> list[Path]:
    import matplotlib.pyplot as plt

    files = [path.with_name(f"{path.name}.{suffix}") for suffix in ("png", "pdf")]
    for file in files:
        figure.savefig(file, dpi=DPI, bbox_inches="tight")
    plt.close(figure)
    return files
