"""The Wishart prior that clusters make likely: a maximum, whatever the coordinates, and what that is for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from vmmscvi.priors import fit_coarsened_mixture
from vmmscvi.priors._evidence import CENTER_CONFIDENCE, Evidence, Statistics, Wishart, merge_gain
from vmmscvi.priors._learned_wishart import (
    CENTER_CONFIDENCES,
    EXCESS_DEGREES,
    PRECISIONS,
    LearnedWishart,
    most_likely_confidence,
    most_likely_matrix,
    most_likely_wishart,
    smallest_variance_of,
    whitening_of_clusters,
)

P, K, N_EFFECTIVE = 3, 6, 300.0


@pytest.fixture
def cells() -> tuple[Tensor, Tensor]:
    """Positions in clusters whose covariances are alike, but not the same, and hard assignments."""
    generator = torch.Generator().manual_seed(0)
    widths = torch.tensor([0.4, 0.5, 0.6, 0.5, 0.5, 0.4], dtype=torch.float64).repeat_interleave(100)
    centres = 8.0 * torch.randn(K, P, generator=generator, dtype=torch.float64).repeat_interleave(100, 0)
    z = centres + widths[:, None] * torch.randn(600, P, generator=generator, dtype=torch.float64)
    return z, torch.eye(K, dtype=torch.float64).repeat_interleave(100, 0)


def statistics_of(z: Tensor, r: Tensor) -> Statistics:
    return Evidence(z, N_EFFECTIVE, Wishart(1.0, P + 2.0)).statistics(r)


def learned(z: Tensor, r: Tensor, smallest_variance: float = 0.0) -> LearnedWishart:
    return most_likely_matrix(statistics_of(z, r), whitening_of_clusters(z, r), smallest_variance)


def likelihood(prior: LearnedWishart, z: Tensor, r: Tensor) -> float:
    evidence = prior.evidence(z, N_EFFECTIVE)
    return evidence.classification_likelihood(r) + float(N_EFFECTIVE * prior.log_volume())


def test_the_wishart_prior_chosen_is_the_most_likely_one(cells: tuple[Tensor, Tensor]) -> None:
    z, r = cells
    chosen = most_likely_wishart(statistics_of(z, r))

    def of(scale: float, more: float) -> float:
        df = P + 1 + (chosen.df - P - 1) * more
        other = Wishart(scale * chosen.expected_precision / df, df)
        return Evidence(z, N_EFFECTIVE, other).classification_likelihood(r)

    best = of(1.0, 1.0)
    assert 3 < chosen.expected_precision < 6 and 8 < chosen.df < 200, "clusters are alike, but not the same"
    assert all(best >= of(2.0 ** (i / 4), 1.0) for i in (-8, -2, -1, 1, 2, 8))
    assert all(best >= of(1.0, 2.0 ** (i / 2)) for i in (-4, -1, 1, 4))


def test_no_wishart_prior_of_the_grid_is_more_likely_than_the_chosen_one() -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(57, P, generator=generator, dtype=torch.float64) * 3.0 + 5.0
    r = torch.softmax(torch.randn(57, K, generator=generator, dtype=torch.float64), dim=-1)
    s = statistics_of(z, r)
    chosen = most_likely_wishart(s)

    def of(wishart: Wishart) -> float:
        return float(Evidence(z, N_EFFECTIVE, wishart).log_marginal(s).sum())

    grid = [
        Wishart(precision / (P + 1 + excess), P + 1 + excess)
        for excess in EXCESS_DEGREES
        for precision in PRECISIONS.tolist()
    ]
    assert of(chosen) == pytest.approx(max(map(of, grid)), rel=1e-12)
    assert chosen.expected_precision == pytest.approx(max(grid, key=of).expected_precision)


def centres_of_variance(variance: float, n_clusters: int) -> tuple[Tensor, Tensor]:
    """Clusters of unit width in ten dimensions, their centres drawn around the origin, and assignments."""
    rng, labels = np.random.default_rng(0), np.repeat(range(n_clusters), 40)
    centres = variance**0.5 * rng.normal(size=(n_clusters, 10))
    z = torch.as_tensor(centres[labels] + rng.normal(size=(len(labels), 10)))
    return z, torch.nn.functional.one_hot(torch.as_tensor(labels)).double()


@pytest.mark.parametrize("variance", [0.5, 2.0, 10.0])
def test_the_confidence_of_centres_is_one_over_their_variance_in_units_of_clusters(variance: float) -> None:
    z, r = centres_of_variance(variance, n_clusters=100)
    evidence = Evidence(z, len(z), Wishart(1.0 / 200, 200.0))
    found = most_likely_confidence(evidence.statistics(r), evidence.wishart)
    assert 0.7 < found * variance < 1.5


def test_no_confidence_of_centres_is_more_likely_than_the_chosen_one() -> None:
    z, r = centres_of_variance(3.0, n_clusters=6)
    prior = learned(z, r)
    others = [prior._replace(center_confidence=confidence) for confidence in CENTER_CONFIDENCES]
    assert CENTER_CONFIDENCES[0] < prior.center_confidence < CENTER_CONFIDENCES[-1]
    assert likelihood(prior, z, r) == pytest.approx(max(likelihood(other, z, r) for other in others))


def test_where_centres_are_crowded_a_further_cluster_costs_less() -> None:
    z, r = centres_of_variance(1.0, n_clusters=8)
    prior = learned(z, r)
    i, j = torch.triu_indices(8, 8, offset=1)

    def gain_of_merging(confidence: float) -> Tensor:
        evidence = prior._replace(center_confidence=confidence).evidence(z, N_EFFECTIVE)
        return merge_gain(evidence.statistics(r), i, j, evidence)

    assert prior.center_confidence > 10 * CENTER_CONFIDENCE
    saved = gain_of_merging(CENTER_CONFIDENCE) - gain_of_merging(prior.center_confidence)
    assert float(saved.median()) > 5, "nats"


def test_a_single_centre_gives_the_smallest_confidence(cells: tuple[Tensor, Tensor]) -> None:
    z, r = cells
    assert learned(z - z.mean(0), r.sum(1, keepdim=True)).center_confidence == CENTER_CONFIDENCES[0]


@pytest.mark.parametrize("offset", [3.0, -1000.0])
def test_where_an_embedding_is_does_not_matter(offset: float) -> None:
    z, _ = centres_of_variance(4.0, n_clusters=5)
    here, there = (fit_coarsened_mixture(x, n_components=20, n_starts=1) for x in (z, z + offset))
    assert len(here.weights) == 5
    torch.testing.assert_close(here.responsibilities, there.responsibilities, rtol=0.0, atol=1e-4)
    torch.testing.assert_close(there.loc, here.loc + offset, rtol=1e-6, atol=1e-4)


def test_no_other_scale_matrix_is_more_likely(cells: tuple[Tensor, Tensor]) -> None:
    z, r = cells
    z = z @ torch.tensor([[3.0, 0.5, 0.0], [0.0, 1.0, 0.2], [0.3, 0.0, 0.1]], dtype=z.dtype)
    found = learned(z, r)
    best, generator = likelihood(found, z, r), torch.Generator().manual_seed(1)
    for size in (0.03, 0.3):
        for _ in range(20):
            step = torch.randn(P, P, generator=generator, dtype=z.dtype) * size
            other = found._replace(whitening=found.whitening @ torch.linalg.matrix_exp(step))
            assert likelihood(other, z, r) < best


def test_learning_on_never_makes_clusters_less_likely() -> None:
    """Alike clusters of few effective cells, beside a smallest variance that is added to nothing."""
    rng, p, n_clusters = np.random.default_rng(0), 10, 10
    map_ = torch.as_tensor(np.eye(p) + 0.2 * rng.normal(size=(p, p)))
    labels = np.repeat(range(n_clusters), 100)
    z = torch.as_tensor(8.0 * rng.normal(size=(n_clusters, p))[labels] + rng.normal(size=(1000, p))) @ map_
    r = torch.nn.functional.one_hot(torch.as_tensor(labels)).double()
    s, whitening = statistics_of(z, r), whitening_of_clusters(z, r)
    values = []
    for _ in range(6):
        prior = most_likely_matrix(s, whitening, smallest_variance_of(z))
        values.append(likelihood(prior, z, r))
        whitening = prior.whitening
    assert prior.wishart.df > 100
    assert np.all(np.diff(values) > -1e-6)


def test_a_fit_is_described_in_the_coordinates_of_the_embedding() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(range(4), 300)
    z = 9.0 * rng.normal(size=(4, P))[labels] + rng.normal(size=(1200, P))
    map_ = np.array([[2.0, 0.5, 0.0], [0.0, 1.0, 0.2], [0.3, 0.0, 0.5]])
    here, there = (fit_coarsened_mixture(x, n_effective=400) for x in (z, z @ map_))
    log_volume = np.linalg.slogdet(map_).logabsdet
    assert here.free_energy - there.free_energy == pytest.approx(400 * log_volume, abs=1.0)


def test_a_linear_map_of_the_embedding_maps_the_expected_covariance(cells: tuple[Tensor, Tensor]) -> None:
    z, r = cells
    map_ = torch.tensor([[3.0, 0.5, 0.0], [0.0, 1.0, 0.2], [0.3, 0.0, 0.5]], dtype=z.dtype)
    expected = map_.mT @ learned(z, r).expected_covariance() @ map_
    found = learned(z @ map_, r).expected_covariance()
    torch.testing.assert_close(found, expected, rtol=0.03, atol=0.0)


def test_a_component_of_two_clusters_has_little_say(cells: tuple[Tensor, Tensor]) -> None:
    z, r = cells
    apart = learned(z, r).expected_covariance()
    joined = torch.cat((r[:, :2].sum(1, keepdim=True), r[:, 2:]), dim=1)
    narrow = learned(z, joined).expected_covariance()
    mean = torch.linalg.inv(whitening_of_clusters(z, joined))
    assert torch.linalg.det(narrow) < 3 * torch.linalg.det(apart)
    assert torch.linalg.det(mean.mT @ mean) > 30 * torch.linalg.det(apart)


def test_constant_directions_are_handled(cells: tuple[Tensor, Tensor]) -> None:
    z, r = cells
    flat = torch.cat((z[:, :2], torch.full((len(z), 1), 2.0, dtype=z.dtype)), dim=1)
    found = learned(flat, r, smallest_variance_of(flat))
    assert found.whitening.isfinite().all()
    assert float(found.expected_covariance()[2, 2]) < 4 * smallest_variance_of(flat)


@pytest.mark.parametrize(("n_pairs", "n_effective"), [(1, 400), (2, 500), (3, 1500)])
def test_pairs_of_subtypes_are_told_apart(n_pairs: int, n_effective: float) -> None:
    """All pairs differ in one direction; once they were merged, the prior expected wide clusters."""
    rng, p = np.random.default_rng(0), 8
    n_clusters = 2 * n_pairs + 3
    centers = np.zeros((n_clusters, p))
    for i in range(n_pairs):
        centers[2 * i : 2 * i + 2, i + 1] = 9.0
        centers[2 * i : 2 * i + 2, 0] = -2.1, 2.1
    centers[2 * n_pairs :] = 6.0 * rng.normal(size=(3, p))
    shares = np.array([0.12] * (2 * n_pairs) + [(1 - 0.24 * n_pairs) / 3] * 3)
    labels = rng.choice(n_clusters, 4000, p=shares)
    z = centers[labels] + rng.normal(size=(4000, p))
    found = fit_coarsened_mixture(z, n_effective=n_effective)
    assert len(found.weights) == n_clusters
    assert adjusted_rand_score(labels, found.responsibilities.argmax(1).numpy()) > 0.95


@pytest.mark.parametrize(("n_obs", "p"), [(30, 2), (60, 1), (60, 10), (300, 10)])
def test_few_cells_of_one_gaussian_are_one_cluster(n_obs: int, p: int) -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        z = rng.normal(size=(n_obs, p)) @ rng.normal(size=(p, p))
        assert len(fit_coarsened_mixture(z).weights) == 1


@pytest.mark.parametrize(("n_clusters", "size", "p"), [(20, 10, 10), (10, 20, 20), (5, 12, 10)])
def test_clusters_of_few_cells_are_found_where_they_are_far_apart(n_clusters: int, size: int, p: int) -> None:
    rng, labels = np.random.default_rng(0), np.repeat(range(n_clusters), size)
    z = 8.0 * rng.normal(size=(n_clusters, p))[labels] + rng.normal(size=(n_clusters * size, p))
    found = fit_coarsened_mixture(z)
    assert adjusted_rand_score(labels, found.responsibilities.argmax(1).numpy()) == 1.0
