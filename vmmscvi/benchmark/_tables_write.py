"""Tables as CSV, Markdown and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from vmmscvi.benchmark._files import write_bytes
from vmmscvi.benchmark._tables import Cell, Column, Row, Table, cell_text, is_bold

DAGGER = "†"

WIDE_TABLE = 6
"""Tables with more columns of numbers are scaled to the width of the page in LaTeX."""


def to_tidy(table: Table) -> pd.DataFrame:
    """Return a table with a row for each number, which is what is written as CSV.

    Columns: those of the table's labels, then ``measure``, ``mean``, ``sd``, ``n`` (trials with a value),
    ``n_expected``, ``p_value`` (against the best, adjusted after Holm), ``best``, ``bold``, ``uses_labels``,
    ``from_paper`` and ``status`` (why there is no number). A table without numbers has its labels alone.
    """
    if not table.columns:
        return pd.DataFrame([row.labels for row in table.rows], columns=list(table.label_titles))
    records = [
        {
            **dict(zip(table.label_titles, row.labels, strict=True)),
            "measure": column.title,
            "mean": cell.summary.mean,
            "sd": cell.summary.sd,
            "n": None if row.from_paper else cell.summary.n,
            "n_expected": None if row.from_paper else cell.n_expected,
            "p_value": cell.comparison.p_value if cell.comparison else None,
            "best": cell.comparison.is_best if cell.comparison else None,
            "bold": is_bold(cell),
            "uses_labels": column.uses_labels or row.uses_labels,
            "from_paper": row.from_paper,
            "status": cell.status,
        }
        for row in table.rows
        for column, cell in zip(table.columns, row.cells, strict=True)
    ]
    names = [*table.label_titles, "measure", "mean", "sd", "n", "n_expected", "p_value", "best", "bold"]
    return pd.DataFrame(records, columns=[*names, "uses_labels", "from_paper", "status"])


def to_markdown(table: Table) -> str:
    """Return a table in GitHub's Markdown, with title and notes."""
    header = [*table.label_titles, *(_title(column) for column in table.columns)]
    align = [":--"] * len(table.label_titles) + ["--:"] * len(table.columns)
    lines = [f"### {table.title}", "", _markdown_line(header), _markdown_line(align)]
    for row, labels in _with_repeats_left_out(table):
        cells = [_markdown_cell(cell, column) for column, cell in zip(table.columns, row.cells, strict=True)]
        lines.append(_markdown_line([*(escape_markdown(label) for label in labels), *cells]))
    lines += ["", *(f"{escape_markdown(note)}  " for note in table.notes)]
    return "\n".join(lines) + "\n"


def to_latex(table: Table) -> str:
    """Return a table for LaTeX, a ``table`` that needs the packages booktabs and graphicx."""
    n_labels = len(table.label_titles)
    header = [
        *map(escape_latex, table.label_titles),
        *(escape_latex(_title(column)) for column in table.columns),
    ]
    body = []
    before = None
    for row, labels in _with_repeats_left_out(table):
        if before is not None and row.labels[0] != before:
            body.append(r"\midrule")
        before = row.labels[0]
        cells = [_latex_cell(cell, column) for column, cell in zip(table.columns, row.cells, strict=True)]
        body.append(" & ".join([*map(escape_latex, labels), *cells]) + r" \\")
    tabular = [
        rf"\begin{{tabular}}{{{'l' * n_labels}{'r' * len(table.columns)}}}",
        r"\toprule",
        " & ".join(header) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    if len(table.columns) > WIDE_TABLE:
        tabular = [r"\resizebox{\textwidth}{!}{%", *tabular[:-1], tabular[-1] + "%", "}"]
    notes = " ".join(escape_latex(note) for note in table.notes)
    return (
        "\n".join(
            [
                r"% needs \usepackage{booktabs,graphicx}",
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{escape_latex(table.title)}. {notes}}}",
                rf"\label{{tab:{table.name.replace('_', '-')}}}",
                *tabular,
                r"\end{table}",
            ]
        )
        + "\n"
    )


def write_csv(table: Table, path: Path) -> None:
    """Write :func:`to_tidy` as CSV."""
    write_bytes(path, to_tidy(table).to_csv(index=False).encode())


def write_markdown(table: Table, path: Path) -> None:
    """Write :func:`to_markdown`."""
    write_bytes(path, to_markdown(table).encode())


def write_latex(table: Table, path: Path) -> None:
    """Write :func:`to_latex`."""
    write_bytes(path, to_latex(table).encode())


WRITERS: Mapping[str, Callable[[Table, Path], None]] = MappingProxyType(
    {"csv": write_csv, "md": write_markdown, "tex": write_latex}
)
"""By format, which is the suffix of the file as well."""


def _title(column: Column) -> str:
    return column.title + (f" {DAGGER}" if column.uses_labels else "")


def _with_repeats_left_out(table: Table) -> Iterator[tuple[Row, list[str]]]:
    """Rows with their labels; those that the line above has as well are empty, rows with labels marked."""
    before: tuple[str, ...] = ()
    for row in table.rows:
        labels = list(row.labels)
        for i, label in enumerate(row.labels[:-1]):
            if i >= len(before) or before[i] != label:
                break
            labels[i] = ""
        if row.uses_labels:
            labels[-1] += f" {DAGGER}"
        before = row.labels
        yield row, labels


def _markdown_line(entries: list[str]) -> str:
    return "| " + " | ".join(entries) + " |"


def escape_markdown(text: str) -> str:
    """Return text that Markdown shows as it is."""
    for character in "\\|*_`<":
        text = text.replace(character, f"\\{character}")
    return text


def _markdown_cell(cell: Cell, column: Column) -> str:
    text = cell_text(cell, column)
    return f"**{text}**" if is_bold(cell) else text


LATEX_CHARACTERS: Mapping[str, str] = MappingProxyType(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "±": r"$\pm$",
        "≥": r"$\geq$",
        "†": r"\textdagger{}",
        "–": "--",
        "“": "``",
        "”": "''",
    }
)


def escape_latex(text: str) -> str:
    """Return text that LaTeX prints as it is."""
    return "".join(LATEX_CHARACTERS.get(character, character) for character in text)


def _latex_cell(cell: Cell, column: Column) -> str:
    text = re.sub(r"^-(?=\d)", "$-$", escape_latex(cell_text(cell, column)))
    # ± is mathematics, which \textbf leaves as it is; digits are what shows
    return rf"\textbf{{{text}}}" if is_bold(cell) else text
