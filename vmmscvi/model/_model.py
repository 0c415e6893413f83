"""The model that users touch."""

from __future__ import annotations

import logging
from typing import Any, Literal, get_args

import numpy as np
from anndata import AnnData
from lightning.pytorch.callbacks import Callback
from scvi import REGISTRY_KEYS
from scvi.model import SCVI
from scvi.model._utils import get_max_epochs_heuristic
from scvi.train._config import merge_kwargs

from vmmscvi.model._clustering_mixin import ClusteringMixin
from vmmscvi.model._initialization import InitializePseudoInputs
from vmmscvi.model._start import StartFromEmbedding, default_n_warmup_epochs
from vmmscvi.model._validation import (
    check_batches,
    check_counts,
    check_covariates,
    check_keys,
    check_known_batches,
    check_n_components,
)
from vmmscvi.module import VMMVAE, PriorName, PseudoInputSpace
from vmmscvi.priors import BayesianMixturePrior, Inference, WishartScale
from vmmscvi.train import EmpiricalBayesTrainingPlan, RestoreBestEpoch

logger = logging.getLogger(__name__)

Start = Literal["embedding", "cells"]


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
        start: Start = "embedding",
        n_effective: float = 2000.0,
        n_warmup_epochs: int | None = None,
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
            Cells in a minibatch. With ``start="cells"`` it tunes the prior as well: hyper-priors are then weighed
            against one minibatch, so that a larger one allows more clusters.
        lr
            Learning rate of the networks.
        prior_lr_ratio
            Learning rate of the prior as a multiple of ``lr``.
        start
            How a Gaussian-mixture prior starts. ``"embedding"`` (default): the networks train under N(0, I) first; then
            clusters are found in the embedding, their number included, and the prior starts from them. ``"cells"``: from
            ``n_components`` randomly drawn cells and from the first minibatch on, as in the paper; how many clusters are
            left then depends on ``prior_lr_ratio``, ``batch_size`` and the length of training.
        n_effective
            With ``start="embedding"``: number of cells that the data count as against the hyper-priors. What so
            many cells could not tell apart is not split; a rare type needs a share of a few cells in so many.
        n_warmup_epochs
            Epochs before the start from the embedding; by default as many as make 1000 minibatches, at least five and at
            most half of ``max_epochs``.
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
        max_epochs = self._n_epochs(max_epochs, kwargs.get("datamodule"))
        starter = self._starter(start, n_effective, n_warmup_epochs, max_epochs, batch_size, kwargs.get("datamodule"))
        n_warmup_epochs = getattr(starter, "n_warmup_epochs", 0)
        kwargs.setdefault("early_stopping_warmup_epochs", n_warmup_epochs)
        best_epoch = RestoreBestEpoch(
            first_epoch=n_warmup_epochs,
            monitor=kwargs.get("early_stopping_monitor", "elbo_validation"),
            mode=kwargs.get("early_stopping_mode", "min"),
        )
        callbacks = [*(kwargs.pop("callbacks", None) or []), starter]
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
                plan_kwargs={
                    "lr": lr,
                    "prior_lr_ratio": prior_lr_ratio,
                    "hyperprior_n_obs": n_effective if start == "embedding" else None,
                    **plan_kwargs,
                },
                callbacks=[*callbacks, best_epoch] if early_stopping else callbacks,
                **kwargs,
            )
        except BaseException:  # an interruption by the user is a SystemExit by the time it gets here
            self._settle(restored=best_epoch.best_epoch is not None)
            raise

    def _n_epochs(self, max_epochs: int | None, datamodule: Any) -> int:
        """Largest number of epochs, by scvi-tools' rule unless given."""
        if max_epochs is not None:
            return max_epochs
        n_obs = self.adata.n_obs if datamodule is None else getattr(datamodule, "n_obs", None)
        if n_obs is None:
            raise ValueError("`max_epochs` must be given where `datamodule` has no attribute `n_obs`.")
        return int(get_max_epochs_heuristic(n_obs))

    def _starter(
        self,
        start: Start,
        n_effective: float,
        n_warmup_epochs: int | None,
        max_epochs: int,
        batch_size: int,
        datamodule: Any,
    ) -> Callback:
        """Choose how the prior starts; one that has been trained, or is fitted with the ELBO, just goes on."""
        if start not in get_args(Start):
            raise ValueError(f"`start` must be one of {get_args(Start)}, found {start!r}.")
        if not n_effective > 0:
            raise ValueError(f"`n_effective` must be positive, found {n_effective}.")
        if n_warmup_epochs is not None and not 0 <= n_warmup_epochs < max_epochs:
            raise ValueError(
                f"`n_warmup_epochs` must be at least 0 and less than `max_epochs` ({max_epochs}), "
                f"found {n_warmup_epochs}."
            )
        prior = self.module.prior
        goes_on = self.is_trained_ or prior.is_frozen or not isinstance(prior, BayesianMixturePrior)
        if start == "cells" or goes_on:
            return InitializePseudoInputs()
        if n_warmup_epochs is None:
            n_obs = self.adata.n_obs if datamodule is None else getattr(datamodule, "n_obs", 0)
            n_warmup_epochs = default_n_warmup_epochs(max(int(0.9 * n_obs), 1), batch_size, max_epochs)
        return StartFromEmbedding(n_warmup_epochs, n_effective)

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

    @classmethod
    def load_query_data(cls, *args: Any, unfrozen: bool = False, **kwargs: Any) -> SCVI_VMM:
        """Map new cells into a trained model: its clusters are those of the reference.

        Prior and cached centres are frozen, so that clusters stay where they are however the encoder adapts to new batches.

        Parameters
        ----------
        *args, **kwargs
            As in :meth:`scvi.model.SCVI.load_query_data`.
        unfrozen
            Whether everything is trained, the prior included.
        """
        model: SCVI_VMM = super().load_query_data(*args, unfrozen=unfrozen, **kwargs)
        if not unfrozen:
            # not `freeze_prior`, which would encode the centres anew, with an encoder that has been extended
            model.module.prior.freeze()
            if model.module.pseudo_inputs is not None:
                model.module.pseudo_inputs.requires_grad_(False)
        return model

    def _validate_anndata(self, adata: AnnData | None = None, copy_if_view: bool = True) -> AnnData:
        # scvi-tools finds an unknown batch as well, but says to pass an argument that users cannot pass
        batch_key = self.registry_["setup_args"].get("batch_key")
        if adata is not None and batch_key in adata.obs and self.adata_manager is not None:
            known = self.adata_manager.get_state_registry(REGISTRY_KEYS.BATCH_KEY).categorical_mapping
            check_known_batches(adata.obs[batch_key], known)
        return super()._validate_anndata(adata, copy_if_view=copy_if_view)
