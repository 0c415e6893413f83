from __future__ import annotations

import re
import string
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vmmscvi.benchmark import _schema
from vmmscvi.benchmark._report_data import ReportData, Run
from vmmscvi.benchmark._statistics import Comparison, Summary
from vmmscvi.benchmark._tables import (
    Cell,
    Column,
    Row,
    RowKey,
    Table,
    cell_text,
    is_bold,
    measured_rows,
    paper_cell,
)
from vmmscvi.benchmark._tables_content import (
    clustering_table,
    clusterings_table,
    integration_table,
    numbers_table,
)
from vmmscvi.benchmark._tables_write import escape_latex, to_latex, to_markdown, to_tidy

SEEDS = range(4)
NMI = {"VMM": [0.80, 0.82, 0.79, 0.84], "GMM": [0.70, 0.73, 0.69, 0.74], "N(0, I)": []}
METHODS = tuple(NMI)


def rows_of(method: str, clustering: str, measure: str, values: list[float]) -> list[dict[str, object]]:
    return [
        {
            _schema.DATASET: "cortex",
            _schema.METHOD: method,
            _schema.SEED: seed,
            _schema.CLUSTERING: clustering,
            _schema.MEASURE: measure,
            _schema.VALUE: value,
            _schema.USES_LABELS: clustering in _schema.LABEL_CLUSTERINGS,
        }
        for seed, value in zip(SEEDS, values, strict=False)
    ]


def make_data(rows: list[dict[str, object]], status: dict[tuple[str, int], str] | None = None) -> ReportData:
    runs = tuple(
        Run("cortex", method, seed, (status or {}).get((method, seed), "done"), Path("none"))
        for method in METHODS
        for seed in SEEDS
    )
    scores = pd.DataFrame(rows, columns=list(_schema.COLUMNS))
    sizes = {"cortex": {"n_obs": 100, "n_vars": 50, "n_batches": 1, "n_types": 7}}
    return ReportData(scores, runs, sizes)


@pytest.fixture
def rows() -> list[dict[str, object]]:
    found = []
    for method, values in NMI.items():
        found += rows_of(method, "own", "nmi", values)
        found += rows_of(method, "own", "n_clusters", [14.0] * len(values))
        found += rows_of(method, "own_merged", "accuracy", values)
        found += rows_of(method, "leiden_best", "nmi", [0.95] * 4)
        found += rows_of(method, "leiden_best", "n_clusters", [7.0] * 4)
    return found


@pytest.fixture
def data(rows: list[dict[str, object]]) -> ReportData:
    return make_data(rows)


def cell_of(table: Table, method: str, title: str) -> Cell:
    column = [column.title for column in table.columns].index(title)
    (row,) = [row for row in table.rows if method in row.labels]
    return row.cells[column]


class TestText:
    column = Column("NMI", "nmi", digits=2)

    @pytest.mark.parametrize(
        ("cell", "text"),
        [
            (Cell(Summary(0.714, 0.0251, 5), 5), "0.71 ± 0.03"),
            (Cell(Summary(0.714, float("nan"), 1), 1), "0.71"),
            (Cell(Summary(0.714, 0.0251, 3), 5), "0.71 ± 0.03 (3 of 5)"),
            (Cell(status="failed"), "failed"),
        ],
    )
    def test_mean_spread_and_what_is_missing(self, cell: Cell, text: str) -> None:
        assert cell_text(cell, self.column) == text

    def test_numbers_of_the_paper(self) -> None:
        assert cell_text(paper_cell("12.4±1.90"), self.column) == "12.40 ± 1.90"
        assert cell_text(paper_cell("0.7337"), self.column) == "0.73"
        assert cell_text(paper_cell(float("nan")), self.column) == "–"

    def test_bold_is_the_best_and_what_is_not_told_apart(self) -> None:
        assert is_bold(Cell(comparison=Comparison(True, 5, float("nan"))))
        assert is_bold(Cell(comparison=Comparison(False, 5, 0.05)))
        assert not is_bold(Cell(comparison=Comparison(False, 5, 0.049)))
        assert not is_bold(Cell(comparison=Comparison(False, 1, float("nan"))))
        assert not is_bold(Cell())


