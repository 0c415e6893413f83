"""PeakVI with the VampPrior Mixture Model."""

from __future__ import annotations

from typing import Any, Literal

from anndata import AnnData
from scvi import REGISTRY_KEYS
from scvi.model import PEAKVI

from vmmscvi.model._accessibility_mixin import AccessibilityMixin
from vmmscvi.model._feature_checks import check_features
from vmmscvi.model._markers_mixin import MarkersMixin
from vmmscvi.model._registry import registry_argument
from vmmscvi.model._training_facts import TrainingDefaults
from vmmscvi.model._vmm_model import VMMModelMixin
from vmmscvi.module import PEAKVMMVAE
from vmmscvi.priors import Inference, PriorName


class PEAKVI_VMM(VMMModelMixin, MarkersMixin, AccessibilityMixin, PEAKVI):
    """PeakVI with the VampPrior Mixture Model: integrates and clusters chromatin accessibility (scATAC).

    The class inherits all of :class:`scvi.model.PEAKVI`. These defaults differ:

    - 128 hidden units and ten latent dimensions, whatever the number of peaks,
    - batch normalisation instead of layer normalisation,
    - networks that see the number of open peaks of a cell,
    - a loss that equals the negative ELBO (see :class:`vmmscvi.module.PEAKVMMVAE`).

    Accessibility is estimated at the mean depth of the data; ``normalize_cells`` only multiplies by the
    factor of :class:`scvi.model.PEAKVI`.

    Parameters
    ----------
    adata
        AnnData of counts or of zeros and ones, registered with :meth:`setup_anndata`.
    n_hidden, n_latent, n_layers_encoder, n_layers_decoder, dropout_rate, model_depth, region_factors, \
use_batch_norm, use_layer_norm, encode_covariates
        As in :class:`scvi.model.PEAKVI`.
    prior, n_components, inference
        As in :class:`vmmscvi.SCVI_VMM`.
    registry
        Registry of a custom data module, instead of ``adata``; needs scvi-tools 1.5.
    **model_kwargs
        Further arguments of :class:`vmmscvi.module.PEAKVMMVAE`, such as ``condition_on_depth``, and of
        :class:`vmmscvi.priors.PriorConfig`.

    References
    ----------
    Ashuach et al., Cell Reports Methods 2 (2022). Stirn & Knowles, arXiv 2402.04412.

    Examples
    --------
    >>> PEAKVI_VMM.setup_anndata(adata, batch_key="batch")
    >>> model = PEAKVI_VMM(adata)
    >>> model.train()
    >>> adata.obs["vmm_cluster"] = model.predict()
    """

    _module_cls = PEAKVMMVAE

    training_defaults = TrainingDefaults(batch_size=128)

    def __init__(
        self,
        adata: AnnData | None = None,
        n_hidden: int | None = 128,
        n_latent: int | None = 10,
        n_layers_encoder: int = 1,
        n_layers_decoder: int = 1,
        dropout_rate: float = 0.1,
        model_depth: bool = True,
        region_factors: bool = True,
        use_batch_norm: Literal["encoder", "decoder", "none", "both"] = "both",
        use_layer_norm: Literal["encoder", "decoder", "none", "both"] = "none",
        encode_covariates: bool = True,
        prior: PriorName = "vmm",
        n_components: int = 100,
        inference: Inference = "MAP-DP",
        registry: dict[str, Any] | None = None,
        **model_kwargs: Any,
    ) -> None:
        super().__init__(
            adata,
            n_hidden=n_hidden,
            n_latent=n_latent,
            n_layers_encoder=n_layers_encoder,
            n_layers_decoder=n_layers_decoder,
            dropout_rate=dropout_rate,
            model_depth=model_depth,
            region_factors=region_factors,
            use_batch_norm=use_batch_norm,
            use_layer_norm=use_layer_norm,
            encode_covariates=encode_covariates,
            prior=prior,
            n_components=n_components,
            inference=inference,
            **registry_argument(type(self), adata, registry),
            **model_kwargs,
        )
        self.init_params_ = self._get_init_params(locals())

    def check_data(self) -> None:
        """Check peaks, batches and covariates."""
        check_features(self.adata_manager, REGISTRY_KEYS.X_KEY, integral=False, allow_empty=False)
        super().check_data()
