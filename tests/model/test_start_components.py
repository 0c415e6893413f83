"""What components and pseudo-inputs start from: clusters of the embedding, whatever a cell comes with."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from lightning.pytorch import LightningDataModule
from lightning.pytorch.callbacks import Callback
from scvi.dataloaders import AnnDataLoader
from torch import Tensor

from vmmscvi import SCVI_VMM
from vmmscvi.module._encoder_inputs import SMALLEST_PROBABILITY, SMALLEST_VALUE

Make = Callable[..., SCVI_VMM]
Training = dict[str, Any]

COVARIATES = {
    "batch_key": "batch",
    "categorical_covariate_keys": ["donor", "phase"],
    "continuous_covariate_keys": ["stress"],
}
SETTINGS: dict[str, dict[str, Any]] = {
    "batch": {},
    "single batch": {"setup": {}},
    "covariates": {"setup": COVARIATES},
    "covariates, single batch": {"setup": {"categorical_covariate_keys": ["donor"]}},
    "batch embedding": {"batch_representation": "embedding"},
    "batch embedding, covariates": {"batch_representation": "embedding", "setup": COVARIATES},
    "encoder without covariates": {"encode_covariates": False, "setup": COVARIATES},
    "pseudo-inputs as counts": {"pseudo_input_space": "counts"},
    "latent library size": {"use_observed_lib_size": False},
    "counts as they are": {"log_variational": False},
    "size factors and labels": {
        "setup": {"batch_key": "batch", "size_factor_key": "size_factor", "labels_key": "cell_type"}
    },
    "maximum likelihood": {"inference": "MLE"},
    "one component": {"n_components": 1},
    "one dimension": {"n_latent": 1},
}


class KeepStart(Callback):
    """The module as it is when the first minibatch after the warm-up comes."""

    module: Any = None

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if pl_module.module.latent_prior.is_fitted and self.module is None:
            self.module = deepcopy(pl_module.module)


def encoder_inputs(
    module: Any, cells: AnnData, options: dict[str, Any]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """What scVI's encoder is given of cells: values, and one-hot categories."""
    setup = options.get("setup", {"batch_key": "batch"})
    counts = cells.X.toarray()
    values, categories = [np.log1p(counts) if options.get("log_variational", True) else counts], []
    if options.get("encode_covariates", True):
        values += [cells.obs[[name]].to_numpy() for name in setup.get("continuous_covariate_keys", ())]
        has_batches = "batch_key" in setup
        batches = (
            pd.get_dummies(cells.obs["batch"]).to_numpy(float) if has_batches else np.ones((len(cells), 1))
        )
        if options.get("batch_representation") == "embedding":
            values.append(batches @ module.get_embedding("batch").weight.detach().numpy())
        else:
            categories.append(batches)
        for name in setup.get("categorical_covariate_keys", ()):
            categories.append(pd.get_dummies(cells.obs[name]).to_numpy(float))
    return np.hstack(values), categories


@pytest.mark.parametrize("prior", ["vmm", "gmm"])
@pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS.keys())
def test_components_start_as_the_clusters_and_pseudo_inputs_as_their_mean_inputs(
    make_model: Make, quick_training: Training, found_mixtures: list, prior: str, options: dict[str, Any]
) -> None:
    model, start = make_model(prior=prior, **options), KeepStart()
    model.train(**quick_training, callbacks=[start])
    ((z, mixture),) = found_mixtures
    assert z.shape == (270, model.module.n_latent)
    torch.testing.assert_close(start.module.latent_prior.weights, mixture.weights.float())
    if prior == "gmm":
        torch.testing.assert_close(start.module.latent_prior.loc.detach(), mixture.loc.float())
    else:
        cells = model.adata[np.sort(model.train_indices)]
        shares = (mixture.responsibilities / mixture.responsibilities.sum(0)).numpy().T
        values, categories = encoder_inputs(start.module, cells, options)
        found, *of_categories = (t.detach() for t in start.module.pseudo_inputs["z_encoder"]())
        np.testing.assert_allclose(found, shares @ values, rtol=1e-3, atol=1.1 * SMALLEST_VALUE)
        for probabilities, one_hot in zip(of_categories, categories, strict=True):
            np.testing.assert_allclose(probabilities, shares @ one_hot, atol=2 * SMALLEST_PROBABILITY)
    probabilities = model.get_cluster_probabilities()
    assert probabilities.shape == (300, len(mixture.weights))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-5)
    assert model.get_cluster_weights().sum() == pytest.approx(1, rel=1e-5)
    assert np.isfinite(model.get_prior_log_density()).all()
    assert np.isfinite(model.sample_prior(10, component="0").X.data).all()


