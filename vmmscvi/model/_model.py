"""The model that users touch."""

from __future__ import annotations

import logging
from typing import Any, Literal

import numpy as np
from anndata import AnnData
from scvi import REGISTRY_KEYS
from scvi.model import SCVI
from scvi.train._config import merge_kwargs

from vmmscvi.model._clustering_mixin import ClusteringMixin
from vmmscvi.model._initialization import InitializePseudoInputs
from vmmscvi.model._validation import (
    check_batches,
    check_counts,
    check_covariates,
    check_keys,
    check_known_batches,
    check_n_components,
)
from vmmscvi.module import VMMVAE, PriorName, PseudoInputSpace
from vmmscvi.priors import Inference, WishartScale
from vmmscvi.train import EmpiricalBayesTrainingPlan, RestoreBestEpoch

logger = logging.getLogger(__name__)


class SCVI_VMM(ClusteringMixin, SCVI):
    """scVI with the VampPrior Mixture Model: integrates and clusters single-cell counts in one training.

    Everything that :class:`scvi.model.SCVI` offers is inherited; the prior N(0, I) is replaced by a Bayesian
    mixture of Gaussians, whose components are the clusters.

    Parameters
    ----------
    adata
        AnnData registered with :meth:`setup_anndata`; raw counts.
    registry
        Registry of a custom data module, instead of ``adata``.
    prior
        ``"vmm"`` (default), ``"gmm"`` (the same without pseudo-inputs), ``"vampprior"`` or
        ``"standard_normal"``, which is scVI's.
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

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        layer: str | None = None,
        batch_key: str | None = None,
        labels_key: str | None = None,
        size_factor_key: str | None = None,
        categorical_covariate_keys: list[str] | None = None,
        continuous_covariate_keys: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Register an AnnData: say where counts, batches and covariates are.

        Parameters
        ----------
        adata
            The data. Columns ``_scvi_...`` are added to ``obs`` and an identifier to ``uns``.
        layer
            Layer of raw counts; ``adata.X`` by default.
        batch_key, labels_key, size_factor_key
            Columns of ``adata.obs``; labels are not used by the prior.
        categorical_covariate_keys, continuous_covariate_keys
            Lists of columns of ``adata.obs``.
        **kwargs
            As in :meth:`scvi.model.SCVI.setup_anndata`.

        Raises
        ------
        ValueError
            If the layer or a column does not exist.
        """
        keys = {
            "batch_key": batch_key,
            "labels_key": labels_key,
            "size_factor_key": size_factor_key,
            "categorical_covariate_keys": categorical_covariate_keys,
            "continuous_covariate_keys": continuous_covariate_keys,
        }
        check_keys(adata, layer, keys)
        super().setup_anndata(adata, layer=layer, **keys, **kwargs)

    def train(
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
            Cells in a minibatch. It tunes the prior as well: hyper-priors are weighed against one minibatch,
            so that a larger one allows more clusters.
        lr
            Learning rate of the networks.
        prior_lr_ratio
            Learning rate of the prior as a multiple of ``lr``.
        early_stopping
            Whether to stop when the validation ELBO no longer improves, and to restore the best epoch's
            weights.
        early_stopping_patience
            Epochs without improvement after which training stops.
        plan_kwargs
            Further arguments of :class:`vmmscvi.train.EmpiricalBayesTrainingPlan`; they win over ``lr`` and
            ``prior_lr_ratio``.
        **kwargs
            Further arguments of :meth:`scvi.model.SCVI.train` and of the Trainer.

        Raises
        ------
        ValueError
            If the data are not raw counts, have empty cells, batches of one cell, covariates that are not
            finite, or fewer cells than components; if a learning rate is not positive.
        NonFiniteTrainingError
            If a loss becomes NaN or infinite. The best epoch's weights are kept, and the model can be used.
        """
        if kwargs.get("datamodule") is None:
            self._check_data(train_size)
        best_epoch = RestoreBestEpoch(
            monitor=kwargs.get("early_stopping_monitor", "elbo_validation"),
            mode=kwargs.get("early_stopping_mode", "min"),
        )
        callbacks = [*(kwargs.pop("callbacks", None) or []), InitializePseudoInputs()]
        plan_kwargs = merge_kwargs(kwargs.pop("plan_config", None), plan_kwargs, name="plan")
        # after a training or a load the module is in evaluation mode, and Lightning trains it as it finds it
        self.module.train()
        try:
            super().train(
                max_epochs=max_epochs,
                accelerator=accelerator,
                devices=devices,
                train_size=train_size,
                validation_size=validation_size,
                batch_size=batch_size,
                early_stopping=early_stopping,
                early_stopping_patience=early_stopping_patience,
                plan_kwargs={"lr": lr, "prior_lr_ratio": prior_lr_ratio, **plan_kwargs},
                callbacks=[*callbacks, best_epoch] if early_stopping else callbacks,
                **kwargs,
            )
        except BaseException:  # an interruption by the user is a SystemExit by the time it gets here
            self._settle(restored=best_epoch.best_epoch is not None)
            raise

    def _settle(self, restored: bool) -> None:
        """Make usable what a failed training leaves: the best epoch, or a continued model's weights."""
        self.module.eval()
        self.is_trained_ = self.is_trained_ or restored
        if self.is_trained_:
            self.module.cache_centers()

    def _check_data(self, train_size: float | None) -> None:
        """Everything that can be known to fail, before training starts."""
        check_counts(self.adata_manager, require_counts=self.module.gene_likelihood != "normal")
        check_batches(self.adata_manager)
        check_covariates(self.adata_manager)
        pseudo_inputs = self.module.pseudo_inputs
        if pseudo_inputs is not None and not bool(pseudo_inputs.is_initialized):
            n_train = int(np.ceil((train_size or 0.9) * self.adata.n_obs))
            check_n_components(pseudo_inputs.n_components, n_train)

    def _validate_anndata(self, adata: AnnData | None = None, copy_if_view: bool = True) -> AnnData:
        # scvi-tools finds an unknown batch as well, but says to pass an argument that users cannot pass
        batch_key = self.registry_["setup_args"].get("batch_key")
        if adata is not None and batch_key in adata.obs and self.adata_manager is not None:
            known = self.adata_manager.get_state_registry(REGISTRY_KEYS.BATCH_KEY).categorical_mapping
            check_known_batches(adata.obs[batch_key], known)
        return super()._validate_anndata(adata, copy_if_view=copy_if_view)
