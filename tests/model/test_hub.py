"""Models that travel: through the HuggingFace hub's folders, and between devices."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pytest
import torch
from pandas.testing import assert_series_equal

from vmmscvi import SCVI_VMM

Trained = Callable[..., SCVI_VMM]


@pytest.mark.parametrize("prior", ["vmm", "gmm"])
def test_a_hub_model_is_saved_to_and_loaded_from_a_folder(
    trained: Trained, tmp_path: Path, prior: str
) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")
    pytest.importorskip("requests", reason="scvi-tools' hub needs requests")
    from scvi.hub import HubMetadata, HubModel

    model, folder = trained(prior), str(tmp_path / "model")
    model.save(folder, save_anndata=True)
    metadata = HubMetadata.from_dir(
        folder, anndata_version=anndata.__version__, model_parent_module="vmmscvi"
    )
    # scvi-tools writes cards for models that it knows only
    HubModel(folder, metadata=metadata, model_card=hub.ModelCard("# Clusters of simulated cells")).save()
    loaded = HubModel(folder)
    assert type(loaded.model) is SCVI_VMM
    assert_series_equal(loaded.model.predict(), model.predict())
    assert_series_equal(loaded.model.get_cluster_weights(), model.get_cluster_weights(), check_exact=True)
    assert loaded.adata.shape == (300, 100)
    assert "Clusters of simulated cells" in str(loaded.model_card)


def test_a_saved_model_is_a_pickle_and_its_weights_alone_are_not(trained: Trained, tmp_path: Path) -> None:
    model = trained()
    model.save(tmp_path / "model")
    with pytest.raises(pickle.UnpicklingError):  # what the documentation warns of
        torch.load(tmp_path / "model" / "model.pt", weights_only=True)
    torch.save(model.module.state_dict(), tmp_path / "weights.pt")
    weights = torch.load(tmp_path / "weights.pt", weights_only=True)
    assert weights.keys() == model.module.state_dict().keys()


def test_a_model_is_loaded_onto_the_cpu(trained: Trained, tmp_path: Path) -> None:
    model = trained()
    model.save(tmp_path / "model")
    loaded = SCVI_VMM.load(tmp_path / "model", adata=model.adata, accelerator="cpu", device="auto")
    assert loaded.device.type == "cpu"
    loaded.to_device("cpu")
    np.testing.assert_array_equal(loaded.get_cluster_probabilities(), model.get_cluster_probabilities())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_model_travels_to_a_gpu_and_back(trained: Trained, tmp_path: Path) -> None:
    model = trained()
    expected = model.get_cluster_probabilities()
    model.save(tmp_path / "model")
    on_gpu = SCVI_VMM.load(tmp_path / "model", adata=model.adata, accelerator="gpu", device=0)
    np.testing.assert_allclose(on_gpu.get_cluster_probabilities(), expected, atol=1e-4)
    on_gpu.save(tmp_path / "again")
    back = SCVI_VMM.load(tmp_path / "again", adata=model.adata, accelerator="cpu")
    np.testing.assert_allclose(back.get_cluster_probabilities(), expected, atol=1e-6)
