"""A mixture adapted to the cells of another batch: components that move, and components that stay."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from vmmscvi.priors import AdaptedMixture, GaussianMoments, adapt_mixture, moments_of
from vmmscvi.priors._adapted_mixture import FARTHEST, FARTHEST_GROUP
from vmmscvi.priors._latent_map import optimal_transport

K, P = 5, 4


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def reference(generator: torch.Generator) -> GaussianMoments:
    """Components some ten standard deviations apart, of weights that differ fivefold."""
    loc = 3.0 * torch.randn(K, P, generator=generator, dtype=torch.float64)
    root = 0.15 * torch.randn(K, P, P, generator=generator, dtype=torch.float64)
    covariance = root @ root.mT + 0.05 * torch.eye(P, dtype=torch.float64)
    return GaussianMoments(_shares([5.0, 4, 3, 2, 1]), loc, covariance)


def _shares(values: list[float]) -> Tensor:
    counts = torch.tensor(values, dtype=torch.float64)
    return counts / counts.sum()


def draw(
    components: GaussianMoments, n: int, generator: torch.Generator, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Draw ``n`` positions and the components that they come from."""
    chosen = torch.multinomial(
        components.weights if weights is None else weights, n, replacement=True, generator=generator
    )
    noise = torch.randn(n, P, 1, generator=generator, dtype=torch.float64)
    root = torch.linalg.cholesky(components.covariance)
    return components.loc[chosen] + (root[chosen] @ noise).squeeze(-1), chosen


def nearest(z: Tensor, components: GaussianMoments) -> Tensor:
    gaussians = torch.distributions.MultivariateNormal(components.loc, components.covariance)
    return gaussians.log_prob(z.unsqueeze(1)).argmax(1)


def test_optimal_transport_turns_one_covariance_into_the_other(reference: GaussianMoments) -> None:
    source, target = reference.covariance[:2], reference.covariance[2:4]
    maps = optimal_transport(source, target)
    torch.testing.assert_close(maps @ source @ maps.mT, target)
    torch.testing.assert_close(maps, maps.mT)
    root = sqrtm(source[0].numpy())
    inverse = np.linalg.inv(root)
    expected = inverse @ sqrtm(root @ target[0].numpy() @ root) @ inverse
    np.testing.assert_allclose(maps[0], expected, atol=1e-8)


def test_cells_that_are_as_in_the_reference_stay(
    reference: GaussianMoments, generator: torch.Generator
) -> None:
    z, _ = draw(reference, 3000, generator)
    moved = adapt_mixture(z, reference).latent_map().moved(z)
    assert (moved - z).norm(dim=1).mean() < 0.05


@pytest.mark.parametrize("weights", [[5.0, 4, 3, 2, 1], [0.2, 4, 0.2, 1, 8]], ids=["same shares", "others"])
def test_a_shift_is_undone_whatever_the_composition(
    reference: GaussianMoments, generator: torch.Generator, weights: list[float]
) -> None:
    z, component = draw(reference, 2000, generator, _shares(weights))
    shift = 0.35 * torch.randn(P, generator=generator, dtype=torch.float64)
    adapted = adapt_mixture(z + shift, reference)
    moved = adapted.latent_map().moved(z + shift)
    assert (nearest(moved, reference) == component).double().mean() > 0.99
    assert (moved - z).norm(dim=1).mean() < 0.2 * shift.norm()
    found = torch.bincount(component, minlength=K) / len(z)
    torch.testing.assert_close(adapted.adapted.weights, found.double(), atol=0.02, rtol=0)


def test_components_that_move_on_their_own_are_followed(
    reference: GaussianMoments, generator: torch.Generator
) -> None:
    displacement = 0.25 * torch.randn(K, P, generator=generator, dtype=torch.float64)
    there = reference._replace(loc=reference.loc + displacement, covariance=1.5 * reference.covariance)
    z, component = draw(there, 4000, generator)
    moved = adapt_mixture(z, reference).latent_map().moved(z)
    for k in range(K):
        cells = moved[component == k]
        assert (cells.mean(0) - reference.loc[k]).norm() < 0.4 * displacement[k].norm() + 0.05
        ratio = torch.linalg.det(torch.cov(cells.mT)) / torch.linalg.det(reference.covariance[k])
        assert 0.5 < ratio < 2.0  # and not 1.5 to the power of the dimension


