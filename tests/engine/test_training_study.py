"""What looks at training: it keeps what training yields, and asks the model nothing that training does not."""

import math

import numpy as np
import pytest

from engine.corpora import corpus
from engine.gpt import GPT, loss
from engine.grammar import grammar
from engine.recorded_training import recorded
from engine.training import Plan, train
from engine.training_study import (
    Curves,
    checkpoint_arrays,
    checkpoint_from,
    continued,
    excess,
    grammatical,
    halved,
    kept_steps,
    longest_copy,
    look_at,
    looks_back,
    one_step,
    read,
    skill_places,
    widened,
)

CORPUS = corpus("grammar")
SIZE = GPT(len(CORPUS.vocabulary), layers=1, width=16, heads=2, context=16)
PLAN = Plan(steps=12, batch=4, warmup=3, evaluate_every=5, held_out=4)


def test_a_checkpoint_kept_as_arrays_goes_on_with_the_same_numbers():
    whole = list(train(SIZE, CORPUS, PLAN))
    again = checkpoint_from(checkpoint_arrays(whole[5].checkpoint))
    rest = list(train(SIZE, CORPUS, PLAN, again))
    assert [s.loss for s in rest] == [s.loss for s in whole[5:]]
    last, same = whole[-1].checkpoint, rest[-1].checkpoint
    assert all(np.array_equal(p, same.parameters[name]) for name, p in last.parameters.items())


def test_curves_of_a_run_in_two_parts_are_those_of_the_whole():
    curves, parts, middle = Curves(), Curves(), None
    for step in train(SIZE, CORPUS, PLAN):
        curves.add(step)
        if step.number <= 6:
            parts.add(step)
            middle = step.checkpoint
    parts = Curves.from_arrays(parts.arrays())
    for step in train(SIZE, CORPUS, PLAN, middle):
        parts.add(step)
    assert parts == curves
    assert curves.looks == [0, 5, 10, 12]
    at, smooth = curves.smooth(5)
    assert at.tolist() == [2, 7, 11]
    assert smooth == pytest.approx([np.mean(curves.losses[i : i + 5]) for i in (0, 5, 10)])


def test_batch_is_read_as_the_loss_reads_it():
    inputs, targets = CORPUS.windows([0], 3, 16)
    parameters = SIZE.start(0)
    batch = look_at(SIZE, parameters, inputs, targets)
    assert batch.loss == pytest.approx(float(loss(parameters, SIZE, inputs, targets)), rel=1e-6)
    picked = np.take_along_axis(batch.probabilities, targets[..., None], -1)[..., 0]
    np.testing.assert_allclose(batch.surprisals, -np.log(picked), rtol=1e-4, atol=1e-5)


def test_a_small_step_changes_the_loss_by_what_the_gradient_says():
    parameters = SIZE.start(0, np.float64)
    batch, others = (look_at(SIZE, parameters, *CORPUS.windows([i], 3, 16)) for i in (0, 1))
    step = one_step(SIZE, parameters, batch, others, 1e-4)
    assert step.after.loss - batch.loss == pytest.approx(step.predicted, rel=1e-2)
    assert step.path[0] == pytest.approx(batch.loss)
    assert step.path[-1] == step.after.loss
    assert step.predicted == pytest.approx(-1e-4 * step.gradient_norm**2)


@pytest.mark.parametrize("total", [50, 600, 1500])
def test_few_steps_are_kept_first_and_last_among_them(total):
    kept = kept_steps(total)
    assert kept[0] == 0
    assert kept[-1] == total
    assert kept == sorted(set(kept))
    assert len(kept) <= 13


def test_half_precision_costs_almost_nothing():
    parameters = SIZE.start(0)
    batch = CORPUS.windows([0], 3, 16)
    kept = widened(halved(parameters))
    assert float(loss(kept, SIZE, *batch)) == pytest.approx(float(loss(parameters, SIZE, *batch)), abs=1e-3)


