"""PoissonVI with the VampPrior Mixture Model."""

from __future__ import annotations

from typing import Any, Literal

from anndata import AnnData
from scvi import REGISTRY_KEYS
from scvi.external import POISSONVI
from scvi.model import PEAKVI

from vmmscvi.model._importance_mixin import ImportanceWeightsMixin
from vmmscvi.model._markers_mixin import MarkersMixin
from vmmscvi.model._training_facts import TrainingDefaults
from vmmscvi.model._validation import check_counts
from vmmscvi.model._vmm_model import VMMModelMixin
from vmmscvi.module import POISSONVMMVAE
from vmmscvi.priors import Inference, PriorName


class POISSONVI_VMM(VMMModelMixin, MarkersMixin, ImportanceWeightsMixin, POISSONVI):
    """PoissonVI with the VampPrior Mixture Model: integrates and clusters fragment counts (scATAC).

    The class inherits all of :class:`scvi.external.POISSONVI`. Its networks are those of
    :class:`vmmscvi.SCVI_VMM`: 128 hidden units and ten latent dimensions, whatever the number of peaks, and
    batch normalisation instead of layer normalisation. The encoder receives each peak's share of a cell's
    log-counts (see :class:`vmmscvi.module.POISSONVMMVAE`), which keeps depth out of the embedding.

    Parameters
    ----------
    adata
        AnnData of fragment counts (see :func:`scvi.data.reads_to_fragments`), registered with
        :meth:`setup_anndata`.
    n_hidden, n_latent, n_layers, dropout_rate
        As in :class:`scvi.external.POISSONVI`.
    use_batch_norm, use_layer_norm, encode_covariates
        As in :class:`scvi.module.VAE`.
    prior, n_components, inference
        As in :class:`vmmscvi.SCVI_VMM`.
    registry
        Registry of a custom data module, instead of ``adata``.
    **model_kwargs
        Further arguments of :class:`vmmscvi.module.POISSONVMMVAE`.

    References
    ----------
    Martens et al., Nature Methods 21 (2024). Stirn & Knowles, arXiv 2402.04412.

    Examples
    --------
    >>> POISSONVI_VMM.setup_anndata(adata, layer="fragments", batch_key="batch")
    >>> model = POISSONVI_VMM(adata)
    >>> model.train()
    >>> adata.obs["vmm_cluster"] = model.predict()
    """

    _module_cls = POISSONVMMVAE

    training_defaults = TrainingDefaults(batch_size=128)

    def __init__(
        self,
        adata: AnnData | None = None,
        n_hidden: int = 128,
        n_latent: int = 10,
        n_layers: int = 1,
        dropout_rate: float = 0.1,
        use_batch_norm: Literal["encoder", "decoder", "none", "both"] = "both",
        use_layer_norm: Literal["encoder", "decoder", "none", "both"] = "none",
        encode_covariates: bool = True,
        prior: PriorName = "vmm",
        n_components: int = 100,
        inference: Inference = "MAP-DP",
        registry: dict[str, Any] | None = None,
        **model_kwargs: Any,
    ) -> None:
        # skip the constructors of POISSONVI and PEAKVI, which build other networks
        super(PEAKVI, self).__init__(adata, registry)
        fields = self.registry_["field_registries"]
        covariates = fields.get(REGISTRY_KEYS.CAT_COVS_KEY, {}).get("state_registry", {})
        size_factor = fields.get(REGISTRY_KEYS.SIZE_FACTOR_KEY, {}).get("data_registry", {})
        self.module = self._module_cls(
            n_input=self.summary_stats.n_vars,
            n_batch=self.summary_stats.n_batch,
            n_labels=self.summary_stats.n_labels,
            n_continuous_cov=self.summary_stats.get("n_extra_continuous_covs", 0),
            n_cats_per_cov=covariates.get("n_cats_per_key"),
            n_hidden=n_hidden,
            n_latent=n_latent,
            n_layers=n_layers,
            dropout_rate=dropout_rate,
            use_size_factor_key=bool(size_factor),
            use_batch_norm=use_batch_norm,
            use_layer_norm=use_layer_norm,
            encode_covariates=encode_covariates,
            prior=prior,
            n_components=n_components,
            inference=inference,
            **model_kwargs,
        )
        self.get_normalized_function_name = "get_normalized_accessibility"
        self.n_latent = n_latent
        self._model_summary_string = (
            f"POISSONVI_VMM model with the following parameters: \nn_hidden: {n_hidden}, "
            f"n_latent: {n_latent}, n_layers: {n_layers}."
        )
        self.init_params_ = self._get_init_params(locals())

    def check_data(self) -> None:
        """Check fragment counts, batches and covariates."""
        check_counts(self.adata_manager)
        super().check_data()
