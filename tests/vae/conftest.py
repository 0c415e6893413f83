"""Small arrays with clusters, and small networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from vmmscvi.vae import VAE, VaDE, mlp_decoder, mlp_encoder

N_FEATURES = 6
N_LATENT = 2


class Blobs(NamedTuple):
    x: NDArray[np.float32]
    labels: NDArray[np.int64]


@pytest.fixture(scope="session")
def blobs() -> Blobs:
    """Three clusters, 240 rows of six features, between -1 and 1."""
    rng = np.random.default_rng(0)
    centers = rng.choice([-0.7, 0.7], (3, N_FEATURES))
    centers[1] = -centers[0]
    labels = rng.integers(3, size=240)
    x = np.clip(centers[labels] + 0.08 * rng.normal(size=(240, N_FEATURES)), -1, 1)
    return Blobs(x.astype(np.float32), labels)


def small(**kwargs: Any) -> dict[str, Any]:
    """Arguments of a small model that trains fast."""
    defaults: dict[str, Any] = {
        "n_components": 6,
        "n_latent": N_LATENT,
        "encoder": mlp_encoder(N_FEATURES, (16,)),
        "decoder": mlp_decoder(N_LATENT, N_FEATURES, (16,)),
        "max_epochs": 3,
        "batch_size": 64,
        "accelerator": "cpu",
        "random_state": 0,
    }
    return {**defaults, **kwargs}


@pytest.fixture
def make_vae() -> Callable[..., VAE]:
    return lambda prior="vmm", **kwargs: VAE(prior, **small(**kwargs))


@pytest.fixture
def make_vade() -> Callable[..., VaDE]:
    return lambda **kwargs: VaDE(**small(**{"n_components": 3, "n_pretrain_epochs": 1, **kwargs}))


@pytest.fixture
def linear_networks() -> Callable[[int, int], tuple[nn.Module, nn.Module]]:
    """An encoder that passes its input on, so that the head is all, and a linear decoder."""

    def make(n_features: int, n_latent: int) -> tuple[nn.Module, nn.Module]:
        torch.manual_seed(0)
        return nn.Identity(), nn.Linear(n_latent, n_features)

    return make
