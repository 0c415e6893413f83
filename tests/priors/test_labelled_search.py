"""Components of an embedding when some cells have labels: sub-types, new types, wrong labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vmmscvi.priors import FREE, CoarsenedMixture, LabelledCells, fit_coarsened_mixture
from vmmscvi.priors._evidence import Evidence, Wishart

NONE = -1


def clusters(
    n_each: int = 120, centers: tuple[tuple[float, float], ...] = ((0, 0), (8, 0), (0, 8), (8, 8))
) -> tuple[Tensor, Tensor]:
    """Round clusters in the plane, and which cluster each cell is of."""
    rng = np.random.default_rng(0)
    of = np.repeat(np.arange(len(centers)), n_each)
    return torch.as_tensor(rng.normal(size=(len(of), 2)) + np.array(centers)[of]), torch.as_tensor(of)


def some(of: Tensor, share: float = 0.5, seed: int = 1) -> Tensor:
    """Labels of a share of the cells."""
    is_labelled = torch.as_tensor(np.random.default_rng(seed).random(len(of)) < share)
    return of.where(is_labelled, NONE)


def search(z: Tensor, labels: LabelledCells | None, **options: float) -> CoarsenedMixture:
    return fit_coarsened_mixture(z, n_components=20, n_starts=1, labels=labels, **options)


def components_of(mixture: CoarsenedMixture, of: Tensor) -> list[set[int]]:
    """Labels of the components that the cells of each cluster are in."""
    at = mixture.component_labels[mixture.responsibilities.argmax(1)]
    return [set(at[of == cluster].tolist()) for cluster in range(int(of.max()) + 1)]


def test_uninformative_labels_change_nothing() -> None:
    z, of = clusters()
    usual, found = search(z, None), search(z, LabelledCells.of(torch.zeros_like(of)))
    torch.testing.assert_close(found.responsibilities, usual.responsibilities)
    assert usual.component_labels is None and found.component_labels.tolist() == [0, 0, 0, 0]
    assert LabelledCells.of(torch.full_like(of, NONE)) is None  # no label at all is the usual search


def test_every_cluster_gets_the_label_of_its_cells() -> None:
    z, of = clusters()
    mixture = search(z, LabelledCells.of(some(of)))
    assert components_of(mixture, of) == [{0}, {1}, {2}, {3}]
    assert mixture.label_noise < 0.03


def test_a_type_without_labels_stays_free() -> None:
    z, of = clusters()
    codes = some(of).where(of != 3, NONE)
    assert components_of(search(z, LabelledCells.of(codes)), of)[3] == {FREE}
    # nor do two stray labels make it a known type
    codes[torch.nonzero(of == 3)[:2].ravel()] = 0
    assert components_of(search(z, LabelledCells.of(codes)), of)[3] == {FREE}


def test_a_type_in_a_batch_without_labels_is_known_from_the_others() -> None:
    z, of = clusters()
    batches = torch.as_tensor(np.random.default_rng(3).random(len(of)) < 0.97).long()
    codes = of.where(batches == 0, NONE)  # three cells in a hundred
    mixture = search(z, LabelledCells.of(codes, batches))
    assert components_of(mixture, of) == [{0}, {1}, {2}, {3}]


def test_a_label_may_have_several_components() -> None:
    z, of = clusters()
    labels = LabelledCells.of(some(of.clamp_max(1)))
    mixture = search(z, labels)
    assert mixture.component_labels.tolist().count(1) == 3
    assert components_of(mixture, of) == [{0}, {1}, {1}, {1}]


@pytest.mark.parametrize("noise", [None, 0.1])
def test_wrong_labels_neither_make_components_nor_move_any(noise: float | None) -> None:
    z, of = clusters()
    wrong = torch.as_tensor(np.random.default_rng(2).random(len(of)) < 0.1)
    codes = some((of + wrong.long()) % 4)
    mixture = search(z, LabelledCells.of(codes, noise=noise))
    assert sorted(mixture.component_labels.tolist()) == [0, 1, 2, 3]
    assert components_of(mixture, of) == [{0}, {1}, {2}, {3}]
    assert mixture.label_noise == pytest.approx(0.1, abs=0.035)


def test_labels_that_are_never_wrong_keep_cells_of_one_place_apart() -> None:
    z, of = clusters()
    codes = torch.arange(len(of)) % 2  # two labels in the same place
    mixture = search(z, LabelledCells.of(codes, noise=0.0))
    at = mixture.component_labels[mixture.responsibilities.argmax(1)]
    assert torch.equal(at, codes)
    of_other_label = mixture.responsibilities[:, mixture.component_labels == 0][codes == 1]
    assert float(of_other_label.sum()) == 0.0


def test_a_label_of_one_cell_among_others_has_a_component_all_the_same() -> None:
    z, of = clusters()
    codes = of.clone()
    codes[5] = 4
    mixture = search(z, LabelledCells.of(codes), n_effective=100)
    assert set(mixture.component_labels.tolist()) == {0, 1, 2, 3, 4}
    np.testing.assert_allclose(mixture.responsibilities.sum(1), 1.0)
    torch.testing.assert_close(mixture.weights.sum(), torch.tensor(1.0).double())


def test_the_gain_of_a_merge_is_the_difference_of_the_labels_likelihoods() -> None:
    _, of = clusters(30)
    rng = np.random.default_rng(0)
    codes = torch.as_tensor(rng.integers(-1, 3, len(of)))
    labels = LabelledCells.of(codes, noise=0.2)
    assert labels is not None
    # three components have the first label, two the second, one the third; one is free
    r = torch.zeros(len(of), 7, dtype=torch.float64)
    for i, code in enumerate(codes.tolist()):
        r[i, {0: [0, 1, 2], 1: [3, 4], 2: [5], -1: [6]}[code][i % {0: 3, 1: 2, 2: 1, -1: 1}[code]]] = 1.0
    assert labels.of_components(r).tolist() == [0, 0, 0, 1, 1, 2, FREE]
    i, j = torch.triu_indices(7, 7, offset=1)
    for gain, first, second in zip(labels.merge_gain(r, i, j).tolist(), i, j, strict=True):
        merged = r.clone()
        merged[:, first] += merged[:, second]
        merged = merged[:, torch.arange(7) != second]
        loses = len(set(labels.of_components(r).tolist()) - {FREE, *labels.of_components(merged).tolist()})
        expected = -math.inf if loses else labels.log_likelihood(merged) - labels.log_likelihood(r)
        assert gain == pytest.approx(expected, abs=1e-9)


def test_sweeps_raise_the_free_energy_of_cells_and_labels() -> None:
    z, of = clusters()
    labels = LabelledCells.of(some(of), noise=0.1)
    evidence = Evidence(z, 200.0, Wishart.of_paper(0.25, 2), labels=labels)
    r = torch.softmax(torch.randn(len(z), 6, generator=torch.Generator().manual_seed(0)).double(), dim=1)
    rises = []
    for _ in range(30):
        before, r = r, evidence.sweep(r, 1)
        if r.shape == before.shape:  # to drop a component need not raise the free energy
            rises.append(evidence.free_energy(r) - evidence.free_energy(before))
    assert len(rises) > 25 and sum(rises) > 100
    assert min(rises) > -1e-6
