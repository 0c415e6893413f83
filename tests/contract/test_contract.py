"""Requirements for every model with the mixture prior. A model that does not is not offered."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from copy import deepcopy
from inspect import Parameter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vmmscvi.priors import GaussianMixturePrior, PriorState

Case = Any
Minibatch = Callable[..., dict[str, torch.Tensor]]


def _forward(module: Any, tensors: dict[str, torch.Tensor], seed: int = 0, **loss_kwargs: Any) -> Any:
    torch.manual_seed(seed)
    return module(tensors, loss_kwargs=loss_kwargs)


def test_with_a_standard_normal_prior_the_loss_is_that_of_the_stock_model(
    case: Case, minibatch: Minibatch
) -> None:
    ours = case.model(prior="standard_normal", **case.stock_options)
    stock = case.model(stock=True)
    weights = {name: value for name, value in ours.module.state_dict().items() if "latent_prior" not in name}
    stock.module.load_state_dict(weights)
    tensors = minibatch(ours)
    for kl_weight in (1.0, 0.3):
        found, expected = (_forward(m.module, tensors, kl_weight=kl_weight)[2] for m in (ours, stock))
        torch.testing.assert_close(found.loss, expected.loss)
        torch.testing.assert_close(found.kl_local_sum, expected.kl_local_sum)


def test_the_loss_differs_from_stocks_by_the_weighted_difference_of_the_divergences(
    case: Case, minibatch: Minibatch
) -> None:
    options = {key: value for key, value in case.stock_options.items() if key == "stock_loss"}
    mixture, normal = (
        case.model(prior=prior, n_components=4, **options) for prior in ("gmm", "standard_normal")
    )
    weights = mixture.module.state_dict()
    normal.module.load_state_dict({k: weights.get(k, v) for k, v in normal.module.state_dict().items()})
    tensors = minibatch(mixture)
    n_obs = {"n_obs": 50.0} if "n_obs" in mixture._training_plan_cls(mixture.module)._loss_args else {}
    outputs, _, found = _forward(mixture.module, tensors, kl_weight=0.5, **n_obs)
    _, _, expected = _forward(normal.module, tensors, kl_weight=0.5, **n_obs)
    module, prior = mixture.module, mixture.module.latent_prior
    qz, z = module.posterior(outputs), module.latent_sample(outputs)
    difference = prior.kl_divergence(qz, z) - normal.module.latent_prior.kl_divergence(qz, z)
    # by finite differences of the stock loss: what a unit of every cell's divergence weighs
    plus, minus = (_forward(normal.module, tensors, kl_weight=w, **n_obs)[2].loss for w in (1.0, 0.0))
    _, _, local = _forward(normal.module, tensors, kl_weight=1.0, **n_obs)
    weight_of_all_terms = (plus - minus) / sum(v.mean() for v in local.kl_local.values())
    factor = module.kl_weights(tensors, 0.5, n_obs)
    torch.testing.assert_close(found.loss - expected.loss, (factor * difference).mean(), rtol=1e-3, atol=1e-3)
    if case.has_only_z and len(local.kl_local) == 1:  # then that weight is known without our help
        torch.testing.assert_close(
            torch.as_tensor(factor).float(), (0.5 * weight_of_all_terms).float(), rtol=1e-3, atol=1e-3
        )


def test_the_divergence_of_a_cell_is_that_of_quadrature_in_one_dimension(
    case: Case, minibatch: Minibatch
) -> None:
    model = case.model(prior="gmm", n_components=3, n_latent=1)
    module, prior = model.module.eval(), model.module.latent_prior
    assert isinstance(prior, GaussianMixturePrior)
    with torch.no_grad():
        prior.loc.copy_(torch.tensor([[-1.0], [0.5], [2.0]]))
        prior.pi_logits.copy_(torch.tensor([0.0, 1.0, -0.5]))
    with torch.no_grad():
        outputs = module.encode_for_prior(minibatch(model, 6))
    qz = module.posterior(outputs)
    # around each posterior, shape (n_points, n_cells)
    q = torch.distributions.Normal(qz.mean.double().squeeze(1), qz.stddev.double().squeeze(1))
    grid = q.mean + q.stddev * torch.linspace(-10, 10, 20_001, dtype=torch.float64)[:, None]
    precision = prior.precision_cholesky().detach().double().squeeze() ** 2
    log_p = torch.logsumexp(
        torch.log_softmax(prior.pi_logits.detach().double(), 0)
        + 0.5 * torch.log(precision / (2 * torch.pi))
        - 0.5 * precision * (grid.unsqueeze(-1) - prior.loc.detach().double().squeeze(1)) ** 2,
        dim=-1,
    )
    log_q = q.log_prob(grid)
    expected = torch.trapezoid(log_q.exp() * (log_q - log_p), grid, dim=0)
    torch.manual_seed(0)
    with torch.no_grad():
        samples = qz.rsample((40_000,))
        found = prior.kl_divergence(qz, samples).double()
    error = found.std(0) / np.sqrt(len(samples))
    assert ((found.mean(0) - expected).abs() < 5 * error + 1e-3).all()


def test_each_step_leaves_the_parameters_of_the_other_bit_identical(
    case: Case, training: dict[str, Any]
) -> None:
    model = case.model(n_components=6)
    changes: list[tuple[set[str], set[str]]] = []

    class Watched(model._training_plan_cls):  # type: ignore[misc, name-defined]
        def _changed(self, step: Callable[[], Any]) -> tuple[Any, set[str]]:
            before = {name: p.detach().clone() for name, p in self.module.named_parameters()}
            result = step()
            after = dict(self.module.named_parameters())
            return result, {name for name, old in before.items() if not torch.equal(old, after[name])}

        def _variational_step(self, *args: Any) -> Any:
            result, self._networks = self._changed(lambda: super(Watched, self)._variational_step(*args))
            return result

        def _empirical_bayes_step(self, *args: Any) -> Any:
            result, prior = self._changed(lambda: super(Watched, self)._empirical_bayes_step(*args))
            changes.append((self._networks, prior))
            return result

    model._training_plan_cls = Watched
    model.train(**training)
    assert changes
    for networks, prior in changes:
        assert networks and not any(name.startswith(("latent_prior", "pseudo_inputs")) for name in networks)
        assert prior and all(name.startswith(("latent_prior", "pseudo_inputs")) for name in prior)


def test_training_finds_clusters_and_their_methods_agree(case: Case, trained: Callable[[Case], Any]) -> None:
    model = trained(case)
    assert model.module.latent_prior.state is PriorState.FITTED
    probabilities, clusters = model.get_cluster_probabilities(), model.predict()
    np.testing.assert_allclose(probabilities.sum(1), 1.0, rtol=1e-4)
    assert (probabilities.idxmax(axis=1) == clusters.astype(str)).all()
    assert list(clusters.index) == list(model.adata.obs_names)
    density = model.get_prior_log_density()
    assert np.isfinite(density).all()
    novelty = model.get_novelty_score(calibration="pooled")
    assert novelty.corr(density, method="spearman") < -0.99
    assert model.get_cluster_tree().cut(n_clusters=1).nunique() == 1
    np.testing.assert_allclose(model.get_cluster_weights().sum(), 1.0, rtol=1e-5)


def test_a_saved_model_predicts_the_same(case: Case, trained: Callable[[Case], Any], tmp_path: Path) -> None:
    model = trained(case)
    model.save(tmp_path / "model", save_anndata=False)
    loaded = case.ours.load(tmp_path / "model", adata=case.make_data(), accelerator="cpu")
    np.testing.assert_allclose(
        loaded.get_cluster_probabilities(), model.get_cluster_probabilities(), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        loaded.get_prior_log_density(), model.get_prior_log_density(), rtol=1e-4, atol=1e-4
    )
    assert loaded.module.latent_prior.state is PriorState.FITTED
    for each in (model, loaded):  # what is printed
        assert f"n_components: {each.module.latent_prior.n_components}" in each._model_summary_string


def test_a_mapped_query_keeps_the_clusters_of_the_reference(
    case: Case, trained: Callable[[Case], Any], tmp_path: Path
) -> None:
    if not case.can_query:
        pytest.skip("scvi-tools does not map queries with this model")
    reference = trained(case)
    reference.save(tmp_path / "model", save_anndata=False)
    query_data = case.make_data()[:120].copy()
    query_data.obs["batch"] = "new"
    query = case.ours.load_query_data(query_data, str(tmp_path / "model"), accelerator="cpu")
    query.train(max_epochs=2, batch_size=32, accelerator="cpu", enable_progress_bar=False)
    assert query.module.latent_prior.is_frozen
    for name in ("loc", "covariance_matrix"):
        ours, theirs = (
            getattr(m.module.latent_prior.component_distribution(), name) for m in (query, reference)
        )
        assert torch.equal(ours, theirs)
    assert set(query.predict().cat.categories) <= set(reference.component_names())


def test_minified_data_have_the_same_clusters(case: Case, trained: Callable[[Case], Any]) -> None:
    if not case.can_minify:
        pytest.skip("scvi-tools does not minify data of this model")
    model = deepcopy(trained(case))
    expected = model.predict().astype(str)
    qzm, qzv = model.get_latent_representation(return_dist=True)
    model.adata.obsm["m"], model.adata.obsm["v"] = qzm, qzv
    model.minify_adata(use_latent_qzm_key="m", use_latent_qzv_key="v")
    assert (model.predict().astype(str) == expected).all()
    with pytest.raises(ValueError, match="minified"):
        model.train(max_epochs=1)


def test_markers_are_observed_features_of_every_group(case: Case, trained: Callable[[Case], Any]) -> None:
    model = trained(case)
    if not hasattr(model, "get_markers"):
        pytest.skip("not for models whose values are no counts")
    features = model.adata["rna"] if hasattr(model.adata, "mod") else model.adata
    types = features.obs["cell_type"].astype(str)
    model.adata.obs["type_of_test"] = types.reindex(model.adata.obs_names).astype("category")
    markers = model.get_markers(3, groupby="type_of_test")
    assert set(markers["cluster"]) == set(types) and set(markers["gene"]) <= set(features.var_names)
    if "marker_of" in features.var:  # one marker of a type in 120 peaks
        best = markers[markers["rank"] == 1]
        coarse = best["cluster"].str.split(".").str[0].to_numpy()
        assert (features.var["marker_of"].loc[best["gene"]].to_numpy() == coarse).mean() > 0.6


def test_new_cells_are_generated_from_the_prior(case: Case, trained: Callable[[Case], Any]) -> None:
    model = trained(case)
    if not case.can_sample:
        with pytest.raises(ValueError, match="sample"):
            model.sample_prior(3)
        return
    cells = model.sample_prior(20, component="0", seed=1)
    assert cells.n_obs == 20 and cells.X.min() >= 0
    np.testing.assert_array_equal(cells.X.toarray(), np.round(cells.X.toarray()))
    again = model.sample_prior(20, component="0", seed=1)
    np.testing.assert_array_equal(cells.X.toarray(), again.X.toarray())


def test_methods_take_the_arguments_of_the_stock_model(case: Case) -> None:
    by_position = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.VAR_POSITIONAL)
    for name, _ in inspect.getmembers(case.stock, inspect.isroutine):
        if name.startswith("_"):
            continue
        stock, ours = (inspect.signature(getattr(cls, name)).parameters for cls in (case.stock, case.ours))
        kinds = [parameter.kind for parameter in ours.values()]
        if Parameter.VAR_KEYWORD not in kinds:
            assert not stock.keys() - ours.keys(), name
        first = [p.name for p in stock.values() if p.kind in by_position][:2]
        takes = [p.name for p in ours.values() if p.kind in by_position]
        assert Parameter.VAR_POSITIONAL in kinds or takes[: len(first)] == first, f"{name}: {takes}"
