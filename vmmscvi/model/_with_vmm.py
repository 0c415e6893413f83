"""The mixture prior for further models of scvi-tools that pass the contract tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from vmmscvi.model._vmm_model import VMMModelMixin
from vmmscvi.module import PriorModuleMixin, with_prior
from vmmscvi.priors import Inference, PriorConfig, PriorName, WishartScale
from vmmscvi.train import EmpiricalBayesTrainingPlan

KlWeights = Callable[[Any, dict[str, Any], Any, Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Recipe:
    """Adaptations that one model needs.

    Attributes
    ----------
    fixed
        Arguments of the model that must keep these values, because others choose the model's own prior.
    kl_weights
        Override of :meth:`vmmscvi.module.PriorModuleMixin.kl_weights`.
    """

    fixed: Mapping[str, Any] = field(default_factory=dict)
    kl_weights: KlWeights | None = None


def _times_n_obs(module: Any, tensors: Any, kl_weight: Any, loss_kwargs: Mapping[str, Any]) -> Any:
    """Scale the weight to the loss of AUTOZI, which is summed over all cells."""
    return kl_weight * loss_kwargs.get("n_obs", 1.0)


RECIPES: dict[str, Recipe] = {
    "AUTOZI": Recipe(kl_weights=_times_n_obs),
    "CYTOVI": Recipe(fixed={"prior_mixture": False}),
    "SCAR": Recipe(),
    "VELOVI": Recipe(),
}
"""Models that pass the contract tests (``tests/contract``), by name."""

OWN_CLASSES = {
    name: f"{name}_VMM" for name in ("SCVI", "TOTALVI", "PEAKVI", "POISSONVI", "MULTIVI", "LinearSCVI")
}

HIERARCHICAL = "its latent space is hierarchical: the prior on z1 depends on the label"
PYRO = "it is a Pyro model, whose prior is part of its guide and model functions"
NO_FC_LAYERS = "its encoder does not use scvi-tools' FCLayers, through which pseudo-inputs are learned"
REFUSED = {
    "SCANVI": HIERARCHICAL + "; use `SCVI_VMM` with `train(start='labels')`",
    "TOTALANVI": HIERARCHICAL,
    "METHYLANVI": HIERARCHICAL,
    "RESOLVI": PYRO,
    "Decipher": PYRO,
    "AmortizedLDA": "its latent space is a simplex of topics with a prior of its own",
    "GIMVI": "it trains on two data loaders in turn",
    "SysVI": NO_FC_LAYERS,
    "MRVI": NO_FC_LAYERS,
    "TorchMRVI": NO_FC_LAYERS,
    "CondSCVI": "its loss weights cells by their types, and DestVI relies on its prior",
    "DestVI": "it has no continuous latent space of single cells",
    "SCVIVA": "its loss adds terms for a cell's neighbours; it has not been checked",
    "METHYLVI": "its likelihood needs counts and coverage in a MuData; it has not been checked",
    "DRVI": "its decoder splits the latent dimensions; a full covariance would join them",
}
"""Models that are refused, with the reason."""


@cache
def with_vmm(model_class: type) -> type:
    """Replace the N(0, I) prior of a model of scvi-tools by the VampPrior Mixture Model.

    Parameters
    ----------
    model_class
        One of the supported models: ``AUTOZI``, ``CYTOVI`` (without its own mixture), ``SCAR``, ``VELOVI``.

    Returns
    -------
    type
        A class with the interface of ``model_class``, and with training and clusters as in
        :class:`vmmscvi.SCVI_VMM`. Its constructor also takes ``prior``, ``n_components``, ``inference``,
        ``responsibilities_in_gradient`` and ``wishart_scale``. Every call returns the same class.

    Raises
    ------
    ValueError
        If the model is not supported; the message gives the reason.

    Examples
    --------
    >>> SCAR_VMM = vmmscvi.with_vmm(scvi.external.SCAR)
    >>> SCAR_VMM.setup_anndata(adata)
    >>> model = SCAR_VMM(adata, ambient_profile=profile)
    """
    name = model_class.__name__
    _require_checked(model_class)
    recipe = RECIPES[name]

    def init(
        self: Any,
        adata: Any,
        prior: PriorName = "vmm",
        n_components: int = 100,
        inference: Inference = "MAP-DP",
        responsibilities_in_gradient: bool | None = None,
        wishart_scale: WishartScale = "learned",
        **model_kwargs: Any,
    ) -> None:
        config = PriorConfig(prior, n_components, inference, responsibilities_in_gradient, wishart_scale)
        contradicted = {key: model_kwargs[key] for key, value in recipe.fixed.items()
                        if model_kwargs.get(key, value) != value}  # fmt: skip
        if contradicted:
            raise ValueError(f"{contradicted} conflicts with the mixture prior: leave it out.")
        model_class.__init__(self, adata, **{**model_kwargs, **recipe.fixed})  # type: ignore[misc]
        adopt_prior(self.module, config, recipe.kl_weights)
        self.init_params_ = self._get_init_params(locals())

    namespace = {
        "__init__": init,
        "__doc__": f"{name} of scvi-tools with the VampPrior Mixture Model; see :func:`vmmscvi.with_vmm`.",
        "__module__": __name__,
        "_training_plan_cls": EmpiricalBayesTrainingPlan,
    }
    return type(f"{name}_VMM", (VMMModelMixin, model_class), namespace)


def adopt_prior(module: Any, config: PriorConfig, kl_weights: KlWeights | None = None) -> None:
    """Add a prior to a module that is already built, by adding :class:`PriorModuleMixin` to its class.

    Several models hard-code the class of their module in the constructor, so it is changed afterwards.

    Parameters
    ----------
    module
        A module of scvi-tools; changed in place.
    config
        Configuration of the prior.
    kl_weights
        See :class:`Recipe`.
    """
    stock: Any = type(module)
    namespace: dict[str, Any] = {"loss": with_prior(stock.loss), "__module__": __name__}
    if kl_weights is not None:
        namespace["kl_weights"] = kl_weights
    module.__class__ = type(f"VMM{stock.__name__}", (PriorModuleMixin, stock), namespace)
    module.init_prior(config)


def _require_checked(model_class: type) -> None:
    name = model_class.__name__
    if name in OWN_CLASSES:
        raise ValueError(f"{name} has a class of its own: use `vmmscvi.{OWN_CLASSES[name]}`.")
    if name in REFUSED:
        raise ValueError(f"{name} does not support the mixture prior: {REFUSED[name]}.")
    if name not in RECIPES:
        raise ValueError(f"{name} is not a supported model: expected one of {sorted(RECIPES)}.")
