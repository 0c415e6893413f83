"""After initialisation from clusters, pseudo-inputs represent many observations, with certain positions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import MultivariateNormal, Normal

from vmmscvi.priors import Centers, CoarsenedMixture, VampPriorMixture

P, SHARES = 3, torch.tensor([0.9, 0.0999, 0.0001], dtype=torch.float64)


@pytest.fixture
def started() -> VampPriorMixture:
    """A prior that started from three clusters of 1000 effective observations, one of which is tiny."""
    mixture = CoarsenedMixture(
        responsibilities=torch.empty(0, 3, dtype=torch.float64),
        weights=SHARES,
        loc=torch.zeros(3, P, dtype=torch.float64),
        covariance=torch.eye(P, dtype=torch.float64).expand(3, P, P),
    )
    return VampPriorMixture(5, P).initialised_from(mixture, 1000.0, torch.zeros(3, P))


def test_the_mean_of_so_many_positions_has_so_many_times_less_variance(started: VampPriorMixture) -> None:
    scale = torch.rand(3, P) + 0.5
    loc, found = started.centers_from(Normal(torch.randn(3, P), scale))
    torch.testing.assert_close(found**2 * torch.tensor([[900.0], [99.9], [1.0]]), scale**2)
    assert loc.shape == (3, P)


def test_full_covariances_shrink_alike(started: VampPriorMixture) -> None:
    factor = torch.randn(3, P, P).tril() + 3 * torch.eye(P)
    q = MultivariateNormal(torch.zeros(3, P), scale_tril=factor)
    _, found = started.centers_from(q)
    expected = q.covariance_matrix / torch.tensor([900.0, 99.9, 1.0]).view(3, 1, 1)
    torch.testing.assert_close(found @ found.mT, expected)


def test_drawn_pseudo_inputs_are_as_uncertain_as_one_observation() -> None:
    q = Normal(torch.randn(5, P), torch.rand(5, P) + 0.5)
    assert all(map(torch.equal, VampPriorMixture(5, P).centers_from(q), Centers.from_distribution(q)))


def test_weights_have_no_gradient_by_the_uncertainty_of_centres(started: VampPriorMixture) -> None:
    scale = torch.ones(3, P, requires_grad=True)
    started.centers_from(Normal(torch.zeros(3, P), scale)).scale.sum().backward()
    assert scale.grad is not None and started.pi_logits.grad is None


@pytest.mark.parametrize(("n_effective", "expected"), [(1000.0, 1.0), (None, 3.0)], ids=["found", "drawn"])
def test_components_that_were_found_are_as_wide_as_their_cluster(
    started: VampPriorMixture, n_effective: float | None, expected: float
) -> None:
    """Where an observation tells nothing of its position, all posteriors are N(0, 1), and so is the cluster.

    The optimum of the paper's objective is a precision of 1/2, as an uncertain centre explains nothing;
    its uncertainty widens the component once more.
    """
    started.n_effective = n_effective
    torch.manual_seed(0)
    z, centers = torch.randn(20_000, P), started.centers_from(Normal(torch.zeros(3, P), torch.ones(3, P)))
    optimizer = torch.optim.Adam(started.precision_cholesky.parameters(), lr=0.02)
    for _ in range(400):
        optimizer.zero_grad()
        started.empirical_bayes_loss(z, centers, 1e6).loss.backward()
        optimizer.step()
    variance = started.component_distribution(centers).covariance_matrix[0].diagonal()
    assert variance.tolist() == pytest.approx([expected] * P, rel=0.05)


def test_precisions_start_at_the_mode_of_their_posterior() -> None:
    """A Wishart prior with p + 2 degrees of freedom, and so many effective observations of each cluster."""
    prior = VampPriorMixture(5, P, wishart_scale=0.7)
    n, n_clusters = 12.0, 2
    factor = torch.randn(n_clusters, P, P, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    covariance = factor @ factor.mT + torch.eye(P, dtype=torch.float64)
    weights = torch.tensor([0.75, 0.25], dtype=torch.float64)
    mixture = CoarsenedMixture(
        responsibilities=torch.empty(0, n_clusters, dtype=torch.float64),
        weights=weights,
        loc=torch.zeros(n_clusters, P, dtype=torch.float64),
        covariance=covariance,
    )
    started = prior.initialised_from(mixture, n, torch.zeros(n_clusters, P))
    cholesky = started.precision_cholesky().detach().double().numpy()
    for j in range(n_clusters):

        def log_posterior(precision: np.ndarray, j: int = j) -> float:
            """Logarithm of the density of the prior, and the expected log-likelihood."""
            log_likelihood = np.linalg.slogdet(precision)[1] - np.trace(precision @ covariance[j].numpy())
            log_prior = stats.wishart.logpdf(precision, df=P + 2, scale=0.7 * np.eye(P))
            return float(log_prior + 0.5 * n * weights[j] * log_likelihood)

        found = cholesky[j] @ cholesky[j].T
        best = log_posterior(found)
        for direction in (found, np.eye(P) * np.trace(found) / P, np.diag(np.diag(found))):
            assert max(log_posterior(found + step * direction) for step in (-0.02, 0.02)) < best


@pytest.mark.parametrize("n_effective", [None, 250.0])
def test_a_saved_prior_keeps_its_effective_sample_size_or_none(n_effective: float | None) -> None:
    saved, loaded = VampPriorMixture(3, P), VampPriorMixture(3, P)
    saved.n_effective, loaded.n_effective = n_effective, 7.0
    loaded.load_state_dict(saved.state_dict())
    assert loaded.n_effective == n_effective
