"""The training loop: exact resumption, clipping, and a loss that really falls."""

import dataclasses
import math

import numpy as np
import pytest

from engine.corpora import corpus
from engine.training import GPT, Checkpoint, Plan, clipped, train
from engine.training_study import continued

PLAN = Plan(steps=12, batch=4, warmup=3, evaluate_every=5, held_out=4)


def small_run(plan=PLAN, start=None):
    c = corpus("grammar")
    return list(train(GPT(len(c.vocabulary), layers=1, width=16, heads=2, context=16), c, plan, start))


def same(one: Checkpoint, other: Checkpoint) -> bool:
    return one.step == other.step and all(
        np.array_equal(p, other.parameters[name]) for name, p in one.parameters.items()
    )


@pytest.mark.parametrize("at", [0, 1, 7, 12])
def test_a_run_that_goes_on_from_a_checkpoint_has_exactly_the_numbers_of_one_that_never_stopped(at):
    whole = small_run()
    rest = small_run(start=whole[at].checkpoint)
    assert len(rest) == len(whole) - at
    for again, before in zip(rest, whole[at:], strict=True):
        assert same(again.checkpoint, before.checkpoint)
        for name in ("number", "loss", "gradient_norm", "learning_rate", "validation"):
            assert getattr(again, name) == getattr(before, name)


def test_earlier_checkpoints_are_not_changed_by_later_steps():
    c = corpus("grammar")
    gpt = GPT(len(c.vocabulary), layers=1, width=16, heads=2, context=16)
    kept = []
    for step in train(gpt, c, PLAN):
        kept.append((step.checkpoint, {name: p.copy() for name, p in step.checkpoint.parameters.items()}))
    for checkpoint, copy in kept:
        assert all(np.array_equal(checkpoint.parameters[name], p) for name, p in copy.items())


def test_the_seed_decides_everything():
    assert [s.loss for s in small_run()] == [s.loss for s in small_run()]
    other = small_run(dataclasses.replace(PLAN, seed=1))
    assert [s.loss for s in small_run()] != [s.loss for s in other]


def test_a_step_is_numbered_from_zero_and_validation_comes_now_and_then():
    run = small_run()
    assert [s.number for s in run] == list(range(13)) == [s.checkpoint.step for s in run]
    assert [s.number for s in run if s.validation is not None] == [0, 5, 10, 12]
    assert run[0].learning_rate == 0
    assert run[3].learning_rate == PLAN.learning_rate


def test_clipping_keeps_the_direction_and_says_the_length():
    gradients = {"a": np.array([3.0, 0.0]), "b": np.array([[4.0]])}
    short, norm = clipped(gradients, 1.0)
    assert norm == 5
    assert math.sqrt(sum(np.vdot(g, g) for g in short.values())) == pytest.approx(1)
    assert short["a"][0] / short["b"][0, 0] == pytest.approx(3 / 4)
    assert clipped(gradients, 6.0)[0] is gradients


def test_float32_stays_and_the_loss_falls_below_what_is_possible_without_attention():
    c = corpus("grammar")
    gpt = GPT(len(c.vocabulary), width=32, context=32)
    plan = Plan(steps=300, batch=8, evaluate_every=300, learning_rate=6e-3)
    last = [step for step in train(gpt, c, plan) if step.validation is not None][-1]
    assert {p.dtype for p in last.checkpoint.parameters.values()} == {np.dtype(np.float32)}
    assert c.floor(32) - 0.05 < last.validation < c.shallow_floor(32) - 0.3
    words = c.decode(continued(gpt, last.checkpoint.parameters, c.start, 20, seed=1)).split()
    assert len(words) == 20