def test_looking_back_counts_what_is_neither_first_nor_near():
    attention = np.zeros((1, 2, 4, 4))
    attention[0, 0] = np.eye(4)
    attention[0, 1] = [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0.5, 0, 0.5]]
    np.testing.assert_allclose(looks_back(attention), [[0, 0.5]])


def test_reading_and_writing_with_a_model():
    parameters = SIZE.start(0)
    ids = CORPUS.encode(". the keys near")
    reading = read(SIZE, parameters, ids)
    assert reading.attention.shape == (1, 2, 4, 4)
    np.testing.assert_allclose(reading.attention.sum(axis=-1), 1, rtol=1e-5)
    assert reading.probabilities.sum() == pytest.approx(1, rel=1e-5)
    assert continued(SIZE, parameters, ids, 6, 1.0, 3) == continued(SIZE, parameters, ids, 6, 1.0, 3)
    assert continued(SIZE, parameters, ids, 1, 0)[0] == int(np.argmax(reading.probabilities))
    assert len(continued(SIZE, parameters, ids * 30, 6)) == 6  # a prompt that is too long is cut at its start


def test_sentences_are_judged_by_the_grammar():
    assert grammatical(CORPUS, CORPUS.encode("the keys near the box fall . the keys near the box falls . the")) == (
        1,
        2,
    )
    rows = grammar().sample(np.random.default_rng(0), 5, 60)
    for row in rows:
        right, all_of_them = grammatical(CORPUS, row.tolist())
        assert right == all_of_them > 3


def test_where_each_skill_decides():
    texts = [
        ". the keys near the box fall . who waits ? Ada waits .",
        ". Ada asks Ben for the key and Ben gives Ada the key .",
    ]
    ids = [np.array([CORPUS.encode(text)]) for text in texts]
    found = [
        [text.split()[i + 1] for i in np.flatnonzero(places[0])]
        for text, row in zip(texts, ids, strict=True)
        for places in skill_places(CORPUS.vocabulary, row[:, :-1], row[:, 1:])
    ]
    assert found == [["fall"], [], [], ["waits"], [], ["Ben", "Ada"], ["key"], []]


def test_an_untrained_model_is_above_the_floor_in_every_skill():
    windows = CORPUS.windows([0], 8, 16, held_out=True)
    above = excess(SIZE, SIZE.start(0), *windows)
    assert min(above) > 1.5
    assert len(above) == 4


def test_longest_copy():
    assert longest_copy([1, 2, 3, 9, 4], [5, 1, 2, 3, 4]) == 3
    assert longest_copy([7], [1, 2]) == 0
    assert longest_copy([], [1, 2]) == 0


def test_the_recorded_run_is_the_default_one():
    run = recorded()
    losses = [step.loss for step, _ in zip(train(run.gpt, run.corpus, run.plan), range(4), strict=False)]
    assert run.curves.losses[:4] == pytest.approx(losses, abs=1e-4)
    assert run.steps == tuple(kept_steps(run.plan.steps))
    floor = run.corpus.floor(run.gpt.context)
    held_out = run.corpus.windows([0], run.plan.held_out, run.gpt.context, held_out=True)
    last = float(loss(run.weights(run.steps[-1]), run.gpt, *held_out))
    assert last == pytest.approx(run.curves.validation[-1], abs=2e-3)
    assert last - floor < 0.1
    start = float(loss(run.weights(0), run.gpt, *held_out))
    assert start == pytest.approx(math.log(run.gpt.vocabulary), rel=0.02)
    assert right_sentences(run) > 0.6


def right_sentences(run) -> float:
    weights = run.weights(run.steps[-1])
    counts = [
        grammatical(run.corpus, continued(run.gpt, weights, run.corpus.start, 60, 1.0, seed)) for seed in range(8)
    ]
    return sum(right for right, _ in counts) / sum(total for _, total in counts)
