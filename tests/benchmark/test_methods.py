from typing import Any

import numpy as np
import pytest
import scvi
from anndata import AnnData
from scvi.model import SCVI

from vmmscvi import SCVI_VMM
from vmmscvi.benchmark import MethodSpec, _scvi_methods
from vmmscvi.benchmark._data import normalized, principal_components
from vmmscvi.benchmark._linear_methods import harmony, scanorama
from vmmscvi.benchmark._methods import Fit, NotApplicableError, fitter
from vmmscvi.data import simulate_counts

SMALL: dict[str, Any] = {"n_hidden": 8, "n_latent": 3}
SHORT: dict[str, Any] = {"max_epochs": 1, "batch_size": 32, "accelerator": "cpu"}
PRIORS = ("vmm", "gmm", "vampprior", "standard_normal")


@pytest.fixture(scope="module")
def data() -> AnnData:
    adata = simulate_counts(n_cells=90, n_genes=40, n_types=3, n_batches=2, seed=0)
    for key in ("batch", "cell_type"):
        adata.obs[key] = adata.obs[key].astype("category")
    return adata


def fit(adata: AnnData, kind: str, model: dict[str, Any], train: dict[str, Any], seed: int = 0) -> Fit:
    return fitter(kind)(adata.copy(), MethodSpec(kind, kind, model, train), seed)()


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collects every model that is trained, with its weights before the training."""
    seen: list[Any] = []
    for model_class in (SCVI_VMM, SCVI):
        original = model_class.train

        def train(self: Any, *args: Any, original: Any = original, **kwargs: Any) -> None:
            if not any(self is model for model, _ in seen):  # SCVI_VMM's calls that of SCVI
                seen.append((self, {k: v.clone() for k, v in self.module.state_dict().items()}))
            original(self, *args, **kwargs)

        monkeypatch.setattr(model_class, "train", train)
    return seen


def test_all_priors_of_a_trial_have_the_same_split_and_initial_weights(
    data: AnnData, watched: list[Any]
) -> None:
    for prior in PRIORS:
        mixture = {} if prior == "standard_normal" else {"n_components": 5}
        train = {**SHORT, "start": "cells"}
        fit(data, "scvi_vmm", {**SMALL, "prior": prior, **mixture}, train, seed=3)
    fit(data, "scvi", {**SMALL, "encode_covariates": True}, SHORT, seed=3)
    (first, weights), *others = watched
    assert len(others) == 4
    networks = [name for name in weights if name.startswith(("z_encoder", "decoder", "px_r"))]
    assert len(networks) > 5
    for other, other_weights in others:
        np.testing.assert_array_equal(other.train_indices, first.train_indices)
        np.testing.assert_array_equal(other.validation_indices, first.validation_indices)
        for name in networks:
            np.testing.assert_array_equal(other_weights[name].numpy(), weights[name].numpy(), err_msg=name)


def test_another_seed_is_another_split(data: AnnData, watched: list[Any]) -> None:
    for seed in (0, 1):
        fit(data, "scvi", SMALL, SHORT, seed=seed)
    assert not np.array_equal(watched[0][0].train_indices, watched[1][0].train_indices)


def test_a_seed_gives_the_same_result_whatever_ran_before(data: AnnData) -> None:
    model, train = {**SMALL, "n_components": 5}, {**SHORT, "start": "cells"}
    first = fit(data, "scvi_vmm", model, train)
    np.random.default_rng().random(5)
    fit(data, "scvi", SMALL, SHORT, seed=9)
    again = fit(data, "scvi_vmm", model, train)
    np.testing.assert_array_equal(first.z, again.z)
    assert first.elbo_validation == again.elbo_validation


def test_what_is_read_off_is_what_the_model_says(data: AnnData, watched: list[Any]) -> None:
    found = fit(data, "scvi_vmm", {**SMALL, "n_components": 5}, {**SHORT, "start": "cells"})
    model = watched[0][0]
    probabilities = model.get_cluster_probabilities()
    assert list(found.clusters) == list(model.predict())
    np.testing.assert_allclose(found.cluster_probability, probabilities.max(axis=1), rtol=1e-6)
    np.testing.assert_allclose(found.component_weights, model.get_cluster_weights(), rtol=1e-6)
    np.testing.assert_allclose(found.z, model.get_latent_representation(), rtol=1e-6)
    scvi.settings.seed = 0
    elbo = model.get_elbo(indices=model.validation_indices)
    # a sample of z
    assert found.elbo_validation == pytest.approx(float(elbo), rel=0.02)
    assert found.n_epochs == 1


def test_decoded_positions_are_expression_averaged_over_the_batches(data: AnnData) -> None:
    adata = data.copy()
    scvi.settings.seed = 0
    SCVI_VMM.setup_anndata(adata, batch_key="batch")
    model = SCVI_VMM(adata, prior="standard_normal", **SMALL)
    model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    z = model.get_latent_representation()[:4]
    decoded = _scvi_methods.decode(model, z)
    by_batch = {
        name: model.get_normalized_expression(transform_batch=name, return_numpy=True, n_samples=1)
        for name in ("batch0", "batch1")
    }
    assert decoded.shape == (4, 40)
    np.testing.assert_allclose(decoded.sum(axis=1), 1, rtol=1e-5)
    # scvi-tools decodes a sample of z near the mean: similar, not the same
    share = float(np.mean(adata.obs["batch"] == "batch0"))
    expected = share * by_batch["batch0"][:4] + (1 - share) * by_batch["batch1"][:4]
    assert np.corrcoef(decoded.ravel(), np.asarray(expected).ravel())[0, 1] > 0.9


def test_a_prior_without_components_has_no_clusters(data: AnnData) -> None:
    found = fit(data, "scvi_vmm", {**SMALL, "prior": "standard_normal"}, SHORT)
    assert found.clusters is None
    assert found.decoded is None
    assert found.elbo_validation is not None


def test_sysvi_trains_on_normalised_values_and_has_no_comparable_elbo(data: AnnData) -> None:
    found = fit(data, "sysvi", {"prior": "vamp", "n_latent": 3, "n_hidden": 8}, SHORT)
    assert found.z.shape == (90, 3)
    assert found.elbo_validation is None
    one_batch = data[data.obs["batch"] == "batch0"].copy()
    with pytest.raises(NotApplicableError, match="two batches"):
        fit(one_batch, "sysvi", {}, SHORT)


def test_principal_components_are_those_of_a_singular_value_decomposition(data: AnnData) -> None:
    values = normalized(data).X.toarray()
    u, s, _ = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)
    found = fit(data, "pca", {"n_components": 4}, {}).z
    np.testing.assert_allclose(np.abs(found), np.abs(u[:, :4] * s[:4]), rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(
        np.median(np.expm1(values).sum(axis=1)), np.median(np.asarray(data.X.sum(axis=1))), rtol=1e-4
    )


@pytest.mark.parametrize("method", [harmony, scanorama])
def test_integration_mixes_batches_better_than_principal_components(method: Any) -> None:
    pytest.importorskip({harmony: "harmonypy", scanorama: "scanorama"}[method])
    adata = simulate_counts(n_cells=300, n_genes=60, n_types=3, n_batches=2, batch_effect=0.5, seed=1)
    for key in ("batch", "cell_type"):
        adata.obs[key] = adata.obs[key].astype("category")

    def distance_of_batches(z: np.ndarray) -> float:
        first = (adata.obs["batch"] == "batch0").to_numpy()
        return float(np.linalg.norm(z[first].mean(axis=0) - z[~first].mean(axis=0)) / z.std())

    arguments = {"n_components": 10} if method is harmony else {"n_latent": 10}
    integrated = method(adata, 0, **arguments)
    assert integrated.shape == (300, 10)
    assert distance_of_batches(integrated) < 0.7 * distance_of_batches(principal_components(adata, 10))


@pytest.mark.parametrize("method", [harmony, scanorama])
def test_with_one_batch_there_is_nothing_to_integrate(method: Any, data: AnnData) -> None:
    one_batch = data[data.obs["batch"] == "batch0"].copy()
    np.testing.assert_array_equal(method(one_batch, 0), principal_components(one_batch, 50))
