"""scikit-learn's conventions: an estimator like any other."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import normalized_mutual_info_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import check_estimator

from vmmscvi.priors import GaussianMixturePrior, StandardNormalPrior
from vmmscvi.vae import VAE, VaDE

SMALL_CHECK: dict[str, Any] = {"n_latent": 2, "max_epochs": 2, "batch_size": 32, "accelerator": "cpu"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "estimator",
    [
        VAE(n_components=3, random_state=0, **SMALL_CHECK),
        VAE("standard_normal", random_state=0, **SMALL_CHECK),
        VaDE(2, n_pretrain_epochs=1, random_state=0, **SMALL_CHECK),
    ],
    ids=["vmm", "standard_normal", "vade"],
)
def test_scikit_learns_own_checks_pass(estimator: VAE | VaDE) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(estimator, on_fail=None)
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] not in ("passed", "skipped")}
    assert not failed


def test_parameters_survive_cloning_and_fitting_changes_none(make_vae, blobs) -> None:
    model = make_vae()
    weights = [p.clone() for p in model.encoder.parameters()]
    before = model.get_params()
    assert clone(model).get_params().keys() == before.keys()
    model.fit(blobs.x)
    after = model.get_params()
    assert all(after[name] is before[name] for name in before)
    assert all(torch.equal(a, b) for a, b in zip(weights, model.encoder.parameters(), strict=True))


def test_a_pipeline_scales_embeds_and_predicts(make_vae, blobs) -> None:
    pipeline = make_pipeline(MinMaxScaler((-1, 1)), make_vae())
    clusters = pipeline.fit(100 * blobs.x).predict(100 * blobs.x)
    assert clusters.shape == (240,)
    assert pipeline.transform(100 * blobs.x).shape == (240, 2)
    assert isinstance(pipeline.score(100 * blobs.x), float)


def test_clusters_of_blobs_are_found_from_the_embedding(make_vae, blobs) -> None:
    model = make_vae(n_components=20, start="embedding", max_epochs=60, n_warmup_epochs=30, lr=5e-3)
    assert normalized_mutual_info_score(blobs.labels, model.fit_predict(blobs.x)) > 0.9


@pytest.mark.parametrize("start", ["embedding", "cells"])
@pytest.mark.parametrize("covariance", ["full", "diagonal"])
@pytest.mark.parametrize("prior", ["vmm", "gmm", "vampprior", "standard_normal"])
def test_every_prior_fits_embeds_and_generates(make_vae, blobs, prior, covariance, start) -> None:
    model = make_vae(prior, covariance=covariance, start=start).fit(blobs.x)
    assert np.isfinite(model.score(blobs.x[:20]))
    assert model.transform(blobs.x).shape == (240, 2)
    rows, components = model.sample(7)
    assert rows.shape == (7, 6) and components.shape == (7,)
    assert hasattr(model, "predict") == (prior != "standard_normal")
    if prior != "standard_normal":
        probabilities = model.predict_proba(blobs.x)
        np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
        np.testing.assert_array_equal(model.predict(blobs.x), probabilities.argmax(1))


def test_the_same_seed_gives_the_same_model_and_the_global_state_is_left_alone(make_vae, blobs) -> None:
    model = make_vae()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = (
        clone(model).set_params(random_state=seed).fit(blobs.x).transform(blobs.x) for seed in (0, 0, 1)
    )
    assert torch.equal(torch.rand(3), expected)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_a_fitted_model_can_be_pickled(make_vae, blobs) -> None:
    model = make_vae().fit(blobs.x)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(model.predict_proba(blobs.x), again.predict_proba(blobs.x))


def test_a_prior_of_ones_own_is_copied(make_vae, blobs) -> None:
    prior = GaussianMixturePrior(4, 2)
    before = prior.loc.detach().clone()
    model = make_vae(prior, start="cells").fit(blobs.x)
    assert torch.equal(prior.loc, before)
    assert not torch.equal(model.module_.latent_prior.loc, before)
    assert not hasattr(VAE(StandardNormalPrior(2)), "predict")


def test_decoding_inverts_embedding_up_to_noise(make_vae, blobs) -> None:
    model = make_vae("standard_normal", max_epochs=60, lr=1e-2).fit(blobs.x)
    decoded = model.inverse_transform(model.transform(blobs.x))
    assert np.mean((decoded - blobs.x) ** 2) < 0.1 * blobs.x.var()


@pytest.mark.parametrize(
    ("start", "scale", "ratio"), [("cells", "paper", 1.0), ("embedding", "learned", 5.0)]
)
def test_scale_and_learning_rate_of_the_prior_go_with_its_start(make_vae, blobs, start, scale, ratio) -> None:
    plans: list[float] = []

    class Note(Callback):
        def on_fit_start(self, trainer, pl_module) -> None:
            plans.append(pl_module.prior_lr_ratio)

    model = make_vae(start=start, callbacks=[Note()]).fit(blobs.x)
    assert model.module_.latent_prior.wishart_scale == scale and plans == [ratio]
    asked = make_vae(start=start, callbacks=[Note()], wishart_scale=0.3, prior_lr_ratio=2.0).fit(blobs.x)
    assert asked.module_.latent_prior.wishart_scale == 0.3 and plans[1:] == [2.0]


def test_samples_come_from_the_component_that_is_asked_for(make_vae, blobs) -> None:
    model = make_vae(n_components=20, start="embedding", max_epochs=60, n_warmup_epochs=30, lr=5e-3).fit(
        blobs.x
    )
    heaviest = int(model.cluster_weights().argmax())
    rows, components = model.sample(30, component=heaviest, noise=False)
    assert (components == heaviest).all()
    assert np.mean(model.predict(rows) == heaviest) > 0.8
    assert not np.allclose(rows, model.sample(30, component=heaviest)[0])  # without and with noise


def test_bernoulli_samples_are_zeros_and_ones(make_vae, blobs) -> None:
    x = (blobs.x > 0).astype(np.float32)
    model = make_vae(likelihood="bernoulli").fit(x)
    assert set(np.unique(model.sample(50)[0])) <= {0.0, 1.0}
    with pytest.raises(ValueError, match="`X` must be between 0 and 1"):
        model.transform(2 * x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prior": "flow"}, "`prior` must be one of"),
        ({"n_components": 0}, "`n_components` must be a positive integer, found 0"),
        ({"n_latent": 2.5}, "`n_latent` must be a positive integer, found 2.5"),
        ({"lr": -1.0}, "`lr` must be a positive number, found -1.0"),
        ({"start": "labels"}, "`start` must be one of"),
        ({"start": "embedding", "n_warmup_epochs": 9}, "`n_warmup_epochs` must be at least 0"),
        ({"validation_fraction": 1.0}, "`validation_fraction` must be at least 0"),
        ({"encoder": "rnn"}, "`encoder` must be 'mlp', 'cnn' or a torch Module, found 'rnn'"),
        ({"encoder": "cnn"}, "`image_shape` must be"),
        ({"encoder": "cnn", "image_shape": (2, 3)}, "`image_shape` must be"),
        ({"likelihood": "poisson"}, "`likelihood` must be one of"),
        ({"covariance": "tied"}, "`covariance` must be one of"),
        ({"n_components": 500, "start": "cells"}, "`n_components` must not exceed"),
        ({"prior": StandardNormalPrior(3)}, "`n_latent` must equal that of `prior`, 3, found 2"),
    ],
)
def test_errors_name_unusable_input(make_vae, blobs, arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        make_vae(**arguments).fit(blobs.x)


def test_an_unfitted_estimator_has_no_results(make_vae, blobs) -> None:
    for method in ("transform", "predict", "predict_proba", "score"):
        with pytest.raises(NotFittedError):
            getattr(make_vae(), method)(blobs.x)
    with pytest.raises(NotFittedError):
        make_vae().sample(3)


def test_latent_positions_of_the_wrong_dimension_are_refused(make_vae, blobs) -> None:
    model = make_vae().fit(blobs.x)
    with pytest.raises(ValueError, match=r"`Z` must have shape \(n, 2\), found \(4, 3\)"):
        model.inverse_transform(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="`component` must be between"):
        model.sample(2, component=99)


class Fail(Callback):
    """Fails before the first step, in the middle, or when training ends."""

    def __init__(self, where: str) -> None:
        self.where = where

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if self.where == "first":
            raise MemoryError

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if self.where == "middle" and trainer.current_epoch == 1:
            raise KeyboardInterrupt

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if self.where == "last":
            raise MemoryError


@pytest.mark.parametrize("where", ["first", "middle", "last"])
@pytest.mark.parametrize("kind", ["vae", "vade"])
def test_a_second_fit_that_fails_leaves_the_first(make_vae, make_vade, blobs, where: str, kind: str) -> None:
    model = (make_vae if kind == "vae" else make_vade)().fit(blobs.x)
    clusters, score, history = model.predict(blobs.x), model.score(blobs.x), model.history_
    model.set_params(callbacks=[Fail(where)], n_components=5)
    with pytest.raises((MemoryError, KeyboardInterrupt, SystemExit)):
        model.fit(np.tile(blobs.x, (1, 1))[:100] * 0.5)
    np.testing.assert_array_equal(model.predict(blobs.x), clusters)
    assert model.score(blobs.x) == score and model.history_ is history
    assert len(model.train_indices_) + len(model.validation_indices_) == 240


def test_a_second_fit_of_wrong_data_leaves_the_first(make_vae, blobs) -> None:
    model = make_vae().fit(blobs.x)
    with pytest.raises(ValueError, match=r"\d"):
        model.set_params(likelihood="bernoulli").fit(np.full((50, 3), -1.0))
    assert model.set_params(likelihood="gaussian").predict(blobs.x).shape == (240,)


@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_a_first_fit_that_fails_is_none(make_vae, blobs, where: str) -> None:
    model = make_vae(callbacks=[Fail(where)])
    with pytest.raises((MemoryError, KeyboardInterrupt, SystemExit)):
        model.fit(blobs.x)
    with pytest.raises(NotFittedError):
        model.predict(blobs.x)


def test_rows_and_columns_may_be_read_backwards(make_vae, blobs) -> None:
    backwards = np.ascontiguousarray(blobs.x[::-1, ::-1])[::-1, ::-1]
    assert min(backwards.strides) < 0
    estimators = []
    for x in (blobs.x, backwards):
        torch.manual_seed(0)  # of the networks
        estimators.append(make_vae().fit(x))
    expected, found = estimators
    for method in ("transform", "predict", "score_samples"):
        np.testing.assert_array_equal(getattr(found, method)(backwards), getattr(expected, method)(blobs.x))
    z = expected.transform(blobs.x)
    flipped = np.ascontiguousarray(z[:, ::-1])[:, ::-1]
    np.testing.assert_array_equal(expected.inverse_transform(flipped), expected.inverse_transform(z))
