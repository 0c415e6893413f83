from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from vmmscvi.benchmark import _figures_layout
from vmmscvi.benchmark._figures_centers import centers_figure, marker_genes
from vmmscvi.benchmark._figures_layout import LAYOUT_FILE, layout
from vmmscvi.benchmark._figures_panels import embedding_figure
from vmmscvi.benchmark._figures_summary import clusterings_figure, integration_figure, numbers_figure
from vmmscvi.benchmark._files import read_arrays, write_arrays
from vmmscvi.benchmark._report_data import ReportData, Run, read_results


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture
def data(small_results: Path) -> ReportData:
    return read_results(small_results)


class TestMarkerGenes:
    def test_each_cluster_gets_the_genes_that_are_high_in_it_alone(self) -> None:
        rng = np.random.default_rng(0)
        expression = rng.uniform(0.9, 1.1, (3, 30))
        for cluster in range(3):
            expression[cluster, 3 * cluster : 3 * cluster + 3] *= [8, 6, 4]
        expression = (expression / expression.sum(axis=1, keepdims=True)).astype(np.float32)
        found = [list(genes) for genes in marker_genes(expression, 3)]
        assert found == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]

    def test_no_gene_marks_two_clusters(self) -> None:
        expression = np.random.default_rng(1).dirichlet(np.full(50, 0.3), 5).astype(np.float32)
        genes = np.concatenate(marker_genes(expression, 4))
        assert len(set(genes)) == len(genes)

    def test_a_gene_that_is_nearly_absent_marks_nothing(self) -> None:
        expression = np.full((2, 10), 0.1, dtype=np.float32)
        expression[:, 0], expression[0, 0] = 1e-9, 1e-6  # a thousand times more of nothing
        expression[0, 1] = 0.2
        assert marker_genes(expression, 1)[0] == [1]

    def test_a_single_cluster_has_its_highest_genes(self) -> None:
        assert list(marker_genes(np.array([[0.1, 0.6, 0.3]], dtype=np.float32), 2)[0]) == [1, 2]


class TestLayout:
    @pytest.fixture
    def run(self, tmp_path: Path) -> Run:
        z = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
        z[20:] += 20
        write_arrays(tmp_path / "embedding.npz", {"z": z})
        return Run("data", "VMM", 0, "done", tmp_path)

    def test_groups_stay_apart(self, run: Run) -> None:
        xy, cells, kind = layout(run)
        assert xy.shape == (40, 2)
        assert list(cells) == list(range(40))
        assert kind in ("MDE", "UMAP")
        distances = np.linalg.norm(xy[:, None] - xy[None], axis=-1)
        np.fill_diagonal(distances, np.inf)
        nearest = distances.argmin(axis=1)
        assert ((nearest < 20) == (np.arange(40) < 20)).mean() > 0.95

    def test_is_kept_until_the_embedding_changes(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        first, _, _ = layout(run)
        stamp = (run.folder / LAYOUT_FILE).stat().st_mtime_ns
        second, _, _ = layout(run)
        np.testing.assert_array_equal(first, second)
        assert (run.folder / LAYOUT_FILE).stat().st_mtime_ns == stamp
        z = read_arrays(run.folder / "embedding.npz")["z"]
        write_arrays(run.folder / "embedding.npz", {"z": z[:35]})
        assert len(layout(run)[0]) == 35

    def test_large_sets_are_sampled(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_figures_layout, "MAX_CELLS", 30)
        xy, cells, _ = layout(run)
        assert len(xy) == len(set(cells)) == 30

    def test_mde_where_pymde_is_installed(self, run: Run) -> None:
        pytest.importorskip("pymde")
        xy, _, kind = layout(run)
        assert kind == "MDE"
        np.testing.assert_allclose(xy.T @ xy / len(xy), np.eye(2), atol=1e-3)  # standardised


class TestPanels:
    def test_rows_are_methods_and_columns_batch_type_and_cluster(self, data: ReportData) -> None:
        figure = embedding_figure(data, "two_batches")
        assert figure is not None
        axes = figure.axes
        assert len(axes) == 2 * 3
        assert [ax.get_title() for ax in axes[:2]] == ["Batch", "Annotated type"]
        assert axes[2].get_title().startswith("Own clusters")
        assert [ax.get_ylabel() for ax in axes[::3]] == ["VMM", "PCA"]
        assert "no clusters" in axes[5].texts[0].get_text()

    def test_a_single_batch_has_no_panel(self, data: ReportData) -> None:
        figure = embedding_figure(data, "one_batch")
        assert figure is not None
        assert len(figure.axes) == 2 * 2

    def test_without_finished_cells_there_is_none(self, data: ReportData) -> None:
        assert embedding_figure(data, "never_run") is None


class TestCenters:
    def test_clusters_are_rows_with_their_share_of_cells(self, data: ReportData) -> None:
        figure = centers_figure(data, "two_batches", "VMM")
        assert figure is not None
        heat, bars, *_ = figure.axes
        run = data.of("two_batches", "VMM")[0]
        clusters = read_arrays(run.folder / "embedding.npz")["clusters"]
        names = [label.get_text() for label in heat.get_yticklabels()]
        assert sorted(names) == sorted(set(clusters))
        shares = [patch.get_width() for patch in bars.patches]
        assert shares == pytest.approx([np.mean(clusters == name) for name in names])
        genes = [label.get_text() for label in heat.get_xticklabels()]
        assert set(genes) <= set(read_arrays(run.folder / "decoded.npz")["genes"])
        image = np.asarray(heat.images[0].get_array())
        assert image.shape == (len(names), len(genes))
        assert image.min() >= 0 and image.max() <= 1

    def test_a_method_without_clusters_has_none(self, data: ReportData) -> None:
        assert centers_figure(data, "two_batches", "PCA") is None


class TestSummaries:
    def test_every_score_is_a_point(self, data: ReportData) -> None:
        figure = clusterings_figure(data, "nmi", "NMI")
        assert figure is not None
        panel = next(ax for ax in figure.axes if ax.get_title() == "two_batches")
        drawn = np.sort(
            np.concatenate([np.asarray(points.get_offsets())[:, 0] for points in panel.collections])
        )
        table = data.scores.query("dataset == 'two_batches' and measure == 'nmi'")
        expected = table[table["clustering"].isin(["own", "leiden_1", "leiden_best"])]["value"]
        np.testing.assert_allclose(drawn, np.sort(expected), rtol=1e-6)

    def test_numbers_of_clusters_are_relative_to_types(self, data: ReportData) -> None:
        figure = numbers_figure(data)
        assert figure is not None
        drawn = np.concatenate(
            [np.asarray(points.get_offsets())[:, 0] for points in figure.axes[0].collections]
        )
        table = data.scores.query("clustering == 'own' and measure == 'n_clusters'")
        np.testing.assert_allclose(np.sort(drawn), np.sort(table["value"] / 3), rtol=1e-6)

    def test_without_scores_there_is_no_figure(self, data: ReportData) -> None:
        assert integration_figure(data) is None  # scib-metrics were not asked for
        assert clusterings_figure(data, "none", "none") is None
