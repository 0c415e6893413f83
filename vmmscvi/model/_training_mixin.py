"""Training as a method of a model: a request is resolved, a start chosen, and scvi-tools trains."""

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

from vmmscvi._upstream import BatchNorm
from vmmscvi.model._after_training import number_epochs_of_prior, settle
from vmmscvi.model._callbacks import callbacks_of
from vmmscvi.model._keywords import check_keywords
from vmmscvi.model._request import StartName, TrainingRequest, keywords_of_training, sort_arguments
from vmmscvi.model._starts import start_for
from vmmscvi.model._training_facts import TrainingDefaults, TrainingFacts, count_split, divide_cells_of
from vmmscvi.model._validation import check_batches, check_covariates
from vmmscvi.priors import MixturePrior
from vmmscvi.starts import InitialisePrior, Start
from vmmscvi.train import EmpiricalBayesTrainingPlan
from vmmscvi.train._best_epoch import copied_state
from vmmscvi.train._reports import ReportStopping, quiet_lightning

logger = logging.getLogger(__name__)


class TrainingMixin:
    """Networks and prior are trained together."""

    module: Any
    adata: AnnData
    adata_manager: AnnDataManager
    is_trained_: bool
    history_: dict[str, pd.DataFrame] | None
    init_params_: dict[str, dict[str, Any]]
    has_trained_networks_: bool = False
    """Whether the networks come from another model, so that they need no warm-up."""
    max_components_: int | None = None
    """Number of components before the prior was first initialised, which bounds every later search."""
    start_labels_: list[str] | None = None
    """Label of each component, or the name of a free one, where the prior was initialised from labels."""

    training_defaults = TrainingDefaults()
    _data_splitter_cls = DataSplitter
    _training_plan_cls: Any = EmpiricalBayesTrainingPlan
    _train_runner_cls = TrainRunner

    if TYPE_CHECKING:

        def _remember_reference(self) -> None: ...

        def _map_new_batches(self) -> None: ...

        def _report_mapping(self) -> None: ...

        def _component_labels(self) -> list[str]: ...

    def check_data(self) -> None:
        """Check what the model is about to be trained on; models with counts check these too.

        Raises
        ------
        ValueError
            Names what was found, and what is expected.
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
            Largest number of epochs; by default scvi-tools' rule, 400 up to 20,000 cells and fewer above.
        accelerator, devices, train_size, validation_size
            As in :meth:`scvi.model.SCVI.train`.
        batch_size
            Cells in a minibatch, by default 256 (peaks: 128). With ``start="cells"`` it tunes the prior as
            well: hyper-priors are then weighed against one minibatch, so that a larger one allows more
            clusters.
        lr
            Learning rate of the networks. By default 1e-3; with more than 256 cells in a minibatch, of all
            processes together, by the square-root rule of Adam: 2e-3 with 1024, 4e-3 with 4096 and more.
        prior_lr_ratio
            Learning rate of the prior as a multiple of ``lr``, 5 by default.
        start
            How a Gaussian-mixture prior is initialised. ``"embedding"`` (default): the networks train under
            N(0, I) first; then clusters are found in the embedding, their number included. ``"cells"``: from
            ``n_components`` randomly drawn cells before the first minibatch, as in the paper; how many
            clusters are left then depends on ``prior_lr_ratio``, ``batch_size`` and the length of training.
            ``"labels"``: as ``"embedding"``, with the registered labels as part of the data. A component
            has a label or is free, a label may have several, and training keeps labelled cells with their
            label; see :meth:`predict_labels`. A prior that has been fitted continues, with its labels,
            unless ``start`` is given: then it is initialised anew.
        n_effective
            Unless ``start="cells"``: effective sample size, the number of cells that the data count as
            against the hyper-priors. What so many cells could not tell apart is not split; a rare type needs
            a share of about two cells in so many. At most the number of cells that the start is fitted to.
            By default 500; see :func:`vmmscvi.priors.fit_coarsened_mixture`. A fitted prior takes the new
            number from here on.
        n_warmup_epochs
            Epochs before the start from the embedding; by default as many as make 1000 minibatches (of 256
            cells, if they are smaller; fewer, as ``lr`` grows by default, if they are larger), at least five
            and at most half of ``max_epochs``; none after :meth:`from_scvi_model`.
        start_cells
            Positions of ``n_components`` cells that pseudo-inputs start from, for example of a few cells of
            each known type, instead of random ones; implies ``start="cells"``.
        unlabeled_category
            With ``start="labels"``: label of cells whose type is not known.
        label_noise
            With ``start="labels"``: share of wrong labels, 0 if all are right; by default it is learned.
        early_stopping
            Whether to stop when the validation ELBO no longer improves, and to restore the best epoch's
            weights; by default where there are validation cells.
        early_stopping_patience
            Epochs without improvement after which training stops; 45 by default.
        plan_kwargs
            Further arguments of :class:`vmmscvi.train.EmpiricalBayesTrainingPlan`; they win over ``lr`` and
            ``prior_lr_ratio``.
        **kwargs
            Further arguments of :meth:`scvi.model.SCVI.train` and of the Trainer, ``ckpt_path`` of a
            checkpoint to resume from among them.

        Raises
        ------
        TypeError
            If there is no argument of this name; says which was probably meant.
        ValueError
            If the data are not raw counts, have empty cells, batches of one cell, covariates that are not
            finite, or fewer cells than components; if ``max_epochs``, ``batch_size``, a learning rate or
            ``n_effective`` is not positive, an argument would have no effect, or the warm-up is not shorter
            than the training; if an argument of the Trainer cannot be had with
            two optimizers.
        FileNotFoundError
            If there is no checkpoint at ``ckpt_path``.
        NonFiniteTrainingError
            If a loss becomes NaN or infinite. The best epoch's weights are kept, or else those of an earlier
            training, and the model can be used.
        """
        check_keywords(kwargs, keywords_of_training(type(self)), "train")
        if kwargs.get("datamodule") is None:
            self._check_trainable()
        plan_kwargs = sort_arguments(plan_kwargs, kwargs)
        split = {"train_size": train_size, "validation_size": validation_size}
        facts = self._training_facts(batch_size, split, kwargs)
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
        """Run a training, and leave a model that can be used, however it ends."""
        kwargs = dict(request.trainer_kwargs)
        best_epoch, callbacks = callbacks_of(request, initialiser, kwargs)
        earlier = (self.history_ or {}) if self.is_trained_ else {}
        n_logged = {name: len(table) for name, table in earlier.items()}
        before = copied_state(self.module) if self.is_trained_ else None
        prior = self.module.latent_prior
        if request.start is None and request.n_effective is not None:  # a fitted mixture, told anew
            prior.n_effective = min(
                request.n_effective, self.adata.n_obs if self.adata is not None else np.inf
            )
        # after a training or a load the module is in evaluation mode, and Lightning trains it as it finds it
        self.module.train()
        self._map_new_batches()
        has_datamodule = kwargs.get("datamodule") is not None
        is_default_of_module = has_datamodule and request.batch_size == self.training_defaults.batch_size
        began, stopping = time.monotonic(), ReportStopping()
        try:
            with quiet_lightning():
                # by name: another model's own `train` would replace learning rate, optimizer and warm-up
                UnsupervisedTrainingMixin.train(
                    self,
                    max_epochs=request.max_epochs,
                    # scvi-tools >= 1.5 sets a data module's, but for this value: its own default
                    batch_size=128 if is_default_of_module else request.batch_size,
                    early_stopping=request.early_stopping,
                    early_stopping_patience=request.patience,
                    plan_kwargs=request.plan_kwargs,
                    callbacks=[*callbacks, stopping],
                    **where,
                    **kwargs,
                )
        except BaseException as error:  # an interruption by the user is a SystemExit by the time it gets here
            settle(self, error, restored=best_epoch.best_epoch is not None, before=before)
            raise
        else:
            self._remember_reference()
        finally:
            number_epochs_of_prior(self.history_ or {}, n_logged)
        self._report(initialiser, stopping.stopped_early, time.monotonic() - began)
        self._report_mapping()

    # -- what a training starts from -------------------------------------------------------------------------

    def _training_facts(
        self, batch_size: int | None, split: dict[str, Any], kwargs: dict[str, Any]
    ) -> TrainingFacts:
        datamodule = kwargs.get("datamodule")
        n_train: int | None
        n_validation: int | None
        if datamodule is None:
            n_obs: int | None = self.adata.n_obs
            size = self.training_defaults.batch_size if batch_size is None else batch_size
            arguments = {**split, "batch_size": size, **(kwargs.get("datasplitter_kwargs") or {})}
            n_train, n_validation = count_split(self._data_splitter_cls, self.adata_manager, arguments)
        else:
            n_obs = getattr(datamodule, "n_obs", None)
            shuffles = kwargs.get("shuffle_set_split", True)
            n_train, n_validation = divide_cells_of(datamodule, split, batch_size, shuffles)
        return TrainingFacts(
            prior=self.module.latent_prior,
            n_obs=n_obs,
            n_train=n_train,
            n_validation=n_validation,
            has_trained_networks=self.has_trained_networks_,
            has_batch_norm=any(isinstance(layer, BatchNorm) for layer in self.module.modules()),
            defaults=self.training_defaults,
        )

    def _check_trainable(self) -> None:
        if getattr(self, "minified_data_type", None) is not None:  # not every model can be minified
            raise ValueError(
                "The model's data are minified: they cannot be trained on. Load the model with full counts."
            )
        self.check_data()

    # -- what a training leaves ------------------------------------------------------------------------------

    def _prior_was_initialised(self, n_components: int, start: Start | None) -> None:
        """Keep the arguments of the constructor true: they describe the module when it is loaded."""
        for arguments in self.init_params_.values():
            for given in (arguments, *(v for v in arguments.values() if isinstance(v, dict))):
                if "n_components" in given:
                    given["n_components"] = n_components
        has_labels = getattr(self.module.latent_prior, "labels", None) is not None
        self.start_labels_ = self._component_labels() if has_labels else None

    def _report(self, initialiser: InitialisePrior, stopped_early: bool, seconds: float) -> None:
        """Say what was found, in one line."""
        if initialiser.ended_in_warmup:
            logger.warning("Training ended in the warm-up: the clusters are those of its last embedding.")
        prior = self.module.latent_prior
        what = f"{prior.n_components} components" if isinstance(prior, MixturePrior) else "no clusters"
        trainer: Any = self.trainer  # type: ignore[attr-defined]
        why = "the validation ELBO no longer improves" if stopped_early else "all epochs"
        logger.info("Trained %s epochs in %.0f s (%s): %s.", trainer.current_epoch, seconds, why, what)
