"""The coarsened mixture: closed forms against independent ones, ascent, and how many clusters are found."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid
from scipy.special import logsumexp
from scipy.stats import entropy, gamma, multivariate_t, norm, special_ortho_group
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from torch import Tensor

from vmmscvi.priors import (
    Centers,
    CoarsenedMixture,
    GaussianMixturePrior,
    PriorState,
    VampPriorMixture,
    _merge_search,
    fit_coarsened_mixture,
    wishart_scale_factor,
)
from vmmscvi.priors._evidence import CENTER_CONFIDENCE, CONCENTRATION, TOTAL_CONCENTRATION, Evidence, Wishart
from vmmscvi.priors.functional import expected_component_log_prob

fit = partial(fit_coarsened_mixture, n_starts=1)


def clusters(
    n_obs: int, n_clusters: int, p: int, distance: float, seed: int = 0, heavy_tails: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Ellipsoids of unit size and different shapes and weights, whose centres have this typical distance."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(n_clusters, p)) * distance / math.sqrt(2 * p)
    shapes = rng.normal(size=(n_clusters, p, p)) / math.sqrt(p)
    labels = rng.choice(n_clusters, n_obs, p=rng.dirichlet(np.full(n_clusters, 5.0)))
    noise = rng.standard_t(4, size=(n_obs, p)) if heavy_tails else rng.normal(size=(n_obs, p))
    return centers[labels] + np.einsum("npq,nq->np", shapes[labels], noise), labels


def labels_of(mixture: CoarsenedMixture) -> np.ndarray:
    return mixture.responsibilities.argmax(1).numpy()


def random_assignments(n_obs: int, n_components: int, seed: int = 0, sharpness: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n_obs, n_components, generator=generator, dtype=torch.float64)
    return torch.softmax(sharpness * logits, dim=-1)


def hard_assignments(n_obs: int, n_components: int, seed: int = 0) -> Tensor:
    chosen = random_assignments(n_obs, n_components, seed).argmax(-1)
    return torch.nn.functional.one_hot(chosen, n_components).double()


# -- closed forms --------------------------------------------------------------------------------------------


def papers_evidence(z: Tensor, n_effective: float, wishart_scale_factor: float) -> Evidence:
    return Evidence(z, n_effective, Wishart.of_paper(wishart_scale_factor, z.shape[1]))


def log_marginal_by_predictives(cells: np.ndarray, wishart: Wishart) -> float:
    """Chain of Student predictives, the posterior updated cell by cell."""
    p = cells.shape[1]
    confidence, center, df = CENTER_CONFIDENCE, np.zeros(p), wishart.df
    scatter, total = np.eye(p) / wishart.scale_factor, 0.0
    for cell in cells:
        shape = scatter * (confidence + 1) / (confidence * (df - p + 1))
        total += multivariate_t(center, shape, df - p + 1).logpdf(cell)
        scatter = scatter + confidence / (confidence + 1) * np.outer(cell - center, cell - center)
        center = (confidence * center + cell) / (confidence + 1)
        confidence, df = confidence + 1, df + 1
    return float(total)


def log_probability_by_urn(assigned: np.ndarray) -> float:
    """Polya's urn: cells are assigned one after the other."""
    total = 0.0
    for i, component in enumerate(assigned):
        already = (assigned[:i] == component).sum()
        total += math.log((CONCENTRATION + already) / (TOTAL_CONCENTRATION + i))
    return total


@pytest.mark.parametrize("p", [1, 2, 5])
@pytest.mark.parametrize("scale_factor", [0.3, 2.0])
@pytest.mark.parametrize("more_df", [2.0, 2.5, 40.0])
def test_marginal_likelihood_is_the_chain_of_student_predictives(
    p: int, scale_factor: float, more_df: float
) -> None:
    wishart = Wishart(scale_factor, p + more_df)
    z, _ = clusters(9, 2, p, 3.0)
    r = hard_assignments(9, 2)
    evidence = Evidence(torch.as_tensor(z), 9, wishart)
    expected = [log_marginal_by_predictives(z[r[:, j] == 1], wishart) for j in range(2)]
    np.testing.assert_allclose(evidence.log_marginal(evidence.statistics(r)), expected, rtol=1e-10)


