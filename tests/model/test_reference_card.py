"""A reference that is handed on: a folder from which a query is mapped without the reference's data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vmmscvi import SCVI_VMM
from vmmscvi.data import simulate_counts

Make = Callable[..., SCVI_VMM]


@pytest.fixture
def reference(make_model: Make) -> SCVI_VMM:
    model = make_model()
    model.train(max_epochs=4, batch_size=32, lr=1e-2, accelerator="cpu", enable_progress_bar=False)
    model.rename_clusters({"0": "the first"})
    return model


def test_a_saved_reference_is_mapped_into_without_its_data(reference: SCVI_VMM, tmp_path: Path) -> None:
    reference.save_reference(tmp_path / "reference")
    assert {path.name for path in (tmp_path / "reference").iterdir()} == {"model.pt", "README.md"}
    query = simulate_counts(n_cells=100, n_genes=100, n_types=4, n_batches=1, seed=1)
    query.var_names, query.obs["batch"] = reference.adata.var_names, "new"
    model = SCVI_VMM.load_query_data(query, str(tmp_path / "reference"))
    model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    assert model.cluster_names_ == {"0": "the first"}
    np.testing.assert_array_equal(model.reference_cells_["z"], reference.reference_cells_["z"])
    assert model.get_mapping_report().n_cells == 100


def test_the_card_describes_the_reference(reference: SCVI_VMM) -> None:
    card = reference.reference_card()
    assert "SCVI_VMM.load_query_data(query" in card
    assert "batch0, batch1" in card and "Features (100)" in card and "and 80 more" in card
    assert "the first" in card and "- vmmscvi " in card
    weights = reference.get_cluster_weights()
    assert f"{weights['0']:.3f}" in card


def test_a_folder_that_exists_is_not_written_to_unasked(reference: SCVI_VMM, tmp_path: Path) -> None:
    reference.save_reference(tmp_path / "reference")
    with pytest.raises(ValueError, match="already exists"):
        reference.save_reference(tmp_path / "reference")
    reference.save_reference(tmp_path / "reference", overwrite=True)
