"""Training: minibatches, early stopping, the best epoch, and losses that are not finite."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from vmmscvi.train import NonFiniteTrainingError
from vmmscvi.vae._data import ArrayDataModule, split_rows


def test_rows_are_divided_without_loss_or_overlap() -> None:
    train, validation = split_rows(101, 0.1, seed=3)
    assert len(validation) == 11
    np.testing.assert_array_equal(np.sort(np.concatenate([train, validation])), np.arange(101))
    assert not np.array_equal(validation, split_rows(101, 0.1, seed=4)[1])
    assert len(split_rows(101, 0.0, seed=3)[1]) == 0


def test_an_epoch_sees_every_training_row_once_in_a_new_order() -> None:
    x = torch.arange(50.0).unsqueeze(1)
    data = ArrayDataModule(x, np.arange(0, 50, 2), np.arange(1, 50, 2), batch_size=8)
    first, second = (torch.cat([b["X"] for b in data.train_dataloader()]).ravel() for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first.sort().values, torch.arange(0.0, 50, 2))
    assert [len(b["X"]) for b in data.val_dataloader()] == [8, 8, 8, 1]


class Worsen(Callback):
    """Makes the third and later epochs bad, and notes the weights of the second."""

    kept: list[torch.Tensor] = []  # noqa: RUF012  (callbacks are copied)

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        if trainer.current_epoch >= 2:
            with torch.no_grad():
                pl_module.module.decoder[-1].bias.add_(100.0)

    def on_validation_end(self, trainer, pl_module) -> None:
        if trainer.current_epoch == 1:
            self.kept.append(pl_module.module.decoder[-1].bias.detach().clone())


def test_training_stops_early_and_the_best_epoch_is_restored(make_vae, blobs) -> None:
    Worsen.kept.clear()
    model = make_vae("standard_normal", max_epochs=50, patience=3, callbacks=[Worsen()]).fit(blobs.x)
    assert len(model.history_) == 5
    assert torch.equal(model.module_.decoder[-1].bias, Worsen.kept[0])


def test_the_warm_up_does_not_count_for_early_stopping(make_vae, blobs) -> None:
    model = make_vae(start="embedding", max_epochs=8, n_warmup_epochs=5, patience=1).fit(blobs.x)
    assert len(model.history_) > 5
    assert model.module_.latent_prior.is_fitted
    assert model.history_["n_utilized_clusters"].isna().sum() == 5


def test_without_validation_rows_all_epochs_are_trained(make_vae, blobs) -> None:
    model = make_vae(validation_fraction=0.0, max_epochs=4).fit(blobs.x)
    assert len(model.history_) == 4 and len(model.validation_indices_) == 0


class Break(Callback):
    def on_train_epoch_start(self, trainer, pl_module) -> None:
        if trainer.current_epoch == 2:
            with torch.no_grad():
                next(pl_module.module.z_encoder.parameters()).fill_(torch.nan)


def test_a_loss_that_is_not_finite_stops_training_with_advice_for_arrays(make_vae, blobs) -> None:
    model = make_vae(callbacks=[Break()])
    with pytest.raises(NonFiniteTrainingError, match=r"epoch 3.*scale the features") as caught:
        model.fit(blobs.x)
    assert "gene_likelihood" not in str(caught.value)
    assert all(torch.isfinite(p).all() for p in model.module_.parameters())


def test_centres_are_cached_for_the_weights_that_are_kept(make_vae, blobs) -> None:
    model = make_vae(start="cells", max_epochs=3).fit(blobs.x)
    module = model.module_
    torch.testing.assert_close(module.latent_prior.center_loc, module.encode_pseudo_inputs().mean.detach())


def test_pseudo_inputs_start_from_training_rows(make_vae, blobs) -> None:
    starts: list[torch.Tensor] = []

    class Note(Callback):
        def on_fit_start(self, trainer, pl_module) -> None:
            starts.append(pl_module.module.pseudo_inputs["z_encoder"]()[0].detach().clone())

        def __deepcopy__(self, memo):
            return self

    model = make_vae(start="cells", callbacks=[Note()]).fit(blobs.x)
    training = blobs.x[model.train_indices_]
    matches = [np.flatnonzero((training == row.numpy()).all(1)) for row in starts[0]]
    assert all(len(m) == 1 for m in matches) and len({int(m[0]) for m in matches}) == 6


@pytest.mark.parametrize(
    ("dropout", "asked", "expected"), [(0, None, True), (1, None, False), (0, False, False)]
)
def test_encodings_are_reused_where_dropout_does_not_blur_them(
    make_vae, blobs, dropout, asked, expected
) -> None:
    seen: list[bool] = []

    class Note(Callback):
        def on_fit_start(self, trainer, pl_module) -> None:
            seen.append(pl_module.reuse_encoding)

    layers = [nn.Linear(6, 8), nn.Dropout(0.1)] if dropout else [nn.Linear(6, 8)]
    model = make_vae(encoder=nn.Sequential(*layers), reuse_encoding=asked, callbacks=[Note()], max_epochs=2)
    model.fit(blobs.x)
    assert seen == [expected]


@pytest.mark.parametrize(
    ("n_rows", "arguments", "expected"),
    [
        (240, {}, "embedding"),
        (23_000, {}, "cells"),
        (23_000, {"prior_lr_ratio": 3.0}, "cells"),
        (23_000, {"n_effective": 300.0}, "embedding"),
        (23_000, {"n_warmup_epochs": 1}, "embedding"),
        (240, {"start": "cells"}, "cells"),
        (23_000, {"start": "embedding"}, "embedding"),
    ],
)
def test_many_rows_are_initialised_as_in_the_paper_unless_a_search_is_requested(
    make_vae, blobs, n_rows, arguments, expected
) -> None:
    x = blobs.x[np.arange(n_rows) % len(blobs.x)]
    ratios: list[float] = []

    class Note(Callback):
        def on_train_end(self, trainer, pl_module) -> None:
            networks, prior = (optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers)
            ratios.append(prior / networks)

        def __deepcopy__(self, memo):
            return self

    model = make_vae(max_epochs=2, batch_size=2048, callbacks=[Note()], **arguments).fit(x)
    assert model.start_ == expected
    searched = model.module_.latent_prior.n_effective is not None
    assert searched == (expected == "embedding")
    assert model.start == arguments.get("start")
    slow = 0.2 if model.start is None else 1.0
    usual = 5.0 if searched else slow
    assert ratios == pytest.approx([arguments.get("prior_lr_ratio", usual)])


def test_networks_train_in_half_precision_and_the_prior_in_single(make_vae, blobs) -> None:
    seen: dict[str, torch.dtype] = {}

    class Note(Callback):
        def on_fit_start(self, trainer, pl_module) -> None:
            decoder, prior = pl_module.module.decoder, pl_module.module.latent_prior
            decoder[0].register_forward_hook(lambda *a: seen.update(decoder=a[-1].dtype))
            prior.precision_cholesky.register_forward_hook(lambda *a: seen.update(prior=a[-1].dtype))

    model = make_vae(start="cells", precision="bf16-mixed", callbacks=[Note()]).fit(blobs.x)
    assert seen == {"decoder": torch.bfloat16, "prior": torch.float32}
    assert all(p.dtype == torch.float32 for p in model.module_.parameters())
    assert np.isfinite(model.score(blobs.x))


def test_an_unknown_precision_is_refused_before_training(make_vae, make_vade, blobs) -> None:
    for make in (make_vae, make_vade):
        with pytest.raises(ValueError, match=r"`precision` must be one of .*found 'half'"):
            make(precision="half").fit(blobs.x)