@pytest.mark.parametrize("n_effective", [2.0, 4.0, 8.0])
def test_marginal_likelihood_of_a_power_of_the_likelihood_is_its_integral(n_effective: float) -> None:
    z = np.array([-1.0, -0.2, 0.1, 0.4, 0.5, 0.9, 1.7, 2.5])
    r = random_assignments(8, 2)
    c = 0.7
    evidence = papers_evidence(torch.as_tensor(z)[:, None], n_effective, c)
    found = evidence.log_marginal(evidence.statistics(r))
    # substitutions that make both tails short: a centre that is a sinh, a precision that is an exponential
    s, t = np.linspace(-10, 10, 801)[:, None], np.linspace(-25, 5, 601)
    center, precision = np.sinh(s), np.exp(t)
    for component in range(2):
        powers = n_effective / 8 * r[:, component].numpy()
        log_density = sum(
            w * norm.logpdf(cell, center, precision**-0.5) for w, cell in zip(powers, z, strict=True)
        )
        log_density = log_density + norm.logpdf(center, 0, (CENTER_CONFIDENCE * precision) ** -0.5)
        # in one dimension the Wishart with three degrees of freedom
        log_density = log_density + gamma.logpdf(precision, 1.5, scale=2 * c)
        integral = trapezoid(trapezoid(np.exp(log_density) * np.cosh(s) * precision, t), s[:, 0])
        assert float(found[component]) == pytest.approx(math.log(integral), abs=1e-6)


def test_free_energy_of_hard_assignments_is_the_log_joint_of_cells_and_assignments() -> None:
    z, _ = clusters(12, 3, 3, 3.0)
    r, c = hard_assignments(12, 3), 0.4
    expected = log_probability_by_urn(r.argmax(1).numpy())
    expected += sum(
        log_marginal_by_predictives(z[r[:, j] == 1], Wishart.of_paper(c, z.shape[1])) for j in range(3)
    )
    assert papers_evidence(torch.as_tensor(z), 12, c).free_energy(r) == pytest.approx(expected, rel=1e-10)


def test_probability_of_assignments_obeys_the_urns_recursion_for_fractional_counts_too() -> None:
    evidence = papers_evidence(torch.zeros(1, 1, dtype=torch.float64), 1, 1.0)
    counts = torch.tensor([2.3, 0.6, 4.05], dtype=torch.float64)
    for j in range(3):
        more = counts + torch.nn.functional.one_hot(torch.tensor(j), 3)
        ratio = (evidence.log_assignment(more) - evidence.log_assignment(counts)).exp()
        expected = (CONCENTRATION + counts[j]) / (TOTAL_CONCENTRATION + counts.sum())
        assert float(ratio) == pytest.approx(float(expected), rel=1e-9)
    assert float(evidence.log_assignment(torch.zeros(3, dtype=torch.float64))) == pytest.approx(0, abs=1e-12)


def test_entropy_is_that_of_scipy_times_the_power() -> None:
    r = random_assignments(20, 4, sharpness=3.0)
    evidence = papers_evidence(torch.zeros(20, 1, dtype=torch.float64), 5, 1.0)
    expected = 5 / 20 * entropy(r.numpy(), axis=1).sum()
    assert float(evidence.entropy(r).sum()) == pytest.approx(expected, rel=1e-10)
    assert float(evidence.entropy(hard_assignments(20, 4)).sum()) == 0


