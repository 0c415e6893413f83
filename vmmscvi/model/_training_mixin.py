"""Training as a method of a model: resolve the request, choose the initialisation, train with scvi-tools."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scvi.data import AnnDataManager
from scvi.dataloaders import DataSplitter
from scvi.model.base import UnsupervisedTrainingMixin
from scvi.train import TrainRunner

from vmmscvi.model._after_training import number_epochs_of_prior, settle
from vmmscvi.model._callbacks import callbacks_of
from vmmscvi.model._keywords import check_keywords
from vmmscvi.model._request import StartName, TrainingRequest, keywords_of_training, sort_arguments
from vmmscvi.model._starts import start_for
from vmmscvi.model._training_facts import TrainingDefaults, TrainingFacts
from vmmscvi.model._validation import check_batches, check_covariates
from vmmscvi.priors import MixturePrior
from vmmscvi.starts import InitialisePrior, Start
from vmmscvi.train import EmpiricalBayesTrainingPlan
from vmmscvi.train._best_epoch import copied_state
from vmmscvi.train._reports import ReportStopping, quiet_lightning

logger = logging.getLogger(__name__)


class TrainingMixin:
    """Joint training of networks and prior."""

    module: Any
    adata: AnnData
    adata_manager: AnnDataManager
    is_trained_: bool
    history_: dict[str, pd.DataFrame] | None
    init_params_: dict[str, dict[str, Any]]
    has_trained_networks_: bool = False
    """Whether the networks come from another trained model and need no warm-up."""
    max_components_: int | None = None
    """Number of components before the first initialisation; the upper bound of every later search."""
    start_labels_: list[str] | None = None
    """Label of each component, or name of a free component, if the prior was initialised from labels."""

    training_defaults = TrainingDefaults()
    _data_splitter_cls = DataSplitter
    _training_plan_cls: Any = EmpiricalBayesTrainingPlan
    _train_runner_cls = TrainRunner

    if TYPE_CHECKING:

        def _remember_reference(self) -> None: ...

        def _calibrate_labels(self) -> None: ...

        def _map_new_batches(self) -> None: ...

        def _report_mapping(self) -> None: ...

        def _component_labels(self) -> list[str]: ...

    def check_data(self) -> None:
        """Check batches and covariates before training; models of counts also check the counts.

        Raises
        ------
        ValueError
            If the data are invalid. The message names the values found and expected.
        """
        check_batches(self.adata_manager)
        check_covariates(self.adata_manager)

    def train(
        self,
        max_epochs: int | None = None,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        train_size: float | None = None,
        validation_size: float | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        prior_lr_ratio: float | None = None,
        start: StartName | None = None,
        n_effective: float | None = None,
        n_warmup_epochs: int | None = None,
        start_cells: Sequence[int] | np.ndarray | None = None,
        unlabeled_category: str | None = None,
        label_noise: float | None = None,
        early_stopping: bool | None = None,
        early_stopping_patience: int | None = None,
        plan_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Train networks and prior.

        Parameters
        ----------
        max_epochs
            Largest number of epochs. The default is scvi-tools' rule: 400 up to 20,000 cells, fewer above.
        accelerator, devices, train_size, validation_size
            As in :meth:`scvi.model.SCVI.train`.
        batch_size
            Cells in a minibatch, by default 256 (peaks: 128). With ``start="cells"`` it also sets the
            granularity: each minibatch then opposes the hyper-priors alone, so larger minibatches allow more
            clusters.
        lr
            Learning rate of the networks. The default is 1e-3. If the minibatches of all processes together
            exceed 256 cells, it follows Adam's square-root rule: 2e-3 for 1024 cells, 4e-3 for 4096 or more.
        prior_lr_ratio
            Learning rate of the prior as a multiple of ``lr``, 5 by default.
        start
            How to initialise a Gaussian-mixture prior.

            - ``"embedding"`` (default): the networks are first trained under N(0, I); the clusters and their
              number are then found in the embedding.
            - ``"cells"``: from ``n_components`` random cells before the first minibatch, as in the paper.
              The number of clusters that remain then depends on ``prior_lr_ratio``, ``batch_size`` and the
              length of training.
            - ``"labels"``: as ``"embedding"``, with the registered labels as further data. Each component
              has one label or none; several components may share a label. Training keeps labelled cells in
              components of their label; see :meth:`predict_labels`.

            A fitted prior, with its labels, is trained further; pass ``start`` to initialise it again.
        n_effective
            Effective sample size of the clustering, 500 by default: the data enter with the weight of this
            many cells against the hyper-priors. Smaller values give fewer, coarser clusters; a rare type
            needs a share of about two cells in ``n_effective``. At most the number of cells that the
            initialisation is fitted to. Not used with ``start="cells"``. A fitted prior uses a new value
            from this training on. See :func:`vmmscvi.priors.fit_coarsened_mixture`.
        n_warmup_epochs
            Epochs under N(0, I) before the prior is initialised from the embedding. The default makes 1000
            minibatches, at least five epochs and at most half of ``max_epochs``. Minibatches of fewer than
            256 cells are counted as if they had 256; larger ones need fewer steps, as the default ``lr``
            grows. No warm-up after :meth:`from_scvi_model`.
        start_cells
            Positions of the ``n_components`` cells that initialise the pseudo-inputs, for example a few cells
            of each known type. Random cells by default. Implies ``start="cells"``.
        unlabeled_category
            With ``start="labels"``: label of the cells whose type is unknown.
        label_noise
            With ``start="labels"``: share of wrong labels, 0 if all are right. Learned by default.
        early_stopping
            Whether to stop when the validation ELBO no longer improves, and to restore the weights of the
            best epoch. By default ``True`` if there are validation cells.
        early_stopping_patience
            Epochs without improvement before training stops; 45 by default.
        plan_kwargs
            Further arguments of :class:`vmmscvi.train.EmpiricalBayesTrainingPlan`. They override ``lr`` and
            ``prior_lr_ratio``.
        **kwargs
            Further arguments of :meth:`scvi.model.SCVI.train` and of the Trainer, such as ``ckpt_path``, a
            checkpoint to resume from.

        Raises
        ------
        TypeError
            If an argument does not exist; the message suggests the nearest one.
        ValueError
            If the data are not raw counts, contain empty cells, batches of one cell or covariates that are
            not finite, or have fewer cells than components. If ``max_epochs``, ``batch_size``, a learning
            rate or ``n_effective`` is not positive, an argument would have no effect, or the warm-up is not
            shorter than the training. If an argument of the Trainer does not work with two optimizers.
        FileNotFoundError
            If there is no checkpoint at ``ckpt_path``.
        NonFiniteTrainingError
            If a loss becomes NaN or infinite. The weights of the best epoch are kept, or else those of an
            earlier training, and the model can be used.
        """
        check_keywords(kwargs, keywords_of_training(type(self)), "train")
        if kwargs.get("datamodule") is None:
            self._check_trainable()
        plan_kwargs = sort_arguments(plan_kwargs, kwargs)
        split = {"train_size": train_size, "validation_size": validation_size}
        facts = TrainingFacts.of(self, batch_size, split, kwargs)
        request = TrainingRequest.resolve(
            facts,
            max_epochs=max_epochs,
            accelerator=accelerator,
            devices=devices,
            batch_size=batch_size,
            lr=lr,
            prior_lr_ratio=prior_lr_ratio,
            start=start,
            n_effective=n_effective,
            n_warmup_epochs=n_warmup_epochs,
            start_cells=start_cells,
            unlabeled_category=unlabeled_category,
            label_noise=label_noise,
            early_stopping=early_stopping,
            early_stopping_patience=early_stopping_patience,
            plan_kwargs=plan_kwargs,
            **kwargs,
        )
        if not facts.prior.is_fitted and request.start is not None:
            self.max_components_ = getattr(facts.prior, "n_components", None)
        manager = self.adata_manager if request.trainer_kwargs.get("datamodule") is None else None
        chosen = start_for(request, facts, manager, self.max_components_)
        initialiser = InitialisePrior(chosen, request.n_warmup_epochs)
        for note in request.notes:
            logger.warning(note)
        self._run(request, initialiser, {"accelerator": accelerator, "devices": devices, **split})

    def _run(self, request: TrainingRequest, initialiser: InitialisePrior, where: dict[str, Any]) -> None:
        """Run a training; leave a usable model even if it fails."""
        kwargs = dict(request.trainer_kwargs)
        best_epoch, callbacks = callbacks_of(request, initialiser, kwargs)
        earlier = (self.history_ or {}) if self.is_trained_ else {}
        n_logged = {name: len(table) for name, table in earlier.items()}
        before = copied_state(self.module) if self.is_trained_ else None
        prior = self.module.latent_prior
        if request.start is None and request.n_effective is not None:  # new value for a fitted mixture
            prior.n_effective = min(
                request.n_effective, self.adata.n_obs if self.adata is not None else np.inf
            )
        # training and loading leave the module in evaluation mode, which Lightning does not change
        self.module.train()
        self._map_new_batches()
        has_datamodule = kwargs.get("datamodule") is not None
        is_default_of_module = has_datamodule and request.batch_size == self.training_defaults.batch_size
        began, stopping = time.monotonic(), ReportStopping()
        try:
            with quiet_lightning():
                # called by class: a model's own `train` would replace learning rate, optimizer and warm-up
                UnsupervisedTrainingMixin.train(
                    self,
                    max_epochs=request.max_epochs,
                    # scvi-tools >= 1.5 uses the data module's batch size only if this is its default, 128
                    batch_size=128 if is_default_of_module else request.batch_size,
                    early_stopping=request.early_stopping,
                    early_stopping_patience=request.patience,
                    plan_kwargs=request.plan_kwargs,
                    callbacks=[*callbacks, stopping],
                    **where,
                    **kwargs,
                )
        except BaseException as error:  # Lightning turns an interruption by the user into a SystemExit
            settle(self, error, restored=best_epoch.best_epoch is not None, before=before)
            raise
        else:
            self._remember_reference()
            self._calibrate_labels()
        finally:
            number_epochs_of_prior(self.history_ or {}, n_logged)
        self._report(initialiser, stopping.stopped_early, time.monotonic() - began)
        self._report_mapping()

    # -- before training -------------------------------------------------------------------------------------

    def _check_trainable(self) -> None:
        if getattr(self, "minified_data_type", None) is not None:  # not every model can be minified
            raise ValueError(
                "The model's data are minified, and training needs counts: load the model with full counts."
            )
        self.check_data()

    # -- after training --------------------------------------------------------------------------------------

    def _prior_was_initialised(self, n_components: int, start: Start | None) -> None:
        """Update the constructor's arguments, from which a saved model is rebuilt."""
        for arguments in self.init_params_.values():
            for given in (arguments, *(v for v in arguments.values() if isinstance(v, dict))):
                if "n_components" in given:
                    given["n_components"] = n_components
        has_labels = getattr(self.module.latent_prior, "labels", None) is not None
        self.start_labels_ = self._component_labels() if has_labels else None

    def _report(self, initialiser: InitialisePrior, stopped_early: bool, seconds: float) -> None:
        """Log the result in one line."""
        if initialiser.ended_in_warmup:
            logger.warning("Training ended during the warm-up: clusters are those of the last embedding.")
        prior = self.module.latent_prior
        what = f"{prior.n_components} components" if isinstance(prior, MixturePrior) else "no clusters"
        trainer: Any = self.trainer  # type: ignore[attr-defined]
        why = "the validation ELBO no longer improves" if stopped_early else "all epochs"
        logger.info("Trained %s epochs in %.0f s (%s): %s.", trainer.current_epoch, seconds, why, what)
