"""The number of effective cells is raised where that finds hardly more clusters, and only there."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from vmmscvi.priors import GaussianMixturePrior, coarsened, fit_coarsened_mixture

fit = partial(fit_coarsened_mixture, n_components=30, n_starts=2)

SIZES = (800, 700, 650, 500, 400, 350, 40, 36)
"""Of eight Gaussian clusters; 750 effective cells have 9 and 8 for the last two."""


def gaussian_clusters(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    axes = np.eye(5)
    centres = 3 * np.concatenate((axes, -axes[:1], axes[2:3] + 0.3 * axes[3], axes[2:3] - 0.3 * axes[3]))
    labels = np.repeat(range(8), SIZES)
    return centres[labels] + 0.25 * rng.normal(size=(sum(SIZES), 5)), labels


def skewed_clusters(n_obs: int = 3200, p: int = 5, seed: int = 0) -> np.ndarray:
    """Three clusters with long tails: further effective cells pay for further Gaussians."""
    rng = np.random.default_rng(seed)
    return 8.0 * np.eye(p)[rng.integers(3, size=n_obs)] + rng.exponential(size=(n_obs, p))


def test_small_gaussian_clusters_are_found_with_more_effective_cells() -> None:
    z, labels = gaussian_clusters()
    found = fit_coarsened_mixture(z)
    assert found.n_effective == 3000
    assert len(found.weights) == 8 > len(fit(z, n_effective=750).weights)
    assert adjusted_rand_score(labels, found.responsibilities.argmax(1)) > 0.98


def test_clusters_that_are_not_gaussian_are_not_cut_to_pieces() -> None:
    z = skewed_clusters()
    found, coarse, fine = (fit(z, n_effective=n) for n in (None, 750, 3000))
    assert found.n_effective == coarse.n_effective == 750
    assert len(found.weights) == len(coarse.weights) < len(fine.weights) / 1.4
    torch.testing.assert_close(found.responsibilities, coarse.responsibilities)


def test_the_finest_level_is_all_cells() -> None:
    z, _ = gaussian_clusters()
    assert fit(z[::2]).n_effective == len(z[::2]) == 1738
    assert fit(z[::3]).n_effective == 750  # 1159 would tell nothing new


def test_growth_is_judged_by_the_step_that_is_taken() -> None:
    found = {750: 10, 2000: 13}  # less than 1.41 times as many, but for less than four times as many cells
    levels = SimpleNamespace(z=np.empty(2000), n_components=100, seeds=[0, 1])
    levels.at = lambda n, enough=0: SimpleNamespace(n_effective=n, n_found=found[round(n)])
    assert coarsened._Fit.resolved(levels).n_effective == 750
    found[2000] = 12
    assert coarsened._Fit.resolved(levels).n_effective == 2000


def test_data_count_as_no_more_cells_than_there_are() -> None:
    z, _ = gaussian_clusters()
    assert fit(z[::10]).n_effective == 348
    assert fit(z[::10], n_effective=1e6).n_effective == 348
    assert fit(z, n_effective=500).n_effective == pytest.approx(500)


def test_a_bound_on_the_number_of_components_does_not_pass_for_a_plateau() -> None:
    z = skewed_clusters()
    n_coarse = len(fit(z).weights)
    assert fit(z, n_components=n_coarse + 1).n_effective == 750


def test_one_cluster_stays_one() -> None:
    z = np.random.default_rng(0).normal(size=(3500, 5))
    found = fit(z)
    assert len(found.weights) == 1 and found.n_effective == 3000


def test_the_number_is_raised_again_while_it_finds_hardly_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coarsened, "N_EFFECTIVE", 50.0)
    z = np.random.default_rng(0).normal(size=(900, 2)) + np.repeat([[0.0, 0.0], [9.0, 9.0]], 450, axis=0)
    assert fit(z).n_effective == 800  # 50, 200, 800


def test_the_prior_weighs_its_hyperpriors_against_what_was_found() -> None:
    z, _ = gaussian_clusters()
    mixture = fit_coarsened_mixture(z)
    prior, minibatch = GaussianMixturePrior(20, 5), torch.as_tensor(z[::40]).float()
    assert prior.n_effective is None
    assert (
        prior.empirical_bayes_loss(minibatch).loss
        == prior.empirical_bayes_loss(minibatch, None, len(minibatch)).loss
    )
    prior.start_from(mixture, mixture.n_effective or 0.0, torch.zeros(8, 5))
    for restored in (prior, GaussianMixturePrior(20, 5)):
        restored.load_state_dict(prior.state_dict())
        assert restored.n_effective == 3000
        found, expected = (restored.empirical_bayes_loss(minibatch, None, n) for n in (None, 3000.0))
        assert found.loss == expected.loss != restored.empirical_bayes_loss(minibatch, None, 90.0).loss