@pytest.mark.parametrize("seed", range(3))
def test_free_energy_is_a_lower_bound_of_the_sum_over_all_assignments(seed: int) -> None:
    z, _ = clusters(6, 2, 2, 4.0, seed=seed)
    c = 0.5
    evidence = papers_evidence(torch.as_tensor(z), 6, c)
    joint = []
    for code in range(2**6):
        assigned = np.array([(code >> i) & 1 for i in range(6)])
        parts = [
            log_marginal_by_predictives(z[assigned == j], Wishart.of_paper(c, z.shape[1])) for j in range(2)
        ]
        joint.append(log_probability_by_urn(assigned) + sum(parts))
    exact = logsumexp(joint)
    for sharpness in (0.3, 1.0, 3.0, 10.0):
        assert evidence.free_energy(random_assignments(6, 2, seed, sharpness)) < exact
    reached = evidence.free_energy(evidence.sweep(random_assignments(6, 2, seed), 50))
    assert exact - 3.0 < reached < exact


def test_doubling_every_cell_changes_no_free_energy_once_cells_are_more_than_effective() -> None:
    z = torch.as_tensor(clusters(200, 3, 3, 4.0)[0])
    r = random_assignments(200, 4)
    once = papers_evidence(z, 100, 0.4).free_energy(r)
    assert papers_evidence(torch.cat((z, z)), 100, 0.4).free_energy(torch.cat((r, r))) == pytest.approx(
        once, rel=1e-12
    )


# -- ascent --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_effective", [50.0, 500.0])
def test_every_sweep_raises_the_free_energy(n_effective: float) -> None:
    z = torch.as_tensor(clusters(500, 4, 4, 4.0, heavy_tails=True)[0])
    evidence = Evidence(z, n_effective, Wishart.of_paper(0.3, 4))
    r = 0.8 * _merge_search._k_means_assignments(z, 6, seed=0) + 0.2 / 6
    rises = []
    for _ in range(60):
        before, r = r, evidence.sweep(r, 1)
        if r.shape == before.shape:  # to drop a component need not raise the free energy
            rises.append(evidence.free_energy(r) - evidence.free_energy(before))
    assert len(rises) > 50 and max(rises) > 1
    assert min(rises) > -1e-9 * abs(evidence.free_energy(r))


def test_assignments_that_no_sweep_changes_are_a_maximum_of_the_free_energy() -> None:
    z = torch.as_tensor(clusters(40, 2, 2, 6.0)[0])
    evidence = papers_evidence(z, 20, 0.5)
    r = evidence.sweep(_merge_search._k_means_assignments(z, 2, seed=0), 500)
    assert r.shape[1] == 2
    best = evidence.free_energy(r)
    for seed in range(20):
        other = 0.999 * r + 0.001 * random_assignments(40, r.shape[1], seed, sharpness=5.0)
        assert evidence.free_energy(other) < best


def test_the_merge_that_raises_the_classification_likelihood_most_is_found() -> None:
    z = torch.as_tensor(clusters(400, 3, 3, 5.0)[0])
    evidence = papers_evidence(z, 200, 0.3)
    r = evidence.sweep(_merge_search._k_means_assignments(z, 9, seed=0), 5)
    n_merges = 0
    while True:
        before = evidence.classification_likelihood(r)
        gains = {}
        for i in range(r.shape[1]):
            for j in range(i):
                keep = [k for k in range(r.shape[1]) if k not in (i, j)]
                union = torch.cat((r[:, keep], r[:, [i]] + r[:, [j]]), dim=1)
                gains[i, j] = evidence.classification_likelihood(union) - before
        merged = _merge_search._best_merge(evidence, r)
        if merged is None:
            break
        gain = evidence.classification_likelihood(merged) - before
        assert gain == pytest.approx(max(gains.values()), rel=1e-6)
        torch.testing.assert_close(merged.sum(1), torch.ones(400, dtype=torch.float64))
        r, n_merges = evidence.sweep(merged, 3), n_merges + 1
    assert max(gains.values()) <= 0 and n_merges >= 3 and r.shape[1] > 1


