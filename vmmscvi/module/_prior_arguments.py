"""Arguments of the prior for modules of scvi-tools."""

from __future__ import annotations

from typing import Any

from vmmscvi.module._prior_module import PriorModuleMixin
from vmmscvi.priors import Inference, PriorConfig, PriorName, WishartScale


class PriorArgumentsMixin(PriorModuleMixin):
    """Add the arguments of the prior to the constructor of a module; list it before the module's class.

    Parameters
    ----------
    *args
        Arguments of the module.
    prior, n_components, inference, responsibilities_in_gradient, wishart_scale
        See :class:`vmmscvi.priors.PriorConfig`.
    **kwargs
        Further arguments of the module.
    """

    def __init__(
        self,
        *args: Any,
        prior: PriorName = "vmm",
        n_components: int = 100,
        inference: Inference = "MAP-DP",
        responsibilities_in_gradient: bool | None = None,
        wishart_scale: WishartScale = "learned",
        **kwargs: Any,
    ) -> None:
        config = PriorConfig(prior, n_components, inference, responsibilities_in_gradient, wishart_scale)
        super().__init__(*args, **kwargs)
        self.init_prior(config)