def test_a_type_that_the_reference_lacks_is_left_alone_and_drags_no_component_along(
    reference: GaussianMoments, generator: torch.Generator
) -> None:
    known, _ = draw(reference, 1500, generator, _shares([5.0, 4, 3, 2, 0]))
    # where the component without cells is the nearest
    root = torch.linalg.cholesky(reference.covariance[4])
    white = torch.tensor([1.0, -1, 1, -1], dtype=torch.float64) * 5.0
    new = (
        reference.loc[4] + root @ white + 0.2 * torch.randn(300, P, generator=generator, dtype=torch.float64)
    )
    adapted = adapt_mixture(torch.cat((known, new)), reference)
    assert (adapted.latent_map().moved(new) - new).norm(dim=1).mean() < 0.3 * (root @ white).norm()
    torch.testing.assert_close(adapted.adapted.loc[:4], reference.loc[:4], atol=0.15, rtol=0)


def test_no_component_moves_farther_than_it_may(
    reference: GaussianMoments, generator: torch.Generator
) -> None:
    z, component = draw(reference, 2000, generator)
    z[component == 0] += 3.0
    adapted = adapt_mixture(z, reference)
    displacement = adapted.adapted.loc - reference.loc
    root = torch.linalg.cholesky(reference.covariance)
    white = torch.linalg.solve(root, displacement.unsqueeze(-1)).squeeze(-1)
    assert white.square().mean(1).sqrt().max() <= FARTHEST + FARTHEST_GROUP + 1e-6


def test_components_of_a_group_move_together_whatever_their_shares(
    reference: GaussianMoments, generator: torch.Generator
) -> None:
    shift = 0.3 * torch.ones(P, dtype=torch.float64)
    groups = torch.tensor([0, 0, 0, 0, 0])
    weights = _shares([1.0, 1, 1, 0, 8])  # none of the fourth component
    z, _ = draw(reference, 3000, generator, weights)
    adapted = adapt_mixture(z + shift, reference, groups)
    moved = adapted.adapted.loc - reference.loc
    torch.testing.assert_close(moved[3], shift, atol=0.08, rtol=0)
    alone = adapt_mixture(z + shift, reference).adapted.loc - reference.loc
    assert alone[3].norm() < 0.3 * shift.norm()


def test_a_component_without_cells_keeps_a_weight(
    reference: GaussianMoments, generator: torch.Generator
) -> None:
    z, _ = draw(reference, 500, generator, _shares([1.0, 1, 1, 0, 0]))
    adapted = adapt_mixture(z, reference)
    assert (adapted.adapted.weights > 1e-3).all()
    torch.testing.assert_close(adapted.adapted.covariance[4], reference.covariance[4], rtol=0.05, atol=0.01)


def test_one_cell_is_enough(reference: GaussianMoments) -> None:
    z = reference.loc[:1]
    assert torch.isfinite(adapt_mixture(z, reference).latent_map().moved(z)).all()


def test_a_map_is_the_same_after_a_file(reference: GaussianMoments, generator: torch.Generator) -> None:
    z, _ = draw(reference, 200, generator)
    adapted = adapt_mixture(z, reference)
    again = AdaptedMixture.from_dict(adapted.to_dict())
    assert torch.equal(again.latent_map().moved(z), adapted.latent_map().moved(z))


def test_moments_are_those_of_the_cells(reference: GaussianMoments, generator: torch.Generator) -> None:
    z, component = draw(reference, 20_000, generator)
    found = moments_of(z, torch.nn.functional.one_hot(component, K), reference)
    for k in range(K):
        cells = z[component == k].numpy()
        np.testing.assert_allclose(found.loc[k], cells.mean(0), atol=0.01)
        np.testing.assert_allclose(found.covariance[k], np.cov(cells.T), atol=0.02)
        assert found.weights[k] == pytest.approx(len(cells) / len(z), abs=1e-3)


def test_a_component_without_reference_cells_has_its_own_centre_and_a_usual_covariance(
    reference: GaussianMoments, generator: torch.Generator
) -> None:
    z, component = draw(reference, 5000, generator, _shares([1.0, 1, 1, 1, 0]))
    found = moments_of(z, torch.nn.functional.one_hot(component, K), reference)
    torch.testing.assert_close(found.loc[4], reference.loc[4])
    torch.testing.assert_close(found.covariance[4], reference.covariance[:4].mean(0), rtol=0.2, atol=0.03)


def test_a_query_of_one_type_stays_with_its_type(
    reference: GaussianMoments, generator: torch.Generator
) -> None:
    for k in range(K):
        one = torch.nn.functional.one_hot(torch.tensor(k), K).double()
        z, _ = draw(reference, 300, generator, one)
        moved = adapt_mixture(z + 0.2, reference).latent_map().moved(z + 0.2)
        assert (nearest(moved, reference) == k).double().mean() > 0.95