class TestContent:
    def test_scores_are_means_over_seeds_tested_in_pairs(self, data: ReportData) -> None:
        table = clustering_table(data)
        vmm, gmm = cell_of(table, "VMM", "NMI"), cell_of(table, "GMM", "NMI")
        assert vmm.summary.mean == pytest.approx(np.mean(NMI["VMM"]))
        assert vmm.summary.sd == pytest.approx(np.std(NMI["VMM"], ddof=1))
        assert gmm.comparison is not None
        assert gmm.comparison.p_value == pytest.approx(stats.ttest_rel(NMI["GMM"], NMI["VMM"]).pvalue)
        assert is_bold(vmm) and not is_bold(gmm)

    def test_a_prior_without_clusters_of_its_own_has_no_row(self, data: ReportData) -> None:
        assert not [row for row in clustering_table(data).rows if "N(0, I)" in row.labels]

    @pytest.mark.parametrize("status", ["failed", "not run", "unfinished", "skipped"])
    def test_a_method_without_scores_is_shown_with_the_reason(
        self, rows: list[dict[str, object]], status: str
    ) -> None:
        rows = [row for row in rows if row[_schema.METHOD] != "GMM"]
        data = make_data(rows, {("GMM", seed): status for seed in SEEDS})
        for table in (
            clustering_table(data),
            integration_table(data),
            clusterings_table(data),
            numbers_table(data),
        ):
            found = [row for row in table.rows if "GMM" in row.labels]
            assert found, table.name
            assert {cell.status for row in found for cell in row.cells} == {status}

    def test_a_failed_seed_is_counted_not_hidden(self, rows: list[dict[str, object]]) -> None:
        rows = [row for row in rows if (row[_schema.METHOD], row[_schema.SEED]) != ("GMM", 2)]
        table = clustering_table(make_data(rows, {("GMM", 2): "failed"}))
        assert "(3 of 4)" in cell_text(cell_of(table, "GMM", "NMI"), Column("NMI", "nmi"))
        gmm = cell_of(table, "GMM", "NMI")
        assert gmm.comparison is not None
        assert gmm.comparison.n_pairs == 3

    def test_rows_that_used_labels_are_marked_and_do_not_win(self, data: ReportData) -> None:
        table = clusterings_table(data)
        by_labels = [row for row in table.rows if "Leiden, best resolution" in row.labels]
        assert len(by_labels) == 3
        assert not any(is_bold(cell) for row in by_labels for cell in row.cells)
        own = next(row for row in table.rows if row.labels[1:] == ("VMM", "own clusters"))
        assert is_bold(own.cells[1])  # 0.81, although Leiden with labels has 0.95
        markdown = to_markdown(table)
        assert markdown.count("Leiden, best resolution †") == 3

    def test_merged_columns_are_marked(self, data: ReportData) -> None:
        assert "NMI, merged †" in to_markdown(clustering_table(data))

    def test_ratio_of_found_to_annotated(self, data: ReportData) -> None:
        assert cell_of(numbers_table(data), "VMM", "Found / annotated").summary.mean == pytest.approx(2.0)

    def test_a_method_alone_is_no_winner(self, rows: list[dict[str, object]]) -> None:
        data = make_data([row for row in rows if row[_schema.METHOD] == "VMM"])
        keys = [RowKey("VMM", ("VMM",), "own")]
        (row,) = measured_rows(data, "cortex", keys, [Column("NMI", "nmi")])
        assert not is_bold(row.cells[0])

    def test_low_is_good_for_time(self, rows: list[dict[str, object]]) -> None:
        rows += rows_of("VMM", "", "train_seconds", [9.0, 9.1, 9.2, 9.3])
        rows += rows_of("GMM", "", "train_seconds", [5.0, 5.1, 5.3, 5.4])
        keys = [RowKey(method, (method,)) for method in METHODS]
        column = Column("s", "train_seconds", "", higher_is_better=False)
        vmm, gmm, _ = measured_rows(make_data(rows), "cortex", keys, [column])
        assert is_bold(gmm.cells[0]) and not is_bold(vmm.cells[0])


class TestReference:
    @pytest.fixture
    def reference(self, tmp_path: Path) -> Path:
        (tmp_path / "table3_x.csv").write_text(
            "dataset,donors,cell_types,prior,utilized_clusters,accuracy,nmi_merged,nmi_unmerged\n"
            "Cortex,1,7,VMM,15.9±2.23,0.815±0.04,0.669±0.02,0.657±0.03\n"
            "lung atlas,16,17,GMM,11.8±3.08,0.403±0.10,0.551±0.05,0.559±0.04\n"
        )
        header = (
            "dataset,model,prior,batch_correction,bio_conservation,total,graph_connectivity,kbet,pcr_comparison,"
            "silhouette_batch,ilisi,isolated_labels,kmeans_ari,kmeans_nmi,silhouette_label,clisi\n"
        )
        (tmp_path / "table4_x.csv").write_text(
            header + 'cortex,scVI tools,"N(0,I)",,0.6712,,,,,,,0.5669,0.6015,0.5857,0.6066,0.9953\n'
        )
        return tmp_path

    def test_the_papers_rows_stand_below_ours_and_others_at_the_end(
        self, data: ReportData, reference: Path
    ) -> None:
        rows = clustering_table(data, reference).rows
        assert [row.labels[-1] for row in rows] == ["VMM", "GMM", "paper: VMM", "paper: GMM"]
        assert [row.from_paper for row in rows] == [False, False, True, True]
        assert rows[2].cells[0].summary.mean == 15.9
        assert rows[2].cells[5].status == "–"  # the paper has no AMI by this name

    def test_every_column_of_the_paper_has_its_place(self, data: ReportData, reference: Path) -> None:
        table = integration_table(data, reference)
        (row,) = [row for row in table.rows if row.from_paper]
        assert row.labels[-1] == "paper: scVI tools, N(0, I)"
        found = {
            column.title: cell.summary.mean for column, cell in zip(table.columns, row.cells, strict=True)
        }
        present = {name: value for name, value in found.items() if np.isfinite(value)}
        assert present == {
            "Bio conservation": 0.6712,
            "Isolated labels": 0.5669,
            "KMeans ARI": 0.6015,
            "KMeans NMI": 0.5857,
            "Silhouette label": 0.6066,
            "cLISI": 0.9953,
        }
        assert "Silhouette batch" in found

    def test_a_folder_without_tables_is_refused(self, data: ReportData, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"expected a folder with a file table3\*\.csv"):
            clustering_table(data, tmp_path)


