"""A prior from single cells, or from known types: no training is needed to see what it starts from."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from anndata import AnnData
from torch import Tensor

from vmmscvi import SCVI_VMM
from vmmscvi.priors import PriorState
from vmmscvi.starts import FromCells, FromEmbedding, FromLabels, InitialisePrior, _labels

Make = Callable[..., SCVI_VMM]
LABELS = {"batch_key": "batch", "labels_key": "known_type"}
ATOL = 0.011  # counts of zero are not quite zero


@pytest.fixture
def labelled(adata: AnnData) -> AnnData:
    """A third of the cells has no label."""
    adata.obs["known_type"] = adata.obs["cell_type"].astype(str)
    adata.obs.iloc[::3, adata.obs.columns.get_loc("known_type")] = "unknown"
    return adata


def split_of(model: SCVI_VMM, n_train: int = 250) -> SimpleNamespace:
    """The trainer's data module, as far as a start is concerned."""
    train = np.random.default_rng(0).permutation(300)[:n_train]
    return SimpleNamespace(adata_manager=model.adata_manager, train_idx=train)


def values_of(pseudo_inputs: Any) -> np.ndarray:
    return pseudo_inputs["z_encoder"]()[0].detach().numpy()


def embedding_of(model: SCVI_VMM) -> np.ndarray:
    with torch.no_grad():
        tensors = next(iter(model._make_data_loader(adata=model.adata, batch_size=300)))
        return model.module.eval().inference(**model.module._get_inference_input(tensors))["qz"].loc.numpy()


# -- cells ---------------------------------------------------------------------------------------------------


def test_pseudo_inputs_are_the_given_cells_in_the_given_order(make_model: Make) -> None:
    model, cells = make_model(), np.array([7, 3, 250, 12, 99, 100, 200, 1])
    before = torch.get_rng_state()
    prior, pseudo_inputs = FromCells(cells).initialise(model.module, split_of(model))
    assert torch.equal(torch.get_rng_state(), before)
    assert prior is model.module.latent_prior and prior.state is PriorState.FITTED
    np.testing.assert_allclose(values_of(pseudo_inputs), np.log1p(model.adata.X[cells].toarray()), atol=ATOL)
    for probabilities in pseudo_inputs["z_encoder"]()[1:]:
        torch.testing.assert_close(probabilities, torch.full((8, 2), 0.5))


def cells_of(n_cells: int) -> list[dict[str, Tensor]]:
    """Minibatches of five, sparse and dense."""
    counts = torch.poisson(torch.full((n_cells, 100), 3.0)).split(5)
    x = [part if i % 2 else part.to_sparse_csr() for i, part in enumerate(counts)]
    return [{"X": part, "batch": torch.zeros(part.shape[0], 1, dtype=torch.long)} for part in x]


def test_other_data_modules_start_pseudo_inputs_from_the_first_training_cells(make_model: Make) -> None:
    module, loader = make_model().module, cells_of(12)
    datamodule = SimpleNamespace(train_dataloader=lambda: loader)
    _, pseudo_inputs = FromCells().initialise(module, datamodule)
    expected = torch.cat([tensors["X"].to_dense() for tensors in loader])[:8]
    np.testing.assert_allclose(values_of(pseudo_inputs), np.log1p(expected.numpy()), atol=ATOL)


def test_too_few_cells_are_refused(make_model: Make) -> None:
    datamodule = SimpleNamespace(train_dataloader=lambda: cells_of(3))
    with pytest.raises(ValueError, match="must not exceed the number of training cells, 3, found 8"):
        FromCells().initialise(make_model().module, datamodule)


# -- labels --------------------------------------------------------------------------------------------------


def from_labels(model: SCVI_VMM, unlabeled: str | None = "unknown") -> FromLabels:
    return FromLabels.of_registered(model.adata_manager, unlabeled, None)


