"""The generative process of the Bayesian mixture as a Pyro model.

It defines the model whose densities :mod:`vmmscvi.priors.functional` computes in closed form. Use it to
sample from the prior predictive and, with Pyro's enumeration, to check the objective.
"""

from __future__ import annotations

import warnings

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor


def generative_model(
    n_obs: int,
    n_components: int,
    n_latent: int,
    wishart_scale_factor: float,
    z: Tensor | None = None,
) -> Tensor:
    r"""Generate latent positions of ``n_obs`` cells under the paper's hyper-priors.

    :math:`\alpha \sim InverseGamma(1, 1)`, :math:`\pi \sim Dirichlet(\alpha / K)`,
    :math:`\mu_j \sim N(0, I)`, :math:`\Lambda_j \sim Wishart(p + 2, c I)`, :math:`c_i \sim \pi`,
    :math:`z_i \sim N(\mu_{c_i}, \Lambda_{c_i}^{-1})`.

    Sample sites: ``alpha``, ``pi``, ``mu``, ``Lambda``, ``c`` (to be enumerated), ``z``.

    Parameters
    ----------
    n_obs
        Number of cells.
    n_components
        Number ``K`` of components.
    n_latent
        Dimension ``p`` of the latent space.
    wishart_scale_factor
        ``c`` of the Wishart's scale matrix ``c I``; see :func:`vmmscvi.priors.wishart_scale_factor`.
    z
        Observed positions, shape ``(n_obs, p)``; sampled when ``None``.

    Returns
    -------
    Tensor
        Latent positions of shape ``(n_obs, p)``.
    """
    identity = torch.eye(n_latent) if z is None else torch.eye(n_latent, dtype=z.dtype, device=z.device)
    one = identity.new_ones(())
    alpha = pyro.sample("alpha", dist.InverseGamma(one, one))  # type: ignore[no-untyped-call]
    pi = pyro.sample("pi", dist.Dirichlet((alpha / n_components).expand(n_components)))
    with pyro.plate("components", n_components):
        mu = pyro.sample("mu", dist.MultivariateNormal(identity.new_zeros(n_latent), identity))
        with warnings.catch_warnings():
            # PyTorch mistakes regular samples for singular ones and warns (pytorch/pytorch#122021)
            warnings.filterwarnings("ignore", message="Singular sample detected")
            precision = pyro.sample(
                "Lambda",
                dist.Wishart(df=one * (n_latent + 2), covariance_matrix=wishart_scale_factor * identity),
            )
    with pyro.plate("cells", n_obs):
        c = pyro.sample("c", dist.Categorical(pi), infer={"enumerate": "parallel"})
        position: Tensor = pyro.sample(
            "z", dist.MultivariateNormal(mu[c], precision_matrix=precision[c]), obs=z
        )
    return position
