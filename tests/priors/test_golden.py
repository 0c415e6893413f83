"""Densities against the numbers that the authors' implementation gives for fixed parameters, in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vmmscvi.priors import functional as F
from vmmscvi.priors import hyperpriors as H
from vmmscvi.priors import wishart_scale_factor

INPUTS = {"z", "qmu_mean", "qmu_std", "pi_logits", "precision_cholesky", "inverse_alpha"}
OUTPUTS = (
    "expected_log_prob_z_given_c",
    "predictive_log_prob_z_given_c",
    "log_prob_z",
    "responsibilities",
    "log_prior_pi",
    "log_prior_mu",
    "log_prior_precision_paper_scale",
    "log_prior_precision_reference_scale",
    "log_prior_inverse_alpha",
    "gmm_log_prob_z_given_c",
    "gmm_log_prob_z",
    "gmm_log_prior_mu",
    "vampprior_log_prob_z",
)


def load(size: str) -> dict[str, Tensor]:
    with np.load(Path(__file__).parent / f"golden_{size}.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


def evaluate(golden: dict[str, Tensor]) -> dict[str, Tensor]:
    z, loc, scale, pi_logits, precision_cholesky, inverse_alpha = (
        golden[name]
        for name in ("z", "qmu_mean", "qmu_std", "pi_logits", "precision_cholesky", "inverse_alpha")
    )
    expected = F.expected_component_log_prob(z, loc, scale, precision_cholesky)
    predictive = F.predictive_component_log_prob(z, loc, scale, precision_cholesky)
    point = F.expected_component_log_prob(z, loc, None, precision_cholesky)
    posterior = F.center_component_log_prob(z, loc, scale)
    identity = torch.eye(loc.shape[1], dtype=loc.dtype)
    roots = {
        name: identity / wishart_scale_factor(name, *loc.shape) ** 0.5 for name in ("paper", "reference")
    }
    return {
        "expected_log_prob_z_given_c": expected,
        "predictive_log_prob_z_given_c": predictive,
        "log_prob_z": F.mixture_log_prob(predictive, pi_logits),
        "responsibilities": F.responsibilities(expected, pi_logits),
        "log_prior_pi": H.log_prior_mixing(pi_logits, inverse_alpha),
        "log_prior_mu": H.log_prior_centers(loc, scale),
        "log_prior_precision_paper_scale": H.log_prior_precision(precision_cholesky, roots["paper"]),
        "log_prior_precision_reference_scale": H.log_prior_precision(precision_cholesky, roots["reference"]),
        "log_prior_inverse_alpha": H.log_prior_inverse_alpha(inverse_alpha),
        "gmm_log_prob_z_given_c": point,
        "gmm_log_prob_z": F.mixture_log_prob(point, pi_logits),
        "gmm_log_prior_mu": H.log_prior_centers(loc, None),
        "vampprior_log_prob_z": F.mixture_log_prob(posterior, torch.zeros_like(pi_logits)),
    }


@pytest.mark.parametrize("size", ["small", "medium"])
@pytest.mark.parametrize("name", OUTPUTS)
def test_float32_agrees_with_the_golden_value_within_1e4(size: str, name: str) -> None:
    golden = load(size)
    result = evaluate(golden)[name]
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, golden[name], atol=1e-4, rtol=0.0)


@pytest.mark.parametrize("size", ["small", "medium"])
def test_every_golden_value_is_compared(size: str) -> None:
    assert set(load(size)) == INPUTS | set(OUTPUTS)
