"""The request of a call of ``train``: its defaults, and everything that is refused before training."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scvi.dataloaders import DataSplitter

from vmmscvi import SCVI_VMM
from vmmscvi.model._request import TrainingRequest
from vmmscvi.model._training_facts import TrainingDefaults, TrainingFacts, count_split
from vmmscvi.priors import Prior, PriorConfig, PriorState

FOUR = {"strategy": "ddp_find_unused_parameters_true", "devices": 4, "accelerator": "cpu"}
NAMES = ("vmm", "gmm", "vampprior", "standard_normal")


def prior(name: str = "vmm", state: PriorState = PriorState.UNFITTED) -> Prior:
    built = PriorConfig(name, 8).build(4)
    built.state = state
    return built


def resolve(name: str = "vmm", state: PriorState = PriorState.UNFITTED, **arguments: Any) -> TrainingRequest:
    """The request of a model of 10,000 cells, 9000 of which are trained on."""
    of_facts = (field.name for field in fields(TrainingFacts))
    facts = {name: arguments.pop(name) for name in of_facts if name in arguments}
    sizes = {"n_obs": 10_000, "n_train": 9000, "n_validation": 1000}
    return TrainingRequest.resolve(TrainingFacts(prior(name, state), **{**sizes, **facts}), **arguments)


# -- defaults ------------------------------------------------------------------------------------------------


def test_without_arguments_the_defaults_are_the_documented_ones() -> None:
    request = resolve()
    assert (request.max_epochs, request.n_warmup_epochs, request.batch_size) == (400, 28, 256)
    assert (request.start, request.n_effective, request.start_cells) == ("embedding", None, None)
    assert (request.early_stopping, request.patience) == (True, 45)
    assert request.plan_kwargs == {"lr": 1e-3, "prior_lr_ratio": 5.0}
    assert request.trainer_kwargs == {} and request.notes == ()


@pytest.mark.parametrize(
    ("name", "state", "arguments", "start"),
    [
        ("vmm", PriorState.UNFITTED, {}, "embedding"),
        ("gmm", PriorState.UNFITTED, {}, "embedding"),
        ("vampprior", PriorState.UNFITTED, {}, "cells"),
        ("standard_normal", PriorState.UNFITTED, {}, None),
        ("standard_normal", PriorState.UNFITTED, {"start": "cells"}, None),
        ("vmm", PriorState.UNFITTED, {"start_cells": range(8)}, "cells"),
        ("vmm", PriorState.UNFITTED, {"start": "labels"}, "labels"),
        ("vmm", PriorState.WARMING_UP, {}, "embedding"),
        *((name, PriorState.FITTED, {}, None) for name in NAMES),
        *((name, PriorState.FROZEN, {}, None) for name in NAMES),
        ("vmm", PriorState.FITTED, {"start": "embedding"}, "embedding"),
        ("vmm", PriorState.FITTED, {"start": "cells"}, "cells"),
        ("vmm", PriorState.FITTED, {"start_cells": range(8)}, "cells"),
        ("vampprior", PriorState.FITTED, {"start": "cells"}, "cells"),
    ],
)  # fmt: skip
def test_how_the_prior_is_initialised(
    name: str, state: PriorState, arguments: dict[str, Any], start: str | None
) -> None:
    assert resolve(name, state, **arguments).start == start


@pytest.mark.parametrize(
    ("arguments", "n_epochs"),
    [
        ({}, 28),  # of 36 minibatches
        ({"batch_size": 32}, 28),  # smaller minibatches make it no shorter
        ({"batch_size": 1024}, 56),  # of 9 minibatches, at twice the learning rate
        ({"batch_size": 1024, "lr": 1e-3}, 112),
        ({"n_train": 900_000}, 5),
        ({"max_epochs": 21}, 10),
        ({"max_epochs": 1}, 0),
        ({"n_train": None}, 200),
        ({"n_warmup_epochs": 7}, 7),
        ({"n_warmup_epochs": 7.0, "start": "labels"}, 7),
        ({"has_trained_networks": True}, 0),
        ({"has_trained_networks": True, "n_warmup_epochs": 3}, 3),
        ({"start": "cells"}, 0),
        ({"state": PriorState.FITTED}, 0),
        ({"state": PriorState.FITTED, "start": "embedding"}, 0),
        ({"state": PriorState.FITTED, "start": "embedding", "n_warmup_epochs": 3}, 3),
        ({"name": "vampprior"}, 0),
    ],
    ids=str,
)
def test_length_of_the_warm_up(arguments: dict[str, Any], n_epochs: int) -> None:
    assert resolve(**arguments).n_warmup_epochs == n_epochs


@pytest.mark.parametrize(
    ("arguments", "lr"),
    [
        ({"batch_size": 32}, 1e-3),
        ({"batch_size": 1024}, 2e-3),
        ({"batch_size": 1024, "lr": 5e-3}, 5e-3),
        ({"batch_size": 1024, "plan_kwargs": {"lr": 3e-3}}, 3e-3),
        ({"batch_size": 1024, "plan_config": {"lr": 3e-3}}, 3e-3),
        ({"batch_size": 10**6, "n_obs": 1024, "n_train": 900}, 2e-3),  # no larger than the data
        ({"batch_size": 256, **FOUR}, 2e-3),  # of all processes together
        ({"defaults": TrainingDefaults(lr=1e-4)}, 1e-4),
    ],
    ids=str,
)
def test_learning_rate(arguments: dict[str, Any], lr: float) -> None:
    assert resolve(**arguments).plan_kwargs["lr"] == pytest.approx(lr)


@pytest.mark.parametrize("value", [3, 3.0, np.int64(3), np.float32(3)], ids=repr)
def test_whole_numbers_of_any_kind_are_accepted(value: Any) -> None:
    request = resolve(max_epochs=value, batch_size=value, n_warmup_epochs=np.int64(1))
    assert (request.max_epochs, request.batch_size) == (3, 3)
    assert type(request.max_epochs) is type(request.n_warmup_epochs) is int


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, (True, 45)),
        ({"n_validation": 0}, (False, 45)),
        ({"n_validation": None}, (True, 45)),
        ({"early_stopping": False, "early_stopping_patience": 3}, (False, 3)),
        ({"trainer_config": {"early_stopping": False, "early_stopping_patience": 1}}, (False, 1)),
    ],
    ids=str,
)
def test_early_stopping(arguments: dict[str, Any], expected: tuple[bool, int]) -> None:
    request = resolve(**arguments)
    assert (request.early_stopping, request.patience) == expected


def test_arguments_of_the_plan_win_over_its_configuration_and_that_over_the_models_defaults() -> None:
    defaults = TrainingDefaults(plan={"eps": 1.0, "weight_decay": 1.0, "gradient_clip_val": 1.0})
    request = resolve(
        defaults=defaults, gradient_clip_val=2.0, plan_config={"eps": 3.0}, plan_kwargs={"eps": 4.0}, lr=0.1,
        prior_lr_ratio=2.0, limit_train_batches=7,
    )  # fmt: skip
    assert request.plan_kwargs == {
        "eps": 4.0, "weight_decay": 1.0, "gradient_clip_val": 2.0, "lr": 0.1, "prior_lr_ratio": 2.0,
    }  # fmt: skip
    assert request.trainer_kwargs == {"limit_train_batches": 7}


@pytest.mark.parametrize(
    ("arguments", "n_epochs"),
    [
        ({}, 14),
        ({"n_warmup_epochs": 10}, 5),
        ({"name": "standard_normal"}, 14),
        ({"start": "cells"}, None),
        ({"state": PriorState.FITTED}, None),
        ({"has_trained_networks": True}, None),
        ({"plan_kwargs": {"n_epochs_kl_warmup": 9}}, 9),
        ({"plan_kwargs": {"n_steps_kl_warmup": 9}}, None),
    ],
    ids=str,
)
def test_a_warm_up_of_the_divergence_ends_before_the_prior_is_initialised(
    arguments: dict[str, Any], n_epochs: int | None
) -> None:
    request = resolve(defaults=TrainingDefaults(kl_warmup=0.5), **arguments)
    assert request.plan_kwargs.get("n_epochs_kl_warmup") == n_epochs


def test_a_warm_up_that_is_cut_short_is_noted_unless_it_was_asked_for() -> None:
    assert "Fewer clusters may be found" in resolve(max_epochs=20).notes[0]
    assert resolve(max_epochs=20, n_warmup_epochs=10).notes == ()
    assert resolve(max_epochs=20, start="cells").notes == ()


# -- refusals ------------------------------------------------------------------------------------------------

RANGES: list[tuple[dict[str, Any], str]] = [
    ({"start": "clusters"}, r"`start` must be one of \('embedding', 'cells', 'labels'\), found 'clusters'"),
    ({"n_effective": 0}, "`n_effective` must be positive, found 0"),
    ({"n_effective": -5.0}, "`n_effective` must be positive, found -5.0"),
    ({"n_effective": float("nan")}, "`n_effective` must be positive, found nan"),
    ({"n_warmup_epochs": -1}, "`n_warmup_epochs` must be an integer of at least 0, found -1"),
    ({"n_warmup_epochs": 1.5}, "`n_warmup_epochs` must be an integer of at least 0, found 1.5"),
    ({"n_warmup_epochs": 2, "max_epochs": 2}, r"less than `max_epochs` \(2\), found 2"),
    ({"n_warmup_epochs": 400}, r"less than `max_epochs` \(400\), found 400"),
    ({"max_epochs": 0}, "`max_epochs` must be a positive integer, found 0"),
    ({"max_epochs": 2.5}, "`max_epochs` must be a positive integer, found 2.5"),
    ({"max_epochs": True}, "`max_epochs` must be a positive integer, found True"),
    ({"max_epochs": "3"}, "`max_epochs` must be a positive integer, found '3'"),
    ({"max_epochs": float("nan")}, "`max_epochs` must be a positive integer, found nan"),
    ({"n_obs": None}, "`max_epochs` is missing"),
    ({"batch_size": 0}, "`batch_size` must be a positive integer, found 0"),
    ({"batch_size": 2.5}, "`batch_size` must be a positive integer, found 2.5"),
    ({"precision": "16-true"}, "`precision` must be one of"),
    ({"accumulate_grad_batches": 2}, "`accumulate_grad_batches` must be 1, found 2"),
    ({"strategy": "ddp"}, "`strategy` must be 'ddp_find_unused_parameters_true'"),
]


@pytest.mark.parametrize(("arguments", "message"), RANGES, ids=str)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(**arguments)


CELLS = range(8)
ANY = {
    "start_cells": CELLS,
    "n_effective": 9.0,
    "n_warmup_epochs": 1,
    "unlabeled_category": "?",
    "label_noise": 0.1,
}
USELESS: list[tuple[dict[str, Any], list[str], str]] = [
    # what each start has no use for
    ({"start": "cells"}, ["n_effective", "n_warmup_epochs", "unlabeled_category"], "`start` is 'cells'"),
    ({"start": "embedding"}, ["start_cells", "unlabeled_category", "label_noise"], "`start` is 'embedding'"),
    ({"start": "labels"}, ["start_cells"], "`start` is 'labels'"),
    ({"start": "cells", "name": "gmm"}, [*ANY], "`start` is 'cells'"),
    # what each prior has no use for
    ({"name": "vampprior"}, ["n_effective", "n_warmup_epochs", "unlabeled_category"], "a VampPrior"),
    ({"name": "standard_normal"}, [*ANY], "a StandardNormalPrior"),
    # what has been fitted continues
    ({"state": PriorState.FITTED}, ["n_warmup_epochs", "unlabeled_category"], "prior is already fitted"),
    ({"state": PriorState.FITTED, "name": "vampprior"}, ["n_effective", "n_warmup_epochs"], "already fitted"),
    ({"state": PriorState.FROZEN}, [*ANY], "frozen, because it is that of a reference"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "argument", "why"),
    [(arguments, argument, why) for arguments, useless, why in USELESS for argument in useless],
    ids=str,
)
def test_arguments_without_effect_are_refused(arguments: dict[str, Any], argument: str, why: str) -> None:
    with pytest.raises(ValueError, match=rf"\['{argument}'\] would have no effect: .*{why}"):
        resolve(**arguments, **{argument: ANY[argument]})


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({"start": "embedding"}, "n_effective"),
        ({"start": "embedding"}, "n_warmup_epochs"),
        ({"start": "labels"}, "unlabeled_category"),
        ({"start": "labels"}, "n_effective"),
        ({"start": "labels"}, "label_noise"),
        ({"start": "cells"}, "start_cells"),
        ({"name": "vampprior"}, "start_cells"),
        ({"state": PriorState.FITTED}, "n_effective"),
    ],
    ids=str,
)
def test_arguments_with_an_effect_are_kept(arguments: dict[str, Any], argument: str) -> None:
    found = getattr(resolve(**arguments, **{argument: ANY[argument]}), argument)
    assert np.array_equal(found, ANY[argument])


@pytest.mark.parametrize("start", ["embedding", "labels"])
@pytest.mark.parametrize("name", ["vampprior", "standard_normal"])
def test_a_prior_without_components_to_be_found_has_no_such_start(name: str, start: str) -> None:
    with pytest.raises(ValueError, match=r"\['start'\] would have no effect: the prior is a"):
        resolve(name, start=start)


@pytest.mark.parametrize("start", ["embedding", "cells", "labels"])
def test_a_frozen_prior_is_not_initialised_again(start: str) -> None:
    with pytest.raises(ValueError, match=r"\['start'\] would have no effect: the prior is frozen"):
        resolve(state=PriorState.FROZEN, start=start)


@pytest.mark.parametrize(
    "arguments",
    [
        {"n_train": 257},
        {"n_train": 9001, "batch_size": 100},
        {"n_train": 3, "batch_size": 2},
        {"n_train": 9, "batch_size": 1},
        {"n_train": 4 * 256 + 1, **FOUR},  # each of four processes has 257, the last ones of them twice
    ],
    ids=str,
)
def test_a_minibatch_of_one_cell_is_refused_and_the_proposed_size_is_accepted(
    arguments: dict[str, Any],
) -> None:
    with pytest.raises(ValueError, match=r"has a single cell .* batch normalisation needs two") as error:
        resolve(**arguments)
    proposed = int(str(error.value).split("Pass `batch_size=")[1].split("`")[0])
    assert resolve(**{**arguments, "batch_size": proposed}).batch_size == proposed
    assert resolve(**arguments, has_batch_norm=False)
    if arguments.get("batch_size") != 1:
        assert "drop_last" in str(error.value)
        assert resolve(**arguments, datasplitter_kwargs={"drop_last": True})
    else:
        assert "drop_last" not in str(error.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"limit_train_batches": 0},
        {"limit_train_batches": 0.0},
        {"n_train": 100, "datasplitter_kwargs": {"drop_last": True}},
    ],
    ids=str,
)
def test_a_training_without_a_minibatch_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"There is no minibatch to train on"):
        resolve(**arguments)


def test_minibatches_of_a_data_module_are_its_own() -> None:
    request = resolve(n_train=257, datamodule=SimpleNamespace(batch_size=1024))
    assert request.plan_kwargs["lr"] == pytest.approx(2e-3)


# -- cells are counted by who knows --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, (270, 30)),
        ({"train_size": 0.5}, (150, 150)),
        ({"train_size": 0.5, "validation_size": 0.25}, (150, 75)),
        ({"external_indexing": [np.arange(280), np.arange(280, 290), np.arange(290, 300)]}, (280, 10)),
    ],
    ids=str,
)
def test_training_cells_are_counted_as_the_splitter_will(
    make_model: Any, arguments: dict[str, Any], expected: tuple[int, int]
) -> None:
    assert count_split(DataSplitter, make_model().adata_manager, arguments) == expected


def test_facts_of_a_training_are_those_of_its_cells(make_model: Any) -> None:
    model: SCVI_VMM = make_model()
    facts = TrainingFacts.of(model, 32, {"train_size": 0.8, "validation_size": None}, {})
    assert (facts.n_obs, facts.n_train, facts.n_validation) == (300, 240, 60)
    assert facts.has_batch_norm and not facts.has_trained_networks
    known = SimpleNamespace(n_obs=100, train_idx=np.arange(30), n_val=5)
    facts = TrainingFacts.of(model, 32, {}, {"datamodule": known})
    assert (facts.n_obs, facts.n_train, facts.n_validation) == (100, 30, 5)
    facts = TrainingFacts.of(model, 32, {}, {"datamodule": SimpleNamespace(n_obs=100)})
    assert (facts.n_obs, facts.n_train, facts.n_validation) == (100, 90, None)
    assert not TrainingFacts.of(make_model(use_batch_norm="none"), 32, {}, {}).has_batch_norm