def test_sweeps_never_lower_the_free_energy_nor_merges_the_classification_likelihood() -> None:
    z = torch.as_tensor(clusters(2000, 6, 5, 5.0, heavy_tails=True)[0])
    evidence = papers_evidence(z, 1500, 4 / 7)
    r, n_merges = _merge_search._k_means_assignments(z, 40, seed=0), 0
    while True:
        swept = evidence.sweep(r, 3)
        assert evidence.free_energy(swept) > evidence.free_energy(r) - 1e-9 * abs(evidence.free_energy(r))
        merged = _merge_search._best_merge(evidence, swept)
        if merged is None:
            break
        assert evidence.classification_likelihood(merged) > evidence.classification_likelihood(swept)
        r, n_merges = merged, n_merges + 1
    assert n_merges > 10


def test_the_search_ends_where_neither_sweep_nor_merge_would_go_on() -> None:
    z = torch.as_tensor(clusters(2000, 6, 5, 5.0, heavy_tails=True)[0])
    mixture, evidence = fit(z, 40, 1500, wishart_scale_factor=4 / 7), papers_evidence(z, 1500, 4 / 7)
    found = mixture.responsibilities
    assert mixture.free_energy == pytest.approx(evidence.free_energy(found), rel=1e-12)
    assert 1 < found.shape[1] < 40 and _merge_search._best_merge(evidence, found) is None
    swept = evidence.free_energy(evidence.sweep(found, 1))
    assert mixture.free_energy < swept + 1e-9 * abs(swept)
    assert swept == pytest.approx(mixture.free_energy, rel=1e-4)


def test_components_that_overlap_are_one_cluster_though_the_density_takes_two() -> None:
    rng = np.random.default_rng(0)
    z = np.concatenate((0.4 * rng.normal(size=(4000, 3)), 0.8 * rng.normal(size=(4000, 3))))
    bic = [GaussianMixture(n, random_state=0).fit(z).bic(z) for n in (1, 2)]
    assert bic[1] < bic[0] - 1000
    assert len(fit(z, n_effective=4000).weights) == 1
    z[4000:] += 4
    assert len(fit(z, n_effective=4000).weights) == 2


def test_the_best_of_several_searches_is_returned() -> None:
    z = clusters(2000, 6, 5, 3.0, heavy_tails=True)[0]
    evidence = papers_evidence(torch.as_tensor(z), 500, 4 / 7)
    options = {"n_components": 40, "n_effective": 500, "wishart_scale_factor": 4 / 7, "seed": 3}
    # the first starts are the same, however many follow
    found = [
        evidence.classification_likelihood(fit(z, **options, n_starts=n_starts).responsibilities)
        for n_starts in range(1, 6)
    ]
    assert found[-1] > found[0] + 1
    assert all(more >= fewer for fewer, more in pairwise(found))


@pytest.mark.parametrize("width", [0.15, 0.4, 0.8])
def test_the_width_of_clusters_is_learned(width: float) -> None:
    p, centres = 5, 4 * np.eye(5)
    z = np.repeat(centres, 600, axis=0) + width * np.random.default_rng(0).normal(size=(3000, p))
    mixture = fit_coarsened_mixture(z, n_effective=1000)
    assert len(mixture.weights) == 5
    assert mixture.expected_covariance.numpy() == pytest.approx(width**2 * np.eye(p), abs=0.2 * width**2)


def test_groups_of_few_effective_cells_are_found_where_clusters_are_narrow() -> None:
    rng = np.random.default_rng(0)
    sizes, axes = (7000, 1500, 620, 620, 260), np.eye(10)
    centres = np.stack((*(2 * axes[:3]), 2 * axes[2] + 1.2 * axes[4], -axes.sum(0)))
    labels = np.repeat(range(5), sizes)
    z = centres[labels] + 0.12 * rng.normal(size=(10_000, 10))
    assert adjusted_rand_score(labels, labels_of(fit_coarsened_mixture(z, n_effective=750))) > 0.999
    assert (
        len(fit(z, n_effective=750, wishart_scale_factor=4 / 12).weights) < 5
    )  # a wide prior would join two of them


