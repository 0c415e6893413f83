"""scvi-tools' data module for annbatch: a model is trained, and used, as with cells in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scvi
import torch
from anndata import AnnData
from sklearn.metrics import adjusted_rand_score

from vmmscvi import PEAKVI_VMM, POISSONVI_VMM, SCVI_VMM, LinearSCVI_VMM
from vmmscvi.data import simulate_counts

pytest.importorskip("annbatch", reason="annbatch is not installed")
if not hasattr(SCVI_VMM, "setup_annbatch"):
    pytest.skip("this scvi-tools has no `setup_annbatch`", allow_module_level=True)

SHARDS = {"batch_size": 64, "chunk_size": 32, "preload_nchunks": 8, "preload_to_gpu": False}
TRAINING = {"batch_size": 64, "enable_progress_bar": False, "accelerator": "cpu"}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Loading has threads of its own."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cells() -> AnnData:
    return simulate_counts(n_cells=600, n_genes=200, n_types=4, n_batches=2, seed=0)


@pytest.fixture
def setup_annbatch(cells: AnnData, tmp_path: Path) -> Callable[..., Any]:
    def setup(model_class: Any, **options: Any) -> Any:
        path = tmp_path / "counts.h5ad"
        cells.write_h5ad(path)
        return model_class.setup_annbatch(
            collection_path=str(tmp_path / "store.zarr"),
            paths=[str(path)],
            batch_key="batch",
            **SHARDS,
            **options,
        )

    return setup


def in_memory(model: Any, datamodule: Any, cells: AnnData, folder: Path) -> Any:
    """The same model, of cells in memory."""
    type(model).setup_anndata(cells, batch_key="batch")
    model.save(folder, datamodule=datamodule)
    return type(model).load(folder, adata=cells)


def test_clusters_of_cells_on_disk_are_the_types(
    cells: AnnData, setup_annbatch: Callable[..., Any], tmp_path: Path
) -> None:
    scvi.settings.seed = 0
    datamodule = setup_annbatch(SCVI_VMM, shuffle=True)
    model = SCVI_VMM(registry=datamodule.registry, n_hidden=32, n_latent=5)
    model.train(datamodule=datamodule, max_epochs=60, **TRAINING)
    clusters = in_memory(model, datamodule, cells, tmp_path / "model").predict()
    assert adjusted_rand_score(cells.obs["cell_type"], clusters) > 0.95
    validation = model.history["elbo_validation"].to_numpy(float)
    assert np.isfinite(validation).all() and datamodule.n_val == 60, "early stopping has cells to look at"


@pytest.mark.parametrize("model_class", [SCVI_VMM, LinearSCVI_VMM, PEAKVI_VMM, POISSONVI_VMM])
def test_results_of_cells_on_disk_are_those_of_cells_in_memory(
    cells: AnnData, setup_annbatch: Callable[..., Any], tmp_path: Path, model_class: Any
) -> None:
    datamodule = setup_annbatch(model_class)  # in the order of the file
    model = model_class(registry=datamodule.registry, n_hidden=16, n_latent=4)
    model.train(datamodule=datamodule, max_epochs=4, **TRAINING)
    loaded, loader = in_memory(model, datamodule, cells, tmp_path / "model"), datamodule.inference_dataloader
    np.testing.assert_allclose(
        model.get_latent_representation(dataloader=loader()),
        loaded.get_latent_representation(),
        rtol=1e-4,
        atol=1e-5,
    )
    np.testing.assert_array_equal(model.predict(dataloader=loader()), loaded.predict())
