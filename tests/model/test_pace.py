"""Learning rate and length of the warm-up by default, and how the size of minibatches changes them."""

from __future__ import annotations

from vmmscvi.model._pace import Warmup, default_pace


def test_the_learning_rate_follows_the_square_root_of_large_minibatches_only() -> None:
    assert [default_pace(n) for n in (32, 128, 256, 1024, 2304, 4096, 10**6)] == [1, 1, 1, 2, 3, 4, 4]


def test_small_minibatches_do_not_shorten_the_warm_up() -> None:
    warmups = [Warmup.default(10_000, n, 400).n_epochs for n in (32, 128, 256, 512)]
    assert warmups == [25, 25, 25, 50]  # of 40 minibatches, and of 20
    assert Warmup.default(18_000, 256, 400).n_epochs == 15  # of 71 minibatches


def test_a_larger_learning_rate_shortens_the_warm_up() -> None:
    steps = [Warmup.default(20_480, 1024, 400, pace).n_steps for pace in (1.0, 2.0, 4.0)]
    assert steps == [1000, 500, 260]  # 13 epochs of 20 minibatches are no less than 250


def test_a_warm_up_that_is_cut_short_is_said_and_a_whole_one_is_not() -> None:
    usual = Warmup.default(10_000, 256, 400)
    assert usual.notes(usual) == ()
    (note,) = Warmup.default(10_000, 256, 20).notes(usual)
    assert "The warm-up has only 400 minibatches, but an embedding needs about 1000" in note