def test_the_embedding_is_that_of_the_training_cells_without_noise(
    make_model: Make, quick_training: Training, found_mixtures: list
) -> None:
    model, start = make_model(dropout_rate=0.5), KeepStart()
    model.train(**quick_training, callbacks=[start])
    model.module.load_state_dict(start.module.state_dict())
    expected = model.get_latent_representation(indices=np.sort(model.train_indices))
    np.testing.assert_allclose(found_mixtures[0][0], expected, atol=1e-5)


def test_centres_start_close_to_the_clusters_whose_mean_cells_they_are(
    make_model: Make, training: Training, found_mixtures: list
) -> None:
    start = KeepStart()
    make_model(n_components=20).train(**training, callbacks=[start])
    ((_, mixture),) = found_mixtures
    centers = start.module.encode_pseudo_inputs().loc.detach().double()
    distances = torch.cdist(centers, mixture.loc)
    assert torch.equal(distances.argmin(1), torch.arange(len(mixture.loc)))
    assert (distances.diagonal() < 0.5 * torch.pdist(mixture.loc).min()).all()


def test_precisions_start_from_clusters_and_the_posteriors_of_their_cells(
    make_model: Make, training: Training, found_mixtures: list
) -> None:
    model, start = make_model(prior="gmm", n_components=20), KeepStart()
    model.train(**training, callbacks=[start])
    ((_, mixture),) = found_mixtures
    with torch.no_grad():
        model.module.load_state_dict(start.module.state_dict())
        _, variance = model.get_latent_representation(indices=np.sort(model.train_indices), return_dist=True)
        covariance = torch.linalg.inv(start.module.latent_prior.precision_cholesky().double())
        covariance = covariance.mT @ covariance
    r = mixture.responsibilities / mixture.responsibilities.sum(0)
    spread = torch.diag_embed(r.mT @ torch.as_tensor(variance).double())
    # the Wishart counts as one cell among those of the cluster, of which there are as many as there are
    counts = mixture.responsibilities.sum(0)[:, None, None]
    root = start.module.latent_prior.wishart_scatter_root.double()
    scatter = root @ root.mT
    # and it is what the clusters' cells have on average
    weights = mixture.weights[:, None, None]
    torch.testing.assert_close(
        scatter, mixture.expected_covariance + (weights * spread).sum(0), rtol=1e-4, atol=1e-4
    )
    expected = (counts * (mixture.covariance + spread) + scatter) / (counts + 1)
    torch.testing.assert_close(covariance, expected, rtol=1e-4, atol=1e-4)


class InMemory(LightningDataModule):
    """A data module that gives minibatches, and tells nothing but the number of its cells."""

    def __init__(self, model: SCVI_VMM, sparse: bool) -> None:
        super().__init__()
        self.manager, self.n_obs, self.sparse = model.adata_manager, model.adata.n_obs, sparse

    def _loader(self, indices: np.ndarray, shuffle: bool) -> Any:
        options = {"batch_size": 32, "shuffle": shuffle, "load_sparse_tensor": self.sparse}
        return AnnDataLoader(self.manager, indices=indices, **options)

    def train_dataloader(self) -> Any:
        return self._loader(np.arange(270), shuffle=True)

    def val_dataloader(self) -> Any:
        return self._loader(np.arange(270, 300), shuffle=False)

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        return {k: v if v.layout == torch.strided else v.to_dense() for k, v in batch.items()}


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("prior", ["vmm", "gmm"])
def test_a_registry_and_a_data_module_are_enough(
    make_model: Make, training: Training, found_mixtures: list, prior: str, sparse: bool
) -> None:
    source = make_model(setup=COVARIATES)
    del training["batch_size"]
    training["max_epochs"] = 4
    model = SCVI_VMM(registry=source.adata_manager.registry, prior=prior, n_hidden=16, n_latent=4)
    model.train(**training, datamodule=InMemory(source, sparse))
    ((z, mixture),) = found_mixtures
    assert len(z) == 270
    assert model.module.latent_prior.n_components == len(mixture.weights)
    assert list(model.history["prior_loss"].index) == [2, 3]
    assert float(model.module.latent_prior.weights.detach().sum()) == pytest.approx(1, rel=1e-5)
