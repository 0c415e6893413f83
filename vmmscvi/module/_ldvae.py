"""The linearly decoded VAE with an interchangeable prior."""

from __future__ import annotations

from scvi.module import LDVAE

from vmmscvi.module._counts_module import CountsModuleMixin
from vmmscvi.module._latent_maps import LatentMapsMixin, with_latent_maps
from vmmscvi.module._prior_arguments import PriorArgumentsMixin
from vmmscvi.module._prior_loss import with_prior


class LDVMMVAE(CountsModuleMixin, LatentMapsMixin, PriorArgumentsMixin, LDVAE):
    """:class:`scvi.module.LDVAE` with a prior of :mod:`vmmscvi.priors` on the latent space.

    Parameters
    ----------
    *args
        Arguments of :class:`scvi.module.LDVAE`.
    prior, n_components, inference, responsibilities_in_gradient, wishart_scale
        See :class:`vmmscvi.priors.PriorConfig`.
    **kwargs
        Further arguments of :class:`scvi.module.LDVAE`.
    """

    loss = with_prior(LDVAE.loss)
    _regular_inference = with_latent_maps(LDVAE._regular_inference)
