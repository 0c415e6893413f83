"""Generated cells are drawn in the plane of the real ones, which they do not move."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA

from vmmscvi.plotting import generated_cells, generated_expression
from vmmscvi.plotting._palette import MISSING_COLOR


def test_real_cells_lie_where_principal_components_put_them_whatever_was_generated(cells, generated):
    expected = PCA(n_components=2).fit_transform(cells.obsm["X_vmm"])
    for made in (generated, generated[:5].copy()):
        real, _ = generated_cells(cells, made).collections
        points = np.asarray(real.get_offsets())
        np.testing.assert_allclose(np.abs(points), np.abs(expected), atol=1e-9)


def test_in_two_dimensions_distances_between_real_and_generated_are_kept(cells, generated):
    for data in (cells, generated):
        data.obsm["X_vmm"] = data.obsm["X_vmm"][:, :2]
    real, drawn = (np.asarray(c.get_offsets()) for c in generated_cells(cells, generated).collections)
    np.testing.assert_allclose(
        cdist(real, drawn), cdist(cells.obsm["X_vmm"], generated.obsm["X_vmm"]), atol=1e-9
    )


def test_real_cells_are_grey_and_generated_ones_coloured_by_component(cells, generated):
    palette = {"2": "#ff0000", "7": "#00ff00", "10": "#0000ff"}
    ax = generated_cells(cells, generated, palette=palette)
    real, drawn = ax.collections
    assert {to_hex(c) for c in real.get_facecolors()} == {MISSING_COLOR}
    assert [to_hex(c) for c in drawn.get_facecolors()] == [palette[n] for n in generated.obs["component"]]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["real", "2", "7", "10"]


def test_without_components_all_generated_cells_have_one_colour(cells, generated):
    del generated.obs["component"]
    _, drawn = generated_cells(cells, generated, color=None).collections
    assert len({to_hex(c) for c in drawn.get_facecolors()}) == 1
    with pytest.raises(ValueError, match="`color` is 'component'"):
        generated_cells(cells, generated)


def test_positions_of_another_model_are_refused(cells, generated):
    generated.obsm["X_vmm"] = generated.obsm["X_vmm"][:, :3]
    with pytest.raises(ValueError, match="5 dimensions in `adata` and 3 in `generated`"):
        generated_cells(cells, generated)


def test_equal_cells_lie_on_the_diagonal(cells):
    ax = generated_expression(cells, cells.copy())
    points = np.asarray(ax.collections[0].get_offsets())
    np.testing.assert_allclose(points[:, 0], points[:, 1])
    np.testing.assert_allclose(np.sort(points[:, 0]), np.sort(np.asarray(cells.X.mean(axis=0)).ravel()))
    assert ax.get_title() == "20 genes, r = 1.000"
    assert ax.get_xlim() == ax.get_ylim()


def test_genes_are_matched_by_name(cells):
    shuffled = cells[:, ::-1].copy()[:, :15].copy()
    ax = generated_expression(cells, shuffled)
    points = np.asarray(ax.collections[0].get_offsets())
    assert len(points) == 15
    np.testing.assert_allclose(points[:, 0], points[:, 1])


def test_counts_may_be_in_a_layer(cells):
    cells.layers["counts"] = cells.X.copy()
    made = cells.copy()
    cells.X = cells.X * 0.0
    assert generated_expression(cells, made, layer="counts").get_title() == "20 genes, r = 1.000"
    with pytest.raises(ValueError, match=r"`layer` is 'nope'; expected one of `adata.layers`: \['counts'\]"):
        generated_expression(cells, made, layer="nope")
    with pytest.raises(ValueError, match="share 20 genes, 0 of them with counts in both"):
        generated_expression(cells, made)


def test_cells_sampled_from_a_trained_model_can_be_drawn(trained):
    model = trained("vmm")
    adata = model.adata.copy()
    adata.obsm["X_vmm"] = model.get_latent_representation()
    sampled = model.sample_prior(50)
    real, drawn = generated_cells(adata, sampled).collections
    assert (len(real.get_offsets()), len(drawn.get_offsets())) == (adata.n_obs, 50)
    generated_expression(adata, sampled)
