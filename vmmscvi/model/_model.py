"""The model that users touch."""

from __future__ import annotations

import logging
from typing import Any, Literal

import numpy as np
from anndata import AnnData
from scvi.model import SCVI
from scvi.model._utils import get_max_epochs_heuristic

from vmmscvi.model._clustering_mixin import ClusteringMixin
from vmmscvi.model._initialization import InitializePseudoInputs
from vmmscvi.model._validation import check_batches, check_counts, check_n_components
from vmmscvi.module import VMMVAE, PriorName, PseudoInputSpace
from vmmscvi.priors import Inference, WishartScale
from vmmscvi.train import EmpiricalBayesTrainingPlan, RestoreBestEpoch

logger = logging.getLogger(__name__)


class SCVI_VMM(ClusteringMixin, SCVI):
    """scVI with the VampPrior Mixture Model: integrates and clusters single-cell counts in one training.

    Everything that :class:`scvi.model.SCVI` offers is inherited; the prior N(0, I) is replaced by a Bayesian mixture of
    Gaussians, whose components are the clusters.

    Parameters
    ----------
    adata
        AnnData registered with :meth:`setup_anndata`; raw counts.
    registry
        Registry of a custom data module, instead of ``adata``.
    prior
        ``"vmm"`` (default), ``"gmm"`` (the same without pseudo-inputs), ``"vampprior"`` or ``"standard_normal"``, which is
        scVI's.
    n_components
        Largest number of clusters. Components that are not needed lose their weight.
    inference
        ``"MAP-DP"`` (default), ``"MAP"`` or ``"MLE"``: which hyper-priors the mixture has.
    n_hidden, n_latent, n_layers, dropout_rate, dispersion, gene_likelihood, use_observed_lib_size
        As in :class:`scvi.model.SCVI`.
    encode_covariates
        Whether the encoder sees the batch; ``True`` as in the paper (scVI: ``False``).
    responsibilities_in_gradient, wishart_scale
        See :class:`vmmscvi.priors.BayesianMixturePrior`.
    pseudo_input_space
        See :class:`vmmscvi.module.PseudoInputs`.
    **kwargs
        Further arguments of :class:`scvi.module.VAE`.

    Examples
    --------
    >>> SCVI_VMM.setup_anndata(adata, batch_key="batch")
    >>> model = SCVI_VMM(adata)
    >>> model.train()
    >>> adata.obsm["X_vmm"] = model.get_latent_representation()
    >>> adata.obs["vmm_cluster"] = model.predict()

    References
    ----------
    Stirn & Knowles, The VampPrior Mixture Model, arXiv 2402.04412. Lopez et al., Nature Methods 15 (2018).
    """

    _module_cls = VMMVAE
    _training_plan_cls = EmpiricalBayesTrainingPlan

    def __init__(
        self,
        adata: AnnData | None = None,
        registry: dict[str, Any] | None = None,
        prior: PriorName = "vmm",
        n_components: int = 100,
        inference: Inference = "MAP-DP",
        n_hidden: int = 128,
        n_latent: int = 10,
        n_layers: int = 1,
        dropout_rate: float = 0.1,
        dispersion: Literal["gene", "gene-batch", "gene-label", "gene-cell"] = "gene",
        gene_likelihood: Literal["zinb", "nb", "poisson", "normal"] = "zinb",
        use_observed_lib_size: bool = True,
        encode_covariates: bool = True,
        responsibilities_in_gradient: bool = True,
        wishart_scale: WishartScale = "paper",
        pseudo_input_space: PseudoInputSpace = "log1p",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            adata,
            registry,
            n_hidden=n_hidden,
            n_latent=n_latent,
            n_layers=n_layers,
            dropout_rate=dropout_rate,
            dispersion=dispersion,
            gene_likelihood=gene_likelihood,
            use_observed_lib_size=use_observed_lib_size,
            encode_covariates=encode_covariates,
            prior=prior,
            n_components=n_components,
            inference=inference,
            responsibilities_in_gradient=responsibilities_in_gradient,
            wishart_scale=wishart_scale,
            pseudo_input_space=pseudo_input_space,
            **kwargs,
        )
        self._model_summary_string = (
            f"SCVI_VMM model with the following parameters: \nprior: {prior}, n_components: {n_components}, "
            f"inference: {inference}, n_hidden: {n_hidden}, n_latent: {n_latent}, n_layers: {n_layers}, "
            f"dropout_rate: {dropout_rate}, dispersion: {dispersion}, gene_likelihood: {gene_likelihood}."
        )
        self.init_params_ = self._get_init_params(locals())

    def train(  # type: ignore[override]
        self,
        max_epochs: int | None = None,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        train_size: float | None = None,
        validation_size: float | None = None,
        batch_size: int = 256,
        lr: float = 1e-3,
        prior_lr_ratio: float = 5.0,
        early_stopping: bool = True,
        early_stopping_patience: int = 45,
        plan_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Train networks and prior.

        Parameters
        ----------
        max_epochs
            Largest number of epochs; by default scvi-tools' rule, 400 up to 20,000 cells and fewer above.
        accelerator, devices, train_size, validation_size
            As in :meth:`scvi.model.SCVI.train`.
        batch_size
            Cells in a minibatch. It tunes the prior as well: hyper-priors are weighed against one minibatch, so that a
            larger one allows more clusters.
        lr
            Learning rate of the networks.
        prior_lr_ratio
            Learning rate of the prior as a multiple of ``lr``.
        early_stopping
            Whether to stop when the validation ELBO no longer improves, and to restore the best epoch's weights.
        early_stopping_patience
            Epochs without improvement after which training stops.
        plan_kwargs
            Further arguments of :class:`vmmscvi.train.EmpiricalBayesTrainingPlan`.
        **kwargs
            Further arguments of :meth:`scvi.model.SCVI.train` and of the Trainer.

        Raises
        ------
        ValueError
            If the data are not raw counts, have empty cells or batches of one cell, or fewer cells than components.
        NonFiniteTrainingError
            If a loss becomes NaN or infinite; the best epoch's weights are kept.
        """
        callbacks = list(kwargs.pop("callbacks", None) or [])
        if kwargs.get("datamodule") is None:
            self._check_data(train_size)
            max_epochs = max_epochs or get_max_epochs_heuristic(self.adata.n_obs)
        callbacks.append(InitializePseudoInputs())
        if early_stopping:
            callbacks.append(
                RestoreBestEpoch(
                    monitor=kwargs.get("early_stopping_monitor", "elbo_validation"),
                    mode=kwargs.get("early_stopping_mode", "min"),
                )
            )
        super().train(
            max_epochs=max_epochs,
            accelerator=accelerator,
            devices=devices,
            train_size=train_size,
            validation_size=validation_size,
            batch_size=batch_size,
            early_stopping=early_stopping,
            early_stopping_patience=early_stopping_patience,
            plan_kwargs={"lr": lr, "prior_lr_ratio": prior_lr_ratio, **(plan_kwargs or {})},
            callbacks=callbacks,
            **kwargs,
        )

    def _check_data(self, train_size: float | None) -> None:
        """Everything that can be known to fail, before training starts."""
        check_counts(self.adata_manager, require_counts=self.module.gene_likelihood != "normal")
        check_batches(self.adata_manager)
        pseudo_inputs = self.module.pseudo_inputs
        if pseudo_inputs is not None and not bool(pseudo_inputs.is_initialized):
            n_train = int(np.ceil((train_size or 0.9) * self.adata.n_obs))
            check_n_components(pseudo_inputs.n_components, n_train)