def test_components_without_cells_are_dropped_and_no_cell_is_left_without_one() -> None:
    z = torch.cat((torch.zeros(990, 1), torch.full((10, 1), 100.0))).double()
    z[:990] += torch.randn(990, 1, generator=torch.Generator().manual_seed(0))
    r = torch.zeros(1000, 3, dtype=torch.float64)
    r[:990, 0], r[990:, 1] = 1.0, 1.0  # ten cells count as 0.2, and nothing else is near them
    result = papers_evidence(z, 20, 0.3).sweep(r, 1)
    assert result.shape == (1000, 1)
    assert torch.equal(result, torch.ones(1000, 1, dtype=torch.float64))


def test_a_component_that_is_emptied_by_the_last_sweep_is_dropped_too() -> None:
    z = torch.as_tensor(clusters(300, 1, 2, 0.0)[0])
    r = torch.zeros(300, 2, dtype=torch.float64)
    r[:, 1] = 0.002  # six tenths of a cell, which belong to the other component as well
    r[:, 0] = 1 - r[:, 1]
    evidence = papers_evidence(z, 300, 0.3)
    assert evidence.statistics(r).alive().all()
    result = evidence.sweep(r, 1)
    assert evidence.statistics(result).alive().all() and result.shape == (300, 1)


# -- how many clusters ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_obs", "n_clusters", "p"), [(400, 3, 2), (1500, 8, 5), (3000, 12, 10)])
def test_well_separated_gaussians_are_found_exactly(n_obs: int, n_clusters: int, p: int) -> None:
    z, labels = clusters(n_obs, n_clusters, p, distance=40.0)
    mixture = fit(z)
    assert len(mixture.weights) == n_clusters
    assert adjusted_rand_score(labels, labels_of(mixture)) == 1
    shares = np.sort(np.bincount(labels) / n_obs)[::-1]
    np.testing.assert_allclose(mixture.weights, shares, atol=1e-9)
    for component, loc, covariance in zip(range(n_clusters), mixture.loc, mixture.covariance, strict=True):
        cells = z[labels_of(mixture) == component]
        np.testing.assert_allclose(loc, cells.mean(0), atol=1e-6)
        np.testing.assert_allclose(covariance, np.cov(cells.T, bias=True), atol=1e-6)


