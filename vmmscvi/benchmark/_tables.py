"""A table of a report: what is in it, before it is written in any format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from vmmscvi.benchmark._report_data import NOT_RUN, UNFINISHED, ReportData
from vmmscvi.benchmark._schema import DONE, FAILED, SKIPPED
from vmmscvi.benchmark._statistics import Comparison, Summary, compare_with_best, summarize

NO_VALUE = Summary(float("nan"), float("nan"), 0)
NOT_APPLICABLE = "–"


@dataclass(frozen=True)
class Column:
    """One measure."""

    title: str
    measure: str
    clustering: str | None = None
    """Which clustering it is of; ``None`` for that of the row."""

    digits: int = 3
    higher_is_better: bool | None = True
    """``None`` if neither is: nothing is compared."""

    uses_labels: bool = False
    """Whether labels chose something about it, beyond being what is compared with."""

    scale: float = 1.0
    """Factor for display, such as 1/1024 for megabytes as gigabytes."""


@dataclass(frozen=True)
class Cell:
    """What stands in one column of one row."""

    summary: Summary = NO_VALUE
    n_expected: int = 0
    """Trials that should have a value."""

    comparison: Comparison | None = None
    status: str = ""
    """Why there is no value, if so."""


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    labels: tuple[str, ...]
    """What stands in the first columns: dataset, method, ..."""

    cells: tuple[Cell, ...]
    uses_labels: bool = False
    """Whether labels chose something about all of it. Such a row takes no part in comparisons."""

    from_paper: bool = False


@dataclass(frozen=True)
class Table:
    """A table with its title and what has to be said below it."""

    name: str
    """Name of its files, without suffix."""

    title: str
    label_titles: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class RowKey:
    """What a row of measured values is about."""

    method: str
    labels: tuple[str, ...]
    clustering: str = ""
    uses_labels: bool = False


def measured_rows(
    data: ReportData, dataset: str, keys: Sequence[RowKey], columns: Sequence[Column]
) -> list[Row]:
    """Return rows of means over trials, with the best of each column marked.

    Rows for which labels were used are not compared: what they reach is not to be had without labels.

    Parameters
    ----------
    data
        Results.
    dataset
        One dataset; methods are compared within it.
    keys
        What the rows are about.
    columns
        Measures.
    """
    cells: list[list[Cell]] = [[] for _ in keys]
    for column in columns:
        trials = [_trials(data, dataset, key, column) for key in keys]
        compared: dict[str, Comparison] = {}
        if column.higher_is_better is not None:
            rivals = {str(i): trials[i] for i, key in enumerate(keys) if not key.uses_labels}
            with_values = {name: values for name, values in rivals.items() if values.notna().any()}
            if len(with_values) > 1:  # one alone is not the best of anything
                compared = compare_with_best(pd.DataFrame(with_values), column.higher_is_better)
        for i, key in enumerate(keys):
            runs = data.of(dataset, key.method)
            summary = summarize(trials[i] * column.scale)
            statuses = [run.status for run in runs]
            status = "" if summary.n else _why_empty(statuses)
            cells[i].append(Cell(summary, len(runs), compared.get(str(i)), status))
    return [
        Row((dataset, *key.labels), tuple(found), key.uses_labels)
        for key, found in zip(keys, cells, strict=True)
    ]


def _trials(data: ReportData, dataset: str, key: RowKey, column: Column) -> pd.Series:
    clustering = key.clustering if column.clustering is None else column.clustering
    return data.trials(dataset, key.method, clustering, column.measure)


def _why_empty(statuses: Sequence[str]) -> str:
    """Say why no trial has a value; what is finished without a value has none to have."""
    for status in (DONE, FAILED, SKIPPED, UNFINISHED, NOT_RUN):
        if status in statuses:
            return NOT_APPLICABLE if status == DONE else status
    return NOT_RUN


def paper_cell(text: object) -> Cell:
    """Return a cell with a number of the paper, ``"0.79"`` or ``"12.4±1.90"``; empty without one."""
    parts = str(text).split("±")
    try:
        mean, sd = float(parts[0]), float(parts[1]) if len(parts) > 1 else float("nan")
    except ValueError:
        return Cell(status=NOT_APPLICABLE)
    return Cell(Summary(mean, sd, 0)) if np.isfinite(mean) else Cell(status=NOT_APPLICABLE)


def cell_text(cell: Cell, column: Column) -> str:
    """Return ``"0.712 ± 0.010"``, with the number of trials where some are missing, or why there is none."""
    if cell.status:
        return cell.status
    summary = cell.summary
    text = f"{summary.mean:.{column.digits}f}"
    if np.isfinite(summary.sd):
        text += f" ± {summary.sd:.{column.digits}f}"
    if summary.n < cell.n_expected:
        text += f" ({summary.n} of {cell.n_expected})"
    return text


def is_bold(cell: Cell) -> bool:
    """Whether it is the best of its column, or not told apart from it."""
    return cell.comparison is not None and cell.comparison.is_winner
