from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from vmmscvi.benchmark import _schema, report
from vmmscvi.benchmark._report_data import read_results

TABLES = {"table3_clustering", "table4_integration", "clusterings", "clusters_against_types", "stability"}
TABLES |= {"time_and_memory", "missing"}


@pytest.fixture
def results(small_results: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_results, tmp_path / "results"))


@pytest.fixture(scope="module")
def written(small_results: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return report(small_results, tmp_path_factory.mktemp("report"))


def test_every_table_in_every_format_and_every_figure(written: list[Path]) -> None:
    assert all(path.stat().st_size > 0 for path in written)
    for suffix in (".csv", ".md", ".tex"):
        assert {
            path.stem for path in written if path.suffix == suffix and path.parent.name == "tables"
        } == TABLES
    figures = {"clusterings_nmi", "clusterings_ari", "clusters_found", "embedding_two_batches"}
    figures |= {"embedding_one_batch", "centers_two_batches_vmm", "centers_one_batch_vmm"}
    assert {path.stem for path in written if path.suffix == ".png"} == figures
    assert {path.stem for path in written if path.suffix == ".pdf"} == figures


def test_images_are_what_their_suffix_says(written: list[Path]) -> None:
    starts = {".png": b"\x89PNG", ".pdf": b"%PDF"}
    for path in written:
        if path.suffix in starts:
            assert path.read_bytes().startswith(starts[path.suffix])


def test_the_summary_has_tables_figures_and_versions(written: list[Path]) -> None:
    (summary,) = [path for path in written if path.name == "report.md"]
    text = summary.read_text()
    assert text.count("### ") == len(TABLES)
    assert "![embedding_two_batches](figures/embedding_two_batches.png)" in text
    assert "vmmscvi " in text
    assert "| two\\_batches | 80 | 40 | 2 | 3 |" in text


def test_failed_and_missing_cells_are_listed_with_their_reason(written: list[Path]) -> None:
    (missing,) = [path for path in written if path.name == "missing.csv"]
    table = pd.read_csv(missing).set_index(["Dataset", "Method", "Seed"]).sort_index()
    assert table.loc[("two_batches", "PCA", 1), "Status"] == "failed"
    assert table.loc[("two_batches", "PCA", 1), "Error"] == "ValueError: out of luck"
    assert set(table.loc["never_run", "Status"]) == {"not run"}
    assert len(table) == 1 + 4


def test_means_are_those_of_the_table_of_results(written: list[Path], small_results: Path) -> None:
    scores = pd.read_csv(small_results / "results.csv", keep_default_na=False)
    expected = scores.query(
        "dataset == 'two_batches' and method == 'VMM' and clustering == 'own' and measure == 'ari'"
    )
    (file,) = [path for path in written if path.name == "clusterings.csv"]
    table = pd.read_csv(file)
    row = table[
        table["Dataset"].str.startswith("two_batches")
        & (table["Method"] == "VMM")
        & (table["Clustering"] == "own clusters")
        & (table["measure"] == "ARI")
    ].iloc[0]
    values = expected["value"].astype(float)
    assert row["mean"] == pytest.approx(values.mean())
    assert row["sd"] == pytest.approx(values.std(ddof=1))
    assert row["n"] == 2


def test_only_what_is_asked_for_is_written(results: Path, tmp_path: Path) -> None:
    files = report(results, tmp_path / "out", formats=("csv",))
    assert {path.suffix for path in files} == {".csv"}
    assert {path for path in (tmp_path / "out").rglob("*") if path.is_file()} == set(files)


def test_only_datasets_and_methods_that_are_asked_for_are_in_it(results: Path, tmp_path: Path) -> None:
    written = report(
        results, tmp_path / "report", formats=("csv", "png"), datasets=["two_batches"], methods=["VMM"]
    )
    names = {path.stem for path in written}
    assert {"embedding_two_batches", "centers_two_batches_vmm", "time_and_memory"} <= names
    assert not any("one_batch" in name for name in names)
    costs = pd.read_csv(next(path for path in written if path.stem == "time_and_memory"))
    assert costs["Dataset"].str.startswith("two_batches").all() and set(costs["Method"]) == {"VMM"}


@pytest.mark.parametrize("argument", ["datasets", "methods"])
def test_an_unknown_dataset_or_method_is_named(results: Path, argument: str) -> None:
    with pytest.raises(ValueError, match=rf"{argument} must be of .*; found \['nonsense'\]"):
        report(results, **{argument: ["nonsense"]})  # type: ignore[arg-type]
    assert not (results / "report").exists()


def test_the_report_is_in_the_folder_of_results_by_default(results: Path) -> None:
    files = report(results, formats="md")
    assert all(path.is_relative_to(results / "report") for path in files)


def test_it_can_be_made_without_any_finished_cell(results: Path) -> None:
    shutil.rmtree(results / _schema.CELLS_FOLDER)
    (missing,) = [path for path in report(results, formats=("csv",)) if path.stem == "missing"]
    assert set(pd.read_csv(missing)["Status"]) == {"not run"}


def test_order_is_that_of_the_configuration(small_results: Path) -> None:
    data = read_results(small_results)
    assert data.datasets == ["two_batches", "one_batch", "never_run"]
    assert data.methods("one_batch") == ["VMM", "PCA"]


def test_cells_on_disk_that_the_configuration_does_not_name_are_kept(results: Path) -> None:
    config = results / _schema.CONFIG_FILE
    config.write_text(config.read_text().replace("name: one_batch", "name: renamed"))
    data = read_results(results)
    assert {run.status for run in data.of("one_batch", "VMM")} == {"done"}
    assert {run.status for run in data.of("renamed", "VMM")} == {"not run"}


def test_wrong_arguments_are_named(results: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`formats` has \['svg'\]; expected some of"):
        report(results, formats=("svg",))
    with pytest.raises(ValueError, match=r"`results` is .*; expected a folder"):
        report(tmp_path / "none")
    with pytest.raises(ValueError, match="`reference` is"):
        report(results, reference=tmp_path)
