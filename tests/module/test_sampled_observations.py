"""Observations are drawn from the likelihood of what was decoded, whatever the modality."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from scvi import REGISTRY_KEYS
from torch import Tensor

from vmmscvi import SCVI_VMM
from vmmscvi.module._generating import GeneratingMixin
from vmmscvi.module._multivae import MULTIVMMVAE
from vmmscvi.module._peakvae import PEAKVMMVAE
from vmmscvi.module._totalvae import TOTALVMMVAE

N = 20_000
NARROW = 1e4  # inverse dispersion of counts that are all but Poisson


def rows(*values: float) -> Tensor:
    """Parameters of N cells, a column for each feature."""
    return torch.tensor(values).expand(N, -1)


def of_dropout(probability: float) -> float:
    return float(torch.logit(torch.tensor(probability)))


def assert_mean(samples: Tensor, expected: list[float]) -> None:
    samples = samples.double()
    error = samples.std(0) / N**0.5
    assert ((samples.mean(0) - torch.tensor(expected)).abs() < 5 * error + 1e-9).all(), samples.mean(0)


PROTEINS = {
    "rate_back": rows(2.0, 5.0),
    "rate_fore": rows(40.0, 80.0),
    "r": rows(NARROW, NARROW),
    "mixing": rows(of_dropout(0.9), of_dropout(0.2)),  # of the background
}
MEAN_OF_PROTEINS = [0.9 * 2 + 0.1 * 40, 0.2 * 5 + 0.8 * 80]


@pytest.mark.parametrize(("likelihood", "kept"), [("zinb", 0.25), ("nb", 1.0)])
def test_genes_and_proteins_of_totalvi_have_their_means(likelihood: str, kept: float) -> None:
    genes = {"rate": rows(8.0, 3.0), "r": rows(NARROW, NARROW), "dropout": rows(*[of_dropout(0.75)] * 2)}
    module: Any = SimpleNamespace(gene_likelihood=likelihood)
    found = TOTALVMMVAE.sample_observations(module, {}, {"px_": genes, "py_": PROTEINS, "py_norm_": PROTEINS})
    assert_mean(found["X"], [8.0 * kept, 3.0 * kept])
    assert_mean(found["protein"], MEAN_OF_PROTEINS)


@pytest.mark.parametrize("factors", [None, torch.tensor([0.0, of_dropout(0.9)])])
def test_peaks_are_open_with_their_probability(factors: Tensor | None) -> None:
    module: Any = SimpleNamespace(region_factors=factors)
    depth = torch.full((N, 1), 0.5)
    found = PEAKVMMVAE.sample_observations(module, {"d": depth}, {"px": rows(0.6, 0.2)})["X"]
    of_regions = [1.0, 1.0] if factors is None else [0.5, 0.9]
    assert set(found.unique().tolist()) == {0.0, 1.0}
    assert_mean(found, [0.6 * 0.5 * of_regions[0], 0.2 * 0.5 * of_regions[1]])


@pytest.mark.parametrize(("likelihood", "kept"), [("zinb", 0.25), ("nb", 1.0), ("poisson", 1.0)])
def test_each_modality_of_multivi_has_its_mean(likelihood: str, kept: float) -> None:
    class Module(SimpleNamespace):
        _gene_distribution = MULTIVMMVAE._gene_distribution

    module: Any = Module(
        gene_likelihood=likelihood,
        n_input_genes=2,
        n_input_regions=2,
        n_input_proteins=2,
        region_factors=torch.tensor([0.0, of_dropout(0.9)]),
    )
    decoded = {
        "px_rate": rows(8.0, 3.0),
        "px_r": rows(NARROW, NARROW),
        "px_dropout": rows(*[of_dropout(0.75)] * 2),
        "p": rows(0.6, 0.2),
        "py_": PROTEINS,
    }
    found = MULTIVMMVAE.sample_observations(module, {"libsize_acc": torch.full((N, 1), 0.5)}, decoded)
    assert_mean(found["genes"], [8.0 * kept, 3.0 * kept])
    assert_mean(found["peaks"], [0.6 * 0.5 * 0.5, 0.2 * 0.5 * 0.9])
    assert_mean(found["protein"], MEAN_OF_PROTEINS)
    module.n_input_genes = module.n_input_proteins = 0
    only = MULTIVMMVAE.sample_observations(module, {"libsize_acc": torch.full((N, 1), 0.5)}, decoded)
    assert only.keys() == {"peaks"}


@pytest.mark.parametrize(
    ("library_size", "minified", "expected"),
    [(500.0, False, 500.0), (None, False, None), (None, True, 900.0)],
)
def test_generated_cells_have_the_total_that_is_asked_for_or_that_of_the_cells_given(
    make_model: Callable[..., SCVI_VMM],
    minibatch: Any,
    library_size: float | None,
    minified: bool,
    expected: float | None,
) -> None:
    model = make_model(gene_likelihood="nb", prior="standard_normal")
    module, tensors = model.module.eval(), minibatch(model, 200)
    with torch.no_grad():
        module.px_r.fill_(10.0)  # all but Poisson
    if minified:  # there are no counts, but their totals
        tensors[REGISTRY_KEYS.OBSERVED_LIB_SIZE] = torch.full((200, 1), 900.0)
    totals = module.generate(tensors, torch.randn(200, 4), library_size)["X"].sum(1)
    truth = tensors["X"].sum(1) if expected is None else torch.full((200,), expected)
    assert ((totals - truth).abs() < 6 * truth.sqrt()).all()
    assert float((totals - truth).mean()) == pytest.approx(0.0, abs=5 * float(truth.mean() / 200) ** 0.5)


def test_modules_that_cannot_be_told_a_total_or_sample_nothing_say_so() -> None:
    module: Any = SimpleNamespace()
    with pytest.raises(ValueError, match="`library_size` cannot be chosen"):
        GeneratingMixin.generate(module, {}, torch.zeros(1, 2), library_size=100.0)
    with pytest.raises(ValueError, match="cannot sample observations"):
        GeneratingMixin.sample_observations(module, {}, {})