@pytest.mark.parametrize("p", [1, 2, 10])
@pytest.mark.parametrize("n_obs", [30, 500, 3000])
@pytest.mark.parametrize("size", [0.3, 3.0])
def test_one_gaussian_is_one_component(n_obs: int, p: int, size: float) -> None:
    z = size * clusters(n_obs, 1, p, distance=0.0)[0] + 1.0
    mixture = fit(z, n_components=min(60, n_obs // 10))
    assert len(mixture.weights) == 1
    assert torch.equal(mixture.responsibilities, torch.ones(n_obs, 1, dtype=torch.float64))


@pytest.fixture(scope="module")
def overlapping() -> tuple[np.ndarray, np.ndarray]:
    return clusters(3000, 7, 6, distance=7.0, seed=2)


def test_the_answer_does_not_depend_on_where_the_search_starts(
    overlapping: tuple[np.ndarray, np.ndarray],
) -> None:
    z, labels = overlapping
    mixtures = [fit(z, n_components=n) for n in (30, 60, 120)] + [fit(z, seed=seed) for seed in (1, 2, 3)]
    assert {len(mixture.weights) for mixture in mixtures} == {7}
    for mixture in mixtures:
        assert adjusted_rand_score(labels_of(mixture), labels_of(mixtures[0])) > 0.998
        assert mixture.free_energy == pytest.approx(mixtures[0].free_energy, rel=2e-3)
    assert adjusted_rand_score(labels, labels_of(mixtures[0])) > 0.95


def test_the_order_of_cells_does_not_matter(overlapping: tuple[np.ndarray, np.ndarray]) -> None:
    z, _ = overlapping
    order = np.random.default_rng(0).permutation(len(z))
    straight, shuffled = fit(z), fit(z[order])
    assert adjusted_rand_score(labels_of(straight)[order], labels_of(shuffled)) > 0.998
    np.testing.assert_allclose(straight.weights, shuffled.weights, atol=1e-3)


def test_a_rotation_does_not_matter(overlapping: tuple[np.ndarray, np.ndarray]) -> None:
    z, _ = overlapping
    rotation = special_ortho_group(6, seed=0).rvs()
    straight, rotated = fit(z), fit(z @ rotation)
    assert adjusted_rand_score(labels_of(straight), labels_of(rotated)) > 0.999
    np.testing.assert_allclose(straight.loc @ rotation, rotated.loc, atol=0.02)


def test_a_linear_map_does_not_matter(overlapping: tuple[np.ndarray, np.ndarray]) -> None:
    z, _ = overlapping
    stretched = z @ (np.diag([0.05, 0.3, 1.0, 2.0, 5.0, 0.7]) @ special_ortho_group(6, seed=0).rvs())
    straight, mapped = (fit_coarsened_mixture(x, n_effective=750) for x in (z, stretched))
    assert len(straight.weights) == len(mapped.weights) == 7
    assert adjusted_rand_score(labels_of(straight), labels_of(mapped)) > 0.995
    # a round prior would not have found them
    fixed = fit(stretched, n_effective=750, wishart_scale_factor=0.5)
    assert adjusted_rand_score(labels_of(straight), labels_of(fixed)) < 0.9


def test_more_cells_of_the_same_kind_do_not_find_more_clusters(
    overlapping: tuple[np.ndarray, np.ndarray],
) -> None:
    z, _ = overlapping
    once, twice = fit(z, n_effective=1000), fit(np.concatenate((z, z)), n_effective=1000)
    assert len(once.weights) == len(twice.weights) == 7
    assert adjusted_rand_score(labels_of(once), labels_of(twice)[: len(z)]) > 0.999
    assert once.free_energy == pytest.approx(twice.free_energy, rel=2e-3)


def test_skewed_clusters_stay_whole() -> None:
    rng = np.random.default_rng(0)
    z, labels = clusters(8000, 3, 2, distance=25.0, seed=1)
    z[:, 0] += rng.gamma(1.0, 4.0, size=8000)
    for n_effective in (100, 500, 2000):
        found = fit(z, n_effective=n_effective)
        assert len(found.weights) == 3
        assert adjusted_rand_score(labels, labels_of(found)) > 0.99


def test_a_small_share_that_is_well_separated_is_found() -> None:
    z, labels = clusters(10_000, 5, 10, distance=15.0)
    rare = np.random.default_rng(1).choice(10_000, 50, replace=False)
    z[rare] = 0.4 * np.random.default_rng(2).normal(size=(50, 10)) + 12.0
    labels[rare] = 5
    mixture = fit(z)
    assert len(mixture.weights) == 6
    assert float(mixture.weights[-1]) == pytest.approx(0.005, abs=1e-5)
    assert set(np.flatnonzero(labels_of(mixture) == 5)) == set(rare)


def test_no_more_clusters_are_found_than_asked_for(overlapping: tuple[np.ndarray, np.ndarray]) -> None:
    assert len(fit(overlapping[0], n_components=4).weights) == 4
    assert len(fit(overlapping[0], n_components=1).weights) == 1


# -- what comes in and out -----------------------------------------------------------------------------------


def test_a_mixture_is_sorted_normalised_and_in_double_precision(
    overlapping: tuple[np.ndarray, np.ndarray],
) -> None:
    z = torch.as_tensor(overlapping[0], dtype=torch.float32).requires_grad_()
    mixture = fit(z)
    assert [tuple(t.shape) for t in mixture[:4]] == [(3000, 7), (7,), (7, 6), (7, 6, 6)]
    assert all(t.dtype == torch.float64 and not t.requires_grad for t in mixture[:4])
    assert (mixture.weights.diff() <= 0).all() and float(mixture.weights.sum()) == pytest.approx(1)
    torch.testing.assert_close(mixture.responsibilities.sum(1), torch.ones(3000, dtype=torch.float64))
    torch.testing.assert_close(mixture.responsibilities.mean(0), mixture.weights)
    assert (torch.linalg.eigvalsh(mixture.covariance) > 0).all()


def test_a_fit_changes_neither_its_input_nor_any_random_state(
    overlapping: tuple[np.ndarray, np.ndarray],
) -> None:
    z = overlapping[0].copy()
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = fit(z), fit(z)
    np.testing.assert_array_equal(z, overlapping[0])
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert all(torch.equal(a, b) for a, b in zip(first[:4], second[:4], strict=True))


def test_more_effective_cells_than_there_are_mean_all_of_them() -> None:
    z, _ = clusters(300, 3, 3, distance=8.0)
    reference = fit(z, n_effective=300)
    for n_effective in (301.0, 1e9, math.inf):
        assert torch.equal(fit(z, n_effective=n_effective).responsibilities, reference.responsibilities)


@pytest.mark.parametrize(
    ("z", "expected"),
    [
        (np.zeros((50, 3)), 1),
        (np.ones((1, 2)), 1),
        (np.repeat([[-9.0, 0.0], [9.0, 0.0]], 100, axis=0), 2),
        (np.repeat([[-9.0], [9.0]], 100, axis=0), 2),
    ],
    ids=["one point", "one cell", "two points", "two points in one dimension"],
)
def test_cells_that_are_all_alike_are_no_trouble(z: np.ndarray, expected: int) -> None:
    mixture = fit(z)
    assert len(mixture.weights) == expected
    assert all(torch.isfinite(t).all() for t in mixture[:4])


@pytest.mark.parametrize("n_effective", [0.1, 3.0, 20.0])
def test_hardly_any_effective_cells_find_hardly_any_clusters(n_effective: float) -> None:
    mixture = fit(clusters(500, 4, 3, distance=4.0)[0], n_effective=n_effective)
    assert 1 <= len(mixture.weights) <= 4
    assert all(torch.isfinite(t).all() for t in mixture[:4])


GOOD = np.random.default_rng(0).normal(size=(20, 2))
BAD_CALLS: dict[str, tuple[Callable[[], CoarsenedMixture], str]] = {
    "vector": (lambda: fit(GOOD[:, 0]), r"`z` must be a finite matrix .* found shape \(20,\)"),
    "no cells": (lambda: fit(GOOD[:0]), r"`z` must be a finite matrix .* found shape \(0, 2\)"),
    "no dimensions": (lambda: fit(GOOD[:, :0]), r"`z` must be a finite matrix .* found shape \(20, 0\)"),
    "NaN": (lambda: fit(np.where(GOOD > 1, np.nan, GOOD)), "with [1-9][0-9]* values that are not finite"),
    "infinite": (lambda: fit(np.where(GOOD > 1, np.inf, GOOD)), "with [1-9][0-9]* values that are not"),
    "no components": (lambda: fit(GOOD, n_components=0), "must be positive, found n_components=0"),
    "no effective cells": (lambda: fit(GOOD, n_effective=0), "must be positive, .*n_effective=0"),
    "NaN effective cells": (lambda: fit(GOOD, n_effective=math.nan), "must be positive, .*n_effective=nan"),
    "negative scale": (lambda: fit(GOOD, wishart_scale_factor=-1), "wishart_scale_factor=-1"),
}


@pytest.mark.parametrize(("call", "message"), BAD_CALLS.values(), ids=BAD_CALLS.keys())
def test_bad_arguments_are_named(call: Callable[[], CoarsenedMixture], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# -- a prior that starts from it -----------------------------------------------------------------------------


@pytest.fixture(
    params=[
        (prior_class, scale)
        for prior_class in (GaussianMixturePrior, VampPriorMixture)
        for scale in ("paper", "learned")
    ]
)
def started(request: pytest.FixtureRequest) -> tuple:
    z, _ = clusters(600, 4, 3, distance=8.0)
    mixture = fit(z)
    variance = torch.rand(4, 3, generator=torch.Generator().manual_seed(0)) + 0.1
    prior_class, wishart_scale = request.param
    prior = prior_class(10, 3, wishart_scale=wishart_scale)
    return prior.initialised_from(mixture, 600.0, variance), mixture, torch.as_tensor(z), variance.double()


def test_a_prior_takes_over_number_weights_and_centres(started: tuple) -> None:
    prior, mixture, _, _ = started
    assert prior.n_components == 4 and prior.state is PriorState.FITTED
    torch.testing.assert_close(prior.weights, mixture.weights.float())
    if isinstance(prior, GaussianMixturePrior):
        torch.testing.assert_close(prior.loc.detach(), mixture.loc.float())
    assert {p.dtype for p in prior.parameters()} == {torch.float32}


def test_the_wishart_prior_is_round_or_as_wide_as_clusters_are(started: tuple) -> None:
    prior, mixture, _, variance = started
    root = prior.wishart_scatter_root.double()
    mode = torch.linalg.inv(root @ root.mT)
    if prior.wishart_scale == "learned":
        spread = torch.diag((mixture.weights[:, None] * variance).sum(0))
        expected = torch.linalg.inv(mixture.expected_covariance + spread)
    else:
        expected = wishart_scale_factor(prior.wishart_scale, 4, 3) * torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(mode, expected, rtol=1e-4, atol=1e-5)


def test_precisions_maximise_the_empirical_bayes_objective_for_the_assignments(started: tuple) -> None:
    prior, mixture, z, variance = started
    root = prior.wishart_scatter_root.double()

    def objective(cholesky: Tensor) -> Tensor:
        # posteriors spread around their means: that is the expectation over centres, read backwards
        log_prob = expected_component_log_prob(z, mixture.loc, variance.sqrt(), cholesky)
        wishart = torch.distributions.Wishart(
            torch.tensor(5.0, dtype=z.dtype),
            torch.linalg.inv(root @ root.mT),
            validate_args=False,
        )
        return (mixture.responsibilities * log_prob).sum() + wishart.log_prob(cholesky @ cholesky.mT).sum()

    best = prior.precision_cholesky().detach().double()
    cholesky = best.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(cholesky), cholesky)
    assert gradient.tril().abs().max() < 1e-2, "the sum over 600 cells, so 2e-5 for each"
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        other = best + 0.05 * torch.randn(best.shape, generator=generator, dtype=best.dtype).tril()
        assert objective(other) < objective(best)


@pytest.mark.parametrize("prior_class", [GaussianMixturePrior, VampPriorMixture])
@pytest.mark.parametrize("asked", [None, True, False])
def test_components_that_were_found_are_fitted_by_textbook_em_unless_asked_otherwise(
    prior_class: type, asked: bool | None
) -> None:
    z, _ = clusters(300, 2, 3, distance=2.5)
    mixture = fit_coarsened_mixture(z, 2, wishart_scale_factor=1.0, n_starts=1)
    n_found = len(mixture.weights)
    unfitted = prior_class(10, 3, responsibilities_in_gradient=asked)
    prior = unfitted.initialised_from(mixture, 300.0, torch.ones(n_found, 3))
    loaded = prior_class(n_found, 3, responsibilities_in_gradient=asked)
    loaded.load_state_dict(prior.state_dict())

    def slope(prior: Any, in_gradient: bool | None) -> Tensor:
        prior.responsibilities_in_gradient = in_gradient
        centers = Centers(torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])[: prior.n_components], None)
        loss = prior.empirical_bayes_loss(torch.as_tensor(z).float(), centers).loss
        return torch.autograd.grad(loss, prior.precision_cholesky.parameters(), allow_unused=True)[0]

    for trained in (prior, loaded):
        default = slope(trained, asked)
        torch.testing.assert_close(default, slope(trained, bool(asked)))
        assert not torch.allclose(default, slope(trained, not asked))
