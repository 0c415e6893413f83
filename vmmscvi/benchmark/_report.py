"""Tables and figures of a benchmark, written to files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vmmscvi.benchmark import _schema
from vmmscvi.benchmark._files import write_bytes
from vmmscvi.benchmark._report_data import ReportData, read_results
from vmmscvi.benchmark._specs import slug
from vmmscvi.benchmark._tables import Table
from vmmscvi.benchmark._tables_content import (
    clustering_table,
    clusterings_table,
    integration_table,
    numbers_table,
)
from vmmscvi.benchmark._tables_runs import cost_table, missing_table, stability_table
from vmmscvi.benchmark._tables_write import WRITERS, escape_markdown, to_markdown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

TABLE_FORMATS = tuple(WRITERS)
FIGURE_FORMATS = ("png", "pdf")
FORMATS = (*TABLE_FORMATS, *FIGURE_FORMATS)

REPORT_FOLDER = "report"
REPORT_FILE = "report.md"
"""All tables, and the figures as PNG."""


def report(
    results: Path | str,
    out: Path | str | None = None,
    formats: Sequence[str] = FORMATS,
    reference: Path | str | None = None,
    progress: bool = False,
    datasets: Collection[str] | None = None,
    methods: Collection[str] | None = None,
) -> list[Path]:
    """Write tables and figures of a benchmark.

    Nothing is trained or scored, so that a report can be made at any time, also of a run that is under way:
    cells without scores are shown as such. Layouts of embeddings are kept in the folder of results, which
    makes the next report quick.

    Parameters
    ----------
    results
        Folder that :func:`vmmscvi.benchmark.run` wrote.
    out
        Folder for the report; ``results/report`` by default.
    formats
        Of ``"csv"``, ``"md"`` and ``"tex"`` for tables, ``"png"`` and ``"pdf"`` for figures. With ``"md"``,
        ``report.md`` has all tables (and figures, with ``"png"``).
    reference
        Folder with the paper's Tables 3 and 4 as ``table3*.csv`` and ``table4*.csv``, to stand beside ours.
    progress
        Whether to show a progress bar.
    datasets, methods
        Names of those to report; all by default.

    Returns
    -------
    The files that were written.

    Raises
    ------
    ValueError
        If there are no results, a format, dataset or method is unknown, or the reference has no such tables.
    """
    results = Path(results)
    out = results / REPORT_FOLDER if out is None else Path(out)
    formats = _checked(formats)
    data = read_results(results).only(datasets, methods)
    tables = make_tables(data, None if reference is None else Path(reference))
    written = []
    for table in tables:
        for suffix in formats:
            if suffix in WRITERS:
                path = out / "tables" / f"{table.name}.{suffix}"
                WRITERS[suffix](table, path)
                written.append(path)
    drawn, images = _write_figures(data, out / "figures", formats, progress)
    written += drawn
    if "md" in formats:
        written.append(_write_summary(data, tables, images, out / REPORT_FILE))
    logger.info("Wrote %d files to %s.", len(written), out)
    return written


def make_tables(data: ReportData, reference: Path | None = None) -> list[Table]:
    """Return all tables that have rows."""
    tables = [
        clustering_table(data, reference),
        integration_table(data, reference),
        clusterings_table(data),
        numbers_table(data),
        stability_table(data),
        cost_table(data),
        missing_table(data),
    ]
    return [table for table in tables if table.rows]


def make_figures(data: ReportData) -> Iterator[tuple[str, Callable[[], Figure | None]]]:
    """Yield the names of all figures with functions that draw them, or return ``None`` without data."""
    from vmmscvi.benchmark._figures_centers import centers_figure
    from vmmscvi.benchmark._figures_panels import embedding_figure
    from vmmscvi.benchmark._figures_summary import clusterings_figure, integration_figure, numbers_figure

    yield "clusterings_nmi", partial(clusterings_figure, data, _schema.NMI, "NMI")
    yield "clusterings_ari", partial(clusterings_figure, data, _schema.ARI, "ARI")
    yield "clusters_found", partial(numbers_figure, data)
    yield "integration", partial(integration_figure, data)
    for dataset in data.datasets:
        yield f"embedding_{slug(dataset)}", partial(embedding_figure, data, dataset)
        for method in data.methods(dataset):
            name = f"centers_{slug(dataset)}_{slug(method)}"
            yield name, partial(centers_figure, data, dataset, method)


def _checked(formats: Sequence[str]) -> tuple[str, ...]:
    given = (formats,) if isinstance(formats, str) else tuple(formats)
    unknown = [name for name in given if name not in FORMATS]
    if unknown or not given:
        raise ValueError(f"`formats` has {unknown or 'nothing'}; expected some of {list(FORMATS)}.")
    return given


def _write_figures(
    data: ReportData, folder: Path, formats: Sequence[str], progress: bool
) -> tuple[list[Path], list[Path]]:
    """Write figures; return all files, and the PNG files among them."""
    suffixes = [suffix for suffix in formats if suffix in FIGURE_FORMATS]
    if not suffixes:
        return [], []
    import matplotlib.pyplot as plt
    from rich.console import Console
    from rich.progress import track

    from vmmscvi.plotting._figure import STYLE, save_figure

    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    figures = list(make_figures(data))
    bar = track(figures, "figures", console=Console(stderr=True), disable=not progress, transient=True)
    for name, draw in bar:
        figure = draw()
        if figure is None:
            continue
        paths = [folder / f"{name}.{suffix}" for suffix in suffixes]
        with plt.rc_context(STYLE):  # text as text in PDF
            for path in paths:
                save_figure(figure, path, name)
        plt.close(figure)
        written += paths
    return written, [path for path in written if path.suffix == ".png"]


def _write_summary(data: ReportData, tables: Sequence[Table], images: Sequence[Path], path: Path) -> Path:
    sizes = [
        "| " + " | ".join([escape_markdown(name), *(str(n) for n in size.values())]) + " |"
        for name, size in data.sizes.items()
    ]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(data.versions.items()))
    lines = [
        "# Benchmark",
        "",
        "| Dataset | Cells | Genes | Batches | Types |",
        "| :-- | --: | --: | --: | --: |",
        *sizes,
        "",
        f"Versions: {versions}.",
        "",
        *(to_markdown(table) for table in tables),
    ]
    for image in images:
        lines += [f"![{image.stem}]({image.relative_to(path.parent).as_posix()})", ""]
    write_bytes(path, "\n".join(lines).encode())
    return path
