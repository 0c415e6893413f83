"""What a training depends on: defaults of the model, its prior, and how its cells are divided."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vmmscvi.model._pace import DEFAULT_BATCH_SIZE, LEARNING_RATE
from vmmscvi.priors import Prior


@dataclass(frozen=True)
class TrainingDefaults:
    """What a kind of model trains with unless told otherwise.

    Attributes
    ----------
    lr, prior_lr_ratio
        Learning rate of the networks, and that of the prior as a multiple of it.
    batch_size
        Cells in a minibatch.
    kl_warmup
        Share of the warm-up in which the weight of the Kullback-Leibler term rises from 0 to 1.
    plan
        Further arguments of the training plan.
    """

    lr: float = LEARNING_RATE
    prior_lr_ratio: float = 5.0
    batch_size: int = DEFAULT_BATCH_SIZE
    kl_warmup: float = 0.0
    plan: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingFacts:
    """What a request depends on, of the model and its data.

    Attributes
    ----------
    prior
        The prior as it is before training.
    n_obs
        Number of cells, ``None`` if a data module does not tell.
    n_train, n_validation
        Numbers of cells to train on and to validate on; ``None`` if unknown.
    has_trained_networks
        Whether the networks come from another model, so that they need no warm-up.
    has_batch_norm
        Whether the networks cannot be trained on a single cell.
    defaults
        What this kind of model trains with.
    """

    prior: Prior
    n_obs: int | None
    n_train: int | None
    n_validation: int | None
    has_trained_networks: bool = False
    has_batch_norm: bool = True
    defaults: TrainingDefaults = TrainingDefaults()


def check_last_minibatch(
    facts: TrainingFacts, batch_size: int, kwargs: Mapping[str, Any], n_processes: int = 1
) -> None:
    """Refuse trainings without a minibatch, and minibatches that batch normalisation cannot take.

    Parameters
    ----------
    facts
        The model and its data.
    batch_size
        Cells in a minibatch.
    kwargs
        Further arguments of the training.
    n_processes
        Number of processes; each has as many training cells as the others.

    Raises
    ------
    ValueError
        Says what to pass instead.
    """
    drops_last = bool((kwargs.get("datasplitter_kwargs") or {}).get("drop_last"))
    n_train = facts.n_train and math.ceil(facts.n_train / n_processes)
    if kwargs.get("limit_train_batches") == 0 or (drops_last and n_train and n_train < batch_size):
        raise ValueError(
            f"There is no minibatch to train on: {n_train} training cells, `batch_size={batch_size}`, "
            f"`drop_last={drops_last}`, `limit_train_batches={kwargs.get('limit_train_batches')}`."
        )
    if batch_size == 1 and facts.has_batch_norm:
        raise ValueError(
            "Every minibatch has a single cell (`batch_size=1`), which batch normalisation cannot take. Pass "
            f"`batch_size={_other_batch_size(n_train or 0, DEFAULT_BATCH_SIZE + 1)}`."
        )
    if n_train and n_train % batch_size == 1 and facts.has_batch_norm and not drops_last:
        other = _other_batch_size(n_train, batch_size)
        raise ValueError(
            f"The last minibatch has a single cell ({n_train} training cells, `batch_size={batch_size}`), "
            f"which batch normalisation cannot take. Pass `batch_size={other}` or "
            "`datasplitter_kwargs={'drop_last': True}`."
        )


def _other_batch_size(n_train: int, batch_size: int) -> int:
    """Return a near batch size whose last minibatch has more than one cell."""
    return next((b for b in range(batch_size - 1, 1, -1) if n_train % b != 1), max(n_train, 2))


def count_split(splitter_cls: Any, adata_manager: Any, arguments: Mapping[str, Any]) -> tuple[int, int]:
    """Count training and validation cells, as the splitter of scvi-tools will.

    Parameters
    ----------
    splitter_cls
        The splitter's class.
    adata_manager
        Manager of the data.
    arguments
        Arguments of the splitter.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says the same when it splits
        splitter = splitter_cls(adata_manager, **arguments)
    return int(splitter.n_train), int(splitter.n_val)


def divide_cells_of(
    datamodule: Any, split: Mapping[str, float | None], batch_size: int | None, shuffles: bool
) -> tuple[int, int | None]:
    """Divide the cells of a data module as training will, and count both parts; ``None`` if it does not tell.

    scvi-tools 1.5 calls ``set_split`` of a data module when training begins. That is too late to know whether
    there are validation cells, so that it is called here with the same arguments.

    Parameters
    ----------
    datamodule
        The data module.
    split
        ``train_size`` and ``validation_size``.
    batch_size
        Cells in a minibatch, or that of the module.
    shuffles
        Whether training cells are shuffled.
    """
    if hasattr(datamodule, "set_split"):
        sizes = split if any(size is not None for size in split.values()) else {"train_size": 0.9}
        datamodule.set_split(**sizes, shuffle_set_split=shuffles, batch_size=batch_size)
    n_obs = getattr(datamodule, "n_obs", None)
    train_idx = getattr(datamodule, "train_idx", None)
    n_train = int(0.9 * (n_obs or 0)) if train_idx is None else len(train_idx)
    return n_train, getattr(datamodule, "n_val", None)
