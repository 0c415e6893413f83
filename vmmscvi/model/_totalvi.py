"""totalVI with the VampPrior Mixture Model."""

from __future__ import annotations

from typing import Any, Literal

from scvi import REGISTRY_KEYS
from scvi.model import TOTALVI

from vmmscvi.model._feature_checks import check_features
from vmmscvi.model._labels_field import LabelsFieldMixin
from vmmscvi.model._protein_markers_mixin import ProteinMarkersMixin
from vmmscvi.model._setup_checks import CountChecksMixin
from vmmscvi.model._training_facts import TrainingDefaults
from vmmscvi.model._validation import check_counts
from vmmscvi.model._vmm_model import VMMModelMixin
from vmmscvi.module import TOTALVMMVAE
from vmmscvi.priors import Inference, PriorName
from vmmscvi.train import AdversarialEmpiricalBayesPlan


class TOTALVI_VMM(VMMModelMixin, ProteinMarkersMixin, CountChecksMixin, LabelsFieldMixin, TOTALVI):
    """totalVI with the VampPrior Mixture Model: integrates and clusters RNA and surface proteins (CITE-seq).

    The class inherits all of :class:`scvi.model.TOTALVI`, including missing proteins and the adversarial
    classifier. The weight of the Kullback-Leibler terms rises to one during the first half of the warm-up,
    before the mixture is initialised.

    Parameters
    ----------
    adata
        AnnData or MuData of raw counts, registered with :meth:`setup_anndata` (which also takes
        ``labels_key``) or :meth:`setup_mudata`.
    n_latent, gene_dispersion, protein_dispersion, gene_likelihood, empirical_protein_background_prior, \
override_missing_proteins
        As in :class:`scvi.model.TOTALVI`.
    prior, n_components, inference
        As in :class:`vmmscvi.SCVI_VMM`.
    **model_kwargs
        Further arguments of :class:`scvi.module.TOTALVAE` and of :class:`vmmscvi.priors.PriorConfig`.

    References
    ----------
    Gayoso et al., Nature Methods 18 (2021). Stirn & Knowles, arXiv 2402.04412.

    Examples
    --------
    >>> TOTALVI_VMM.setup_anndata(adata, protein_expression_obsm_key="protein", batch_key="batch")
    >>> model = TOTALVI_VMM(adata)
    >>> model.train()
    >>> adata.obs["vmm_cluster"] = model.predict()
    """

    _module_cls = TOTALVMMVAE
    _training_plan_cls = AdversarialEmpiricalBayesPlan
    # totalVI's own optimizer: without Adam's large epsilon its ELBO is worse
    training_defaults = TrainingDefaults(
        lr=4e-3,
        prior_lr_ratio=1.25,
        kl_warmup=0.5,
        plan={"eps": 0.01, "weight_decay": 1e-6, "reduce_lr_on_plateau": True},
    )

    def __init__(
        self,
        adata: Any,
        n_latent: int = 20,
        gene_dispersion: Literal["gene", "gene-batch", "gene-label", "gene-cell"] = "gene",
        protein_dispersion: Literal["protein", "protein-batch", "protein-label"] = "protein",
        gene_likelihood: Literal["zinb", "nb"] = "nb",
        empirical_protein_background_prior: bool | None = None,
        override_missing_proteins: bool = False,
        prior: PriorName = "vmm",
        n_components: int = 100,
        inference: Inference = "MAP-DP",
        **model_kwargs: Any,
    ) -> None:
        super().__init__(
            adata,
            n_latent=n_latent,
            gene_dispersion=gene_dispersion,
            protein_dispersion=protein_dispersion,
            gene_likelihood=gene_likelihood,
            empirical_protein_background_prior=empirical_protein_background_prior,
            override_missing_proteins=override_missing_proteins,
            prior=prior,
            n_components=n_components,
            inference=inference,
            **model_kwargs,
        )
        self.init_params_ = self._get_init_params(locals())

    def train(  # type: ignore[override]
        self,
        max_epochs: int | None = None,
        *,
        plan_kwargs: dict[str, Any] | None = None,
        adversarial_classifier: bool | None = None,
        **kwargs: Any,
    ) -> None:
        """Train networks and prior.

        Parameters
        ----------
        max_epochs, plan_kwargs
            As in :meth:`vmmscvi.SCVI_VMM.train`.
        adversarial_classifier
            Whether to train against a classifier that predicts the batch from the latent space. By default
            only if a batch lacks proteins.
        **kwargs
            As in :meth:`vmmscvi.SCVI_VMM.train`.
        """
        fools = self._use_adversarial_classifier if adversarial_classifier is None else adversarial_classifier
        plan = {"adversarial_classifier": fools, **(plan_kwargs or {})}
        super().train(max_epochs=max_epochs, plan_kwargs=plan, **kwargs)

    def check_data(self) -> None:
        """Check counts of genes and proteins, batches and covariates."""
        check_counts(self.adata_manager)
        check_features(self.adata_manager, REGISTRY_KEYS.PROTEIN_EXP_KEY, integral=True, allow_empty=True)
        super().check_data()