@pytest.mark.parametrize("prior", ["vmm", "gmm"])
def test_components_are_the_labels_of_the_embedded_training_cells(
    make_model: Make, labelled: AnnData, prior: str
) -> None:
    model = make_model(labelled, setup=LABELS, prior=prior)
    start, datamodule = from_labels(model), split_of(model)
    found, pseudo_inputs = start.initialise(model.module, datamodule)
    types = sorted(set(labelled.obs["cell_type"]))
    assert start.names == types and found.n_components == 4 and found.state is PriorState.FITTED
    z, train = embedding_of(model), datamodule.train_idx
    of_train = labelled.obs["known_type"].iloc[train]
    for j, name in enumerate(types):
        cells = train[of_train == name]
        assert float(found.weights[j]) == pytest.approx(len(cells) / (of_train != "unknown").sum())
        if prior == "gmm":
            np.testing.assert_allclose(found.loc[j].detach(), z[cells].mean(0), atol=1e-4)
        else:
            mean = np.log1p(labelled.X[cells].toarray()).mean(0)
            np.testing.assert_allclose(values_of(pseudo_inputs)[j], mean, atol=ATOL)


def test_covariances_are_those_of_the_labels_cells(make_model: Make, labelled: AnnData) -> None:
    model = make_model(labelled, setup=LABELS)
    start, datamodule = from_labels(model), split_of(model)
    sample = list(start.sample(datamodule))
    z, train = embedding_of(model), np.sort(datamodule.train_idx)
    known = train[(labelled.obs["known_type"].iloc[train] != "unknown").to_numpy()]
    assert sum(len(tensors["X"]) for tensors in sample) == len(known)
    mixture = start.find_clusters(model.module, SimpleNamespace(z=torch.as_tensor(z[known])))
    for j, name in enumerate(start.names):
        cells = z[known[labelled.obs["known_type"].iloc[known] == name]]
        np.testing.assert_allclose(mixture.covariance[j], np.cov(cells.T, bias=True), atol=1e-4)


def test_rare_labels_are_drawn_as_often_as_common_ones(
    make_model: Make, labelled: AnnData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_labels, "LARGEST_SAMPLE", 40)
    model = make_model(labelled, setup=LABELS)
    start, datamodule = from_labels(model), split_of(model)
    drawn = torch.cat([tensors["labels"] for tensors in start.sample(datamodule)]).ravel()
    assert drawn.unique(return_counts=True)[1].tolist() == [10] * 4
    weights = start.initialise(model.module, datamodule).prior.weights.detach()
    counts = labelled.obs["known_type"].iloc[datamodule.train_idx].value_counts()[start.names]
    np.testing.assert_allclose(weights, counts / counts.sum(), rtol=1e-5)  # of all of them


def test_a_label_without_a_training_cell_is_refused(make_model: Make, labelled: AnnData) -> None:
    labelled.obs.iloc[299, labelled.obs.columns.get_loc("known_type")] = "rare"
    model = make_model(labelled, setup=LABELS)
    datamodule = SimpleNamespace(adata_manager=model.adata_manager, train_idx=np.arange(200))
    with pytest.raises(ValueError, match="none of the training cells has the label 'rare'"):
        from_labels(model).check(datamodule)


def test_labels_of_a_data_module_are_not_known() -> None:
    with pytest.raises(ValueError, match="`start='labels'` needs AnnData"):
        FromLabels.of_registered(None, None, None)


# -- when ----------------------------------------------------------------------------------------------------


def trainer_of(model: SCVI_VMM) -> tuple[Any, Any]:
    return SimpleNamespace(datamodule=split_of(model)), SimpleNamespace(module=model.module)


def test_networks_warm_up_only_for_a_prior_that_needs_it(make_model: Make) -> None:
    for start, state in (
        (FromEmbedding(None), PriorState.WARMING_UP),
        (FromCells(), PriorState.FITTED),
        (None, PriorState.FITTED),
    ):
        model = make_model()
        InitialisePrior(start, 3).setup(*trainer_of(model), "fit")
        assert model.module.latent_prior.state is state


@pytest.mark.parametrize("state", [PriorState.FITTED, PriorState.FROZEN])
def test_a_prior_that_is_not_initialised_keeps_its_state(make_model: Make, state: PriorState) -> None:
    model = make_model()
    model.module.latent_prior.state = state
    InitialisePrior(None).setup(*trainer_of(model), "fit")
    assert model.module.latent_prior.state is state


def test_the_search_begins_with_a_component_for_ten_cells_at_most(make_model: Make) -> None:
    model = make_model(n_components=100)
    mixture = FromEmbedding(None).find_clusters(model.module, SimpleNamespace(z=torch.randn(29, 4)))
    assert 1 <= len(mixture.weights) <= 2
