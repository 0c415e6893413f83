r"""The prior as a correction of a module's own loss.

The loss of scvi-tools' modules contains :math:`KL(q(z|x) \| N(0, I))`. For another prior, the mean over cells
of :math:`w (KL(q \| p) - KL(q \| N(0, I)))` is added, where :math:`w` is the module's weight of the term. If
the loss asks torch for the divergence from its ``pz``, as in :class:`scvi.module.VAE`, it receives that of
the prior and needs no correction.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any

import torch
from scvi.module.base import LossOutput
from torch import Tensor
from torch.distributions import Distribution, Normal, register_kl

from vmmscvi._upstream import MODULE_KEYS
from vmmscvi.module._posteriors import as_posterior
from vmmscvi.module._prior_distribution import PriorDistribution
from vmmscvi.module._prior_module import PriorModuleMixin
from vmmscvi.priors import Centers, Prior, PriorState, StandardNormalPrior

Loss = Callable[..., LossOutput]

KL_KEYS = (MODULE_KEYS.KL_Z_KEY, "kl_div_z")
"""Names of the divergence of ``z`` in module outputs; other modules report only the sum of all terms."""


def with_prior(stock_loss: Loss) -> Loss:
    """Replace N(0, I) in a module's loss by the module's own prior; keep its signature.

    Parameters
    ----------
    stock_loss
        The loss of a scvi-tools module, under N(0, I).

    Returns
    -------
    Callable
        The loss under ``latent_prior``.

    Examples
    --------
    >>> class MyModule(PriorModuleMixin, TOTALVAE):
    ...     loss = with_prior(TOTALVAE.loss)
    """

    @wraps(stock_loss)
    def loss(
        self: PriorModuleMixin,
        tensors: dict[str, Tensor],
        inference_outputs: dict[str, Any],
        generative_outputs: dict[str, Any],
        *args: Any,
        **kwargs: Any,
    ) -> LossOutput:
        term: _PriorTerm | None = None
        if MODULE_KEYS.PZ_KEY in generative_outputs:
            qz, z = self.posterior(inference_outputs), self.latent_sample(inference_outputs)
            pz: Distribution
            if _is_stock(self.latent_prior) or _has_own_weights(self):
                pz = Normal(torch.zeros_like(qz.mean), torch.ones_like(qz.mean))
            else:
                pz = term = _PriorTerm(self.latent_prior, self.centers, z, _seen_labels(self, tensors))
            generative_outputs = {**generative_outputs, MODULE_KEYS.PZ_KEY: pz}
        stock = stock_loss(self, tensors, inference_outputs, generative_outputs, *args, **kwargs)
        if term is not None and term.was_asked:
            return stock
        return corrected(self, stock, tensors, inference_outputs, kwargs)

    return loss


class _PriorTerm(PriorDistribution):
    """The prior as ``pz`` of a loss that asks torch for the divergence and then needs no correction.

    Parameters
    ----------
    prior, encode_centers
        See :class:`PriorDistribution`.
    z
        Samples of the posterior, shape ``([n_samples,] n, p)``.
    labels
        Further arguments of :meth:`Prior.kl_divergence`: the log-likelihood of labels, or none.
    """

    def __init__(
        self,
        prior: Prior,
        encode_centers: Callable[[], Centers | None],
        z: Tensor,
        labels: tuple[Tensor, ...],
    ) -> None:
        super().__init__(prior, encode_centers)
        self._z = z
        self._labels = labels
        self.was_asked = False
        """Whether the divergence is part of the loss."""

    def divergence_from(self, qz: Distribution) -> Tensor:
        """Divergence of a posterior from the prior, shape ``(n, 1)``; losses sum over the last dimension."""
        self.was_asked = True
        kl = self._prior.kl_divergence(qz, self._z, self.centers, *self._labels)
        return (kl.mean(dim=0) if kl.dim() > 1 else kl).unsqueeze(-1)


@register_kl(Distribution, _PriorTerm)  # type: ignore[no-untyped-call]
def _divergence(qz: Distribution, term: _PriorTerm) -> Tensor:
    return term.divergence_from(qz)


def _is_stock(prior: Prior) -> bool:
    """Whether the loss of scvi-tools needs no correction."""
    return prior.state is PriorState.WARMING_UP or isinstance(prior, StandardNormalPrior)


def _seen_labels(module: PriorModuleMixin, tensors: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """Log-likelihood of the labels, as last argument of the divergence; empty for held-out labels."""
    labels = module.label_log_likelihood(tensors) if module.training else None
    return () if labels is None else (labels,)


def _has_own_weights(module: PriorModuleMixin) -> bool:
    return type(module).kl_weights is not PriorModuleMixin.kl_weights


def corrected(
    module: PriorModuleMixin,
    stock: LossOutput,
    tensors: dict[str, Tensor],
    inference_outputs: dict[str, Any],
    loss_kwargs: dict[str, Any],
) -> LossOutput:
    """Replace N(0, I) in a loss by the module's prior.

    Parameters
    ----------
    module
        The module.
    stock
        Its loss under N(0, I).
    tensors, inference_outputs, loss_kwargs
        Arguments from which the loss was computed.

    Returns
    -------
    LossOutput
        The loss under the module's prior.
    """
    prior = module.latent_prior
    if _is_stock(prior):
        return stock
    qz, z = module.posterior(inference_outputs), module.latent_sample(inference_outputs)
    kl = prior.kl_divergence(qz, z, module.centers(), *_seen_labels(module, tensors))
    if kl.dim() > 1:
        kl = kl.mean(dim=0)
    difference = kl - StandardNormalPrior(prior.n_latent).kl_divergence(qz, z)
    weights = module.kl_weights(tensors, loss_kwargs.get("kl_weight", 1.0), loss_kwargs)
    local: dict[str, Tensor] = dict(stock.kl_local)
    named = [name for name in KL_KEYS if name in local]
    for name in named or list(local)[:1]:
        local[name] = kl if named else local[name] + difference
    return replace(stock, loss=stock.loss + torch.mean(weights * difference), kl_local=local)


@torch.inference_mode()
def marginal_log_likelihood(
    module: Any,
    tensors: dict[str, Tensor],
    n_mc_samples: int,
    log_weight: Callable[[dict[str, Tensor], dict[str, Any], dict[str, Any], LossOutput], Tensor],
) -> Tensor:
    r"""Estimate :math:`\log p(x)` by importance sampling with the posterior as proposal.

    Parameters
    ----------
    module
        The module.
    tensors
        The minibatch.
    n_mc_samples
        Number of samples for each cell, decoded one at a time.
    log_weight
        Function of minibatch, inference outputs, generative outputs and loss that returns the log-ratio of
        joint density and proposal at the samples, shape ``(n,)``.

    Returns
    -------
    Tensor
        Log-likelihoods of shape ``(n,)`` on the CPU.
    """
    log_weights = []
    for _ in range(n_mc_samples):
        outputs = module(tensors, get_inference_input_kwargs={"full_forward_pass": True})
        log_weights.append(log_weight(tensors, *outputs))
    return log_mean_weight(torch.stack(log_weights)).cpu()


def log_mean_weight(log_weights: Tensor) -> Tensor:
    """Logarithm of the mean importance weight of each cell.

    A library size that a barely trained network draws may overflow when decoded, and the weight is then NaN.
    Such a sample has no likelihood: its weight is zero, unless all samples of the cell overflow.

    Parameters
    ----------
    log_weights
        Shape ``(n_samples, n)``.

    Returns
    -------
    Tensor
        Shape ``(n,)``; NaN for cells without a finite weight.
    """
    is_nan = log_weights.isnan()
    log_weights = log_weights.masked_fill(is_nan & ~is_nan.all(0), -math.inf)
    return torch.logsumexp(log_weights, dim=0) - math.log(len(log_weights))


def log_prior_ratio(module: PriorModuleMixin, inference_outputs: dict[str, Any]) -> Tensor:
    r""":math:`\log p(z) - \log q(z|x)` at the samples, shape ``([n_samples,] n)``."""
    qz = as_posterior(module.posterior(inference_outputs))
    z = module.latent_sample(inference_outputs)
    log_q = qz.log_prob(z)
    log_q = log_q if qz.event_shape else log_q.sum(-1)
    return module.prior_in_use.log_prob(z, module.centers()) - log_q
