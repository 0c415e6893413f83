"""A prior from single cells, or from known types: tested without training."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from anndata import AnnData
from lightning.pytorch import LightningDataModule
from torch import Tensor

from vmmscvi import SCVI_VMM
from vmmscvi.priors import FREE, PriorState
from vmmscvi.starts import FromCells, FromEmbedding, FromLabels, InitialisePrior, _clusters
from vmmscvi.starts._clusters import Embedding

Make = Callable[..., SCVI_VMM]
Loaded = Callable[[Iterable[Any]], LightningDataModule]
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


def test_other_data_modules_start_pseudo_inputs_from_the_first_training_cells(
    make_model: Make, loaded: Loaded
) -> None:
    module, loader = make_model().module, cells_of(12)
    datamodule = loaded(loader)
    _, pseudo_inputs = FromCells().initialise(module, datamodule)
    expected = torch.cat([tensors["X"].to_dense() for tensors in loader])[:8]
    np.testing.assert_allclose(values_of(pseudo_inputs), np.log1p(expected.numpy()), atol=ATOL)


def test_as_many_cells_as_components_are_enough(make_model: Make, loaded: Loaded) -> None:
    _, pseudo_inputs = FromCells().initialise(make_model().module, loaded(cells_of(8)))
    assert values_of(pseudo_inputs).shape == (8, 100)


def test_too_few_cells_are_refused(make_model: Make, loaded: Loaded) -> None:
    datamodule = loaded(cells_of(3))
    with pytest.raises(ValueError, match="must not exceed the number of training cells, 3, found 8"):
        FromCells().initialise(make_model().module, datamodule)


# -- labels --------------------------------------------------------------------------------------------------


def from_labels(model: SCVI_VMM, noise: float | None = None) -> FromLabels:
    return FromLabels.of_registered(model.adata_manager, "unknown", None, noise)


def found_from(model: SCVI_VMM, z: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The prior that is made of labels and a given embedding of the cells."""
    cells = np.sort(split_of(model).train_idx)
    embedding = _clusters.Embedding(
        torch.as_tensor(z[cells]).float(),
        torch.full((len(cells), 4), 0.01),
        torch.as_tensor(model.adata.obs["_scvi_labels"].to_numpy()[cells]).long(),
        torch.as_tensor(model.adata.obs["_scvi_batch"].to_numpy()[cells]).long(),
    )
    monkeypatch.setattr(_clusters, "embed", lambda module, sample: embedding)
    return from_labels(model).initialise(model.module, split_of(model)).prior


def embedding_by_type(labelled: AnnData) -> np.ndarray:
    types = labelled.obs["cell_type"].cat.codes.to_numpy()
    return np.random.default_rng(0).normal(size=(300, 4)) + 8 * np.eye(4)[types]


@pytest.mark.parametrize("prior", ["vmm", "gmm"])
def test_components_have_the_registered_code_of_the_label_of_their_cells(
    make_model: Make, labelled: AnnData, monkeypatch: pytest.MonkeyPatch, prior: str
) -> None:
    model = make_model(labelled, setup=LABELS, prior=prior)
    found = found_from(model, embedding_by_type(labelled), monkeypatch)
    assert found.state is PriorState.FITTED and found.n_components == 4
    assert sorted(found.labels.of_components.tolist()) == [0, 1, 2, 3]
    assert 0 < found.labels.noise < 0.05
    unknown = list(model.adata_manager.get_state_registry("labels").categorical_mapping).index("unknown")
    assert (found.label_log_likelihood(torch.tensor([unknown])) == 0).all()


def test_a_type_of_unlabelled_cells_is_a_free_component(
    make_model: Make, labelled: AnnData, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = sorted(set(labelled.obs["cell_type"]))[1]
    labelled.obs.loc[labelled.obs["cell_type"] == new, "known_type"] = "unknown"
    model = make_model(labelled, setup=LABELS)
    found = found_from(model, embedding_by_type(labelled), monkeypatch)
    assert sorted(found.labels.of_components.tolist()) == [FREE, 0, 1, 2]


def test_labels_and_batches_of_the_embedded_cells_are_theirs(make_model: Make, labelled: AnnData) -> None:
    model = make_model(labelled, setup=LABELS)
    sample = from_labels(model).sample(split_of(model))
    embedding, cells = _clusters.embed(model.module, sample), np.sort(split_of(model).train_idx)
    assert embedding.labels is not None and embedding.batches is not None
    np.testing.assert_array_equal(embedding.labels, labelled.obs["_scvi_labels"].iloc[cells])
    np.testing.assert_array_equal(embedding.batches, labelled.obs["_scvi_batch"].iloc[cells])


def test_labels_of_validation_cells_alone_are_named(
    make_model: Make, labelled: AnnData, caplog: pytest.LogCaptureFixture
) -> None:
    labelled.obs.iloc[299, labelled.obs.columns.get_loc("known_type")] = "rare"
    model = make_model(labelled, setup=LABELS)
    datamodule = SimpleNamespace(adata_manager=model.adata_manager, train_idx=np.arange(200))
    from_labels(model).check(datamodule)
    assert "The labels ['rare'] occur only in validation cells" in caplog.text
    datamodule.train_idx = np.flatnonzero(labelled.obs["known_type"] == "unknown")
    with pytest.raises(ValueError, match="needs labelled training cells, found none"):
        from_labels(model).check(datamodule)


def test_a_start_from_named_labels_checks_them_in_the_data(make_model: Make, labelled: AnnData) -> None:
    model = make_model(labelled, setup=LABELS)
    known = list(model.adata_manager.get_state_registry("labels").categorical_mapping)
    start = FromLabels(None, ["type0"], [known.index("type0")])
    datamodule = split_of(model)
    start.check(datamodule)
    datamodule.train_idx = np.flatnonzero(labelled.obs["known_type"] != "type0")
    with pytest.raises(ValueError, match="needs labelled training cells, found none"):
        start.check(datamodule)


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
    mixture = FromEmbedding(None).find_clusters(
        model.module, Embedding(torch.randn(29, 4), torch.ones(29, 4))
    )
    assert 1 <= len(mixture.weights) <= 2
