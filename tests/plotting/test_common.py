"""Requirements for every plot: axes, files, and unchanged data."""

from __future__ import annotations

import inspect

import anndata
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import vmmscvi
from vmmscvi.plotting._figure import styled
from vmmscvi.priors import ClusterTree

pl = vmmscvi.pl


def tree_of_cells() -> ClusterTree:
    cells = pd.Series(pd.Categorical(["0"] * 3 + ["1"] * 2))
    return ClusterTree(("0", "1"), ("0", "1"), np.array([[0, 1]]), np.array([50.0]), cells)


def tree_of(cells: anndata.AnnData) -> ClusterTree:
    merges, levels = np.array([[0, 1], [2, 3]]), np.array([500.0, 50.0])
    return ClusterTree(("10", "2", "7"), ("10", "2", "7"), merges, levels, cells.obs["vmm_cluster"])


PLOTS = {
    "embedding": lambda cells, generated, **kwargs: pl.embedding(cells, "vmm_cluster", **kwargs),
    "cluster_weights": lambda cells, generated, **kwargs: pl.cluster_weights(cells, **kwargs),
    "assignment_confidence": lambda cells, generated, **kwargs: pl.assignment_confidence(cells, **kwargs),
    "cluster_tree": lambda cells, generated, **kwargs: pl.cluster_tree(tree_of_cells(), **kwargs),
    "composition": lambda cells, generated, **kwargs: pl.composition(cells, "batch", **kwargs),
    "training_curve": lambda cells, generated, **kwargs: pl.training_curve(cells, **kwargs),
    "generated_cells": lambda cells, generated, **kwargs: pl.generated_cells(cells, generated, **kwargs),
    "generated_expression": lambda cells, generated, **kwargs: pl.generated_expression(
        cells, generated, **kwargs
    ),
}
FIGURES = {
    "embedding_panels": lambda cells, generated, **kwargs: pl.embedding_panels(
        cells, ["X_umap", "X_umap_normal"], ["batch", "vmm_cluster"], **kwargs
    ),
    "training_history": lambda cells, generated, **kwargs: pl.training_history(cells, **kwargs),
    "cluster_cuts": lambda cells, generated, **kwargs: pl.cluster_cuts(
        cells, [1, 3], tree=tree_of(cells), **kwargs
    ),
    "markers": lambda cells, generated, **kwargs: pl.markers(cells, {"2": ["0"], "7": ["1"]}, **kwargs),
}
WITHOUT_PALETTE = {"markers"}
"""Their colours are those of a scale."""
ALL = {**PLOTS, **FIGURES}


def test_every_public_plot_is_tested_here():
    functions = {name for name, value in vars(pl).items() if inspect.isfunction(value)}
    assert set(ALL) == functions - {"category_colors"}


@pytest.mark.parametrize("name", PLOTS)
def test_axes_that_are_given_are_drawn_on_and_returned(name, cells, generated):
    figure, axes = plt.subplots(1, 2)
    assert PLOTS[name](cells, generated, ax=axes[1]) is axes[1]
    assert axes[1].has_data() and not axes[0].has_data()
    assert len(plt.get_fignums()) == 1
    figure.canvas.draw()


@pytest.mark.parametrize("name", PLOTS)
def test_without_axes_a_figure_is_made(name, cells, generated):
    assert isinstance(PLOTS[name](cells, generated), Axes)
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize("name", FIGURES)
def test_functions_of_several_panels_return_a_figure(name, cells, generated):
    assert isinstance(FIGURES[name](cells, generated), Figure)


@pytest.mark.parametrize("name", ALL)
def test_a_path_gets_a_file_of_its_format(name, cells, generated, tmp_path):
    ALL[name](cells, generated, save=tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_formats_follow_the_suffix_and_unknown_ones_are_refused(cells, tmp_path):
    pl.cluster_weights(cells, save=str(tmp_path / "a.pdf"))
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(ValueError, match=r"`save` is '.*a\.xyz'; expected a name that ends in one of .*png"):
        pl.cluster_weights(cells, save=tmp_path / "a.xyz")


@pytest.fixture
def scanpy_settings():
    before = sc.settings.figdir, sc.settings.file_format_figs
    yield sc.settings
    sc.settings.figdir, sc.settings.file_format_figs = before


def test_true_saves_to_scanpys_folder(cells, tmp_path, scanpy_settings):
    scanpy_settings.figdir, scanpy_settings.file_format_figs = tmp_path / "figures", "svg"
    pl.composition(cells, "batch", save=True)
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["composition_batch.svg"]


@pytest.mark.parametrize("name", ALL)
def test_the_data_stay_as_they_are(name, cells, generated):
    before = cells.copy()
    ALL[name](cells, generated)
    pd.testing.assert_frame_equal(cells.obs, before.obs)
    assert set(cells.uns) == set(before.uns) and set(cells.obsm) == set(before.obsm)
    np.testing.assert_array_equal(cells.obsm["X_vmm"], before.obsm["X_vmm"])


@pytest.mark.parametrize("name", sorted(set(ALL) - WITHOUT_PALETTE))
def test_a_palette_is_taken(name, cells, generated):
    palettes = {
        "training_curve": {"training": "red", "validation": "blue"},
        "training_history": {"training": "red", "validation": "blue"},
    }
    ALL[name](cells, generated, palette=palettes.get(name, ["#ff0000", "#00ff00", "#0000ff", "#ff00ff"]))


def test_settings_of_matplotlib_are_left_alone(cells):
    before = dict(plt.rcParams)
    pl.embedding(cells, "batch")
    assert dict(plt.rcParams) == before


def test_a_backend_that_the_first_figure_makes_interactive_stays_so(monkeypatch):
    monkeypatch.setitem(mpl.rcParams, "interactive", False)
    styled(plt.ion)()  # what the backend of notebooks does when it is loaded
    assert plt.isinteractive()


def test_plots_work_after_a_round_trip_through_a_file(cells, generated, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    read = anndata.read_h5ad(tmp_path / "cells.h5ad")
    for plot in ALL.values():
        plot(read, generated)


def test_axes_of_a_subfigure_are_saved_with_the_whole_figure(cells, tmp_path):
    left, _ = plt.figure(figsize=(6, 3)).subfigures(1, 2)
    pl.embedding(cells, "vmm_cluster_probability", ax=left.subplots(), save=tmp_path / "a.png")
    assert plt.imread(tmp_path / "a.png").shape[1] > 100