AWKWARD = r"50% of A&B_c #1 $x^2$ {~} \ <a|b> ± ≥ †"


@pytest.fixture
def awkward() -> Table:
    columns = (Column("NMI_%", "nmi"), Column("merged", "nmi", uses_labels=True))
    cells = (Cell(Summary(0.5, 0.1, 3), 3, Comparison(True, 3, float("nan"))), Cell(status="failed"))
    rows = (Row(("set_1", AWKWARD), cells), Row(("set_1", "other"), cells), Row(("set_2", "other"), cells))
    return Table("a_table", "100% & more", ("Dataset", "Method"), columns, rows, ("note_1",))


class TestLatex:
    def test_everything_special_is_escaped(self) -> None:
        escaped = escape_latex(AWKWARD)
        plain = re.sub(r"\\text\w+\{\}|\\[&%$#_{}]|\$\\(pm|geq)\$", "", escaped)
        assert not set(plain) & set("\\&%$#_{}~^<>|")
        assert plain.isascii()

    def test_every_printable_character_of_ascii_survives(self) -> None:
        names = {r"\textbackslash{}": "\\", r"\textasciitilde{}": "~", r"\textasciicircum{}": "^"}
        names |= {r"\textless{}": "<", r"\textgreater{}": ">", r"\textbar{}": "|"}
        text = escape_latex(string.printable)
        for name, character in names.items():
            text = text.replace(name, f"\0{ord(character)}\0")
        text = re.sub(r"\\([&%$#_{}])", r"\1", text)
        assert re.sub(r"\0(\d+)\0", lambda match: chr(int(match[1])), text) == string.printable

    def test_braces_environments_and_columns_are_balanced(self, awkward: Table) -> None:
        latex = to_latex(awkward)
        bare = re.sub(r"\\[{}]", "", latex)
        assert bare.count("{") == bare.count("}")
        begun = re.findall(r"\\begin\{(\w+)\}", latex)
        assert begun == re.findall(r"\\end\{(\w+)\}", latex)[::-1] == ["table", "tabular"]
        lines = [line for line in latex.splitlines() if line.endswith(r"\\")]
        assert len(lines) == 4
        assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {3}
        assert r"\begin{tabular}{llrr}" in latex

    def test_wide_tables_are_fitted_to_the_page(self, data: ReportData) -> None:
        latex = to_latex(integration_table(data))
        bare = re.sub(r"\\[{}]", "", latex)
        assert r"\resizebox{\textwidth}" in latex
        assert bare.count("{") == bare.count("}")

    def test_negative_numbers_have_a_minus_sign(self) -> None:
        column = Column("ELBO", "elbo_validation", digits=1)
        row = Row(("VMM",), (Cell(Summary(-221.5, 2.0, 2), 2),))
        assert r"$-$221.5 $\pm$ 2.0" in to_latex(Table("t", "t", ("Method",), (column,), (row,)))

    def test_bold_and_marks(self, awkward: Table) -> None:
        latex = to_latex(awkward)
        assert r"\textbf{0.500 $\pm$ 0.100}" in latex
        assert r"merged \textdagger{}" in latex
        assert latex.count(r"\midrule") == 2  # below the header, and between datasets


class TestMarkdown:
    def test_every_line_has_as_many_columns(self, awkward: Table) -> None:
        lines = [line for line in to_markdown(awkward).splitlines() if line.startswith("|")]
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {5}

    def test_what_repeats_is_left_out(self, awkward: Table) -> None:
        assert to_markdown(awkward).count("set\\_1") == 1

    def test_bold(self, awkward: Table) -> None:
        assert "**0.500 ± 0.100**" in to_markdown(awkward)


class TestTidy:
    def test_one_row_for_each_number(self, awkward: Table) -> None:
        tidy = to_tidy(awkward)
        assert len(tidy) == 6
        assert list(tidy["uses_labels"]) == [False, True] * 3
        assert tidy.loc[0, "mean"] == 0.5 and tidy.loc[1, "status"] == "failed"
        assert bool(tidy.loc[0, "best"]) and bool(tidy.loc[0, "bold"])
