"""Effects of the effective sample size."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from vmmscvi.priors import N_EFFECTIVE, GaussianMixturePrior, fit_coarsened_mixture

fit = partial(fit_coarsened_mixture, n_components=30, n_starts=2)

SIZES = (800, 700, 650, 500, 400, 350, 40, 36)
"""Of eight Gaussian clusters; 500 effective cells have 6 and 5 for the last two, which are near another."""


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


def test_small_neighbours_are_found_with_more_effective_cells() -> None:
    z, labels = gaussian_clusters()
    found = fit(z, n_effective=3000)
    assert found.n_effective == 3000
    assert len(found.weights) == 8 > len(fit(z).weights) == 6
    assert adjusted_rand_score(labels, found.responsibilities.argmax(1)) > 0.98


def test_tails_are_split_off_only_at_sufficient_effective_sample_size() -> None:
    z = skewed_clusters()
    coarse, fine = (fit(z, n_effective=n) for n in (300, 3000))
    assert len(coarse.weights) == 3 < len(fine.weights) / 4


@pytest.mark.parametrize("step", [1, 2, 4])
def test_the_number_of_clusters_does_not_depend_on_how_many_cells_there_are(step: int) -> None:
    z, _ = gaussian_clusters()
    found = fit(z[::step])
    assert found.n_effective == N_EFFECTIVE == 500
    assert len(found.weights) == 6


def test_the_effective_sample_size_is_at_most_the_number_of_cells() -> None:
    z, _ = gaussian_clusters()
    assert fit(z[::10]).n_effective == 348
    assert fit(z[::10], n_effective=1e6).n_effective == 348
    assert fit(z, n_effective=400).n_effective == 400


def test_the_effective_sample_size_sets_the_weight_of_the_hyperpriors() -> None:
    z, _ = gaussian_clusters()
    mixture = fit_coarsened_mixture(z)
    prior, minibatch = GaussianMixturePrior(20, 5), torch.as_tensor(z[::40]).float()
    assert prior.n_effective is None
    assert (
        prior.empirical_bayes_loss(minibatch).loss
        == prior.empirical_bayes_loss(minibatch, None, len(minibatch)).loss
    )
    prior = prior.initialised_from(mixture, mixture.n_effective or 0.0, torch.zeros(6, 5))
    for restored in (prior, GaussianMixturePrior(6, 5)):
        restored.load_state_dict(prior.state_dict())
        assert restored.n_effective == 500
        found, expected = (restored.empirical_bayes_loss(minibatch, None, n) for n in (None, 500.0))
        assert found.loss == expected.loss != restored.empirical_bayes_loss(minibatch, None, 90.0).loss
