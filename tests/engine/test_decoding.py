"""Continuations side by side against one by one, cached against read anew, batched beams against single ones."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from tiny_model import CONFIG

from engine import decoding
from engine.decoding import (
    Branches,
    Line,
    beams_from,
    drawn,
    given,
    likeliest,
    next_logits,
    penalised,
    period,
    side_by_side,
)
from engine.memo import Memo
from engine.sampling import beam_search, log_softmax, repetition_penalty
from engine.tokenization import encode

START = (82, 62, 50, 28, 31)  # from here no way of going on ends at once
SENTENCE = tuple(encode("The animal did not cross the street because it was too", "smollm2"))


def read_anew(model):
    """The slow step: the whole text through the model, for one text."""
    return lambda ids: model.forward(ids, last_only=True)[0]


# Branches: one cache, many texts


def test_branches_equal_reading_each_text_anew(tiny):
    step = Branches(tiny, START, 4)
    tree = [
        [START],
        [(*START, 7), (*START, 9), (*START, 7)],  # two children, one of them twice
        [(*START, 9, 2), (*START, 9, 3), (*START, 7, 2)],  # in another order
        [(*START, 9, 3, 5)],  # two have died
        [(*START, 9, 3, 5, 6), (*START, 9, 3, 5, 8)],
    ]
    for texts in tree:
        rows = step(texts)
        for row, text in zip(rows, texts, strict=True):
            np.testing.assert_allclose(row, tiny.forward(text, last_only=True)[0], atol=1e-10)
    with pytest.raises(ValueError, match="one token longer"):
        step([(*START, 7, 2, 1, 1, 1)])


@pytest.mark.parametrize("known", [1, 3, 5])
def test_a_start_that_is_partly_known_is_read_to_its_end(tiny, known):
    step, text = Branches(tiny, START, 2, known), (*START, 9)
    np.testing.assert_allclose(step([START])[0], tiny.forward(START, last_only=True)[0], atol=1e-10)
    np.testing.assert_allclose(step([text])[0], tiny.forward(text, last_only=True)[0], atol=1e-10)


def test_asking_twice_runs_the_model_once(tiny, monkeypatch):
    step = Branches(tiny, START, 3)
    texts = [(*START, 7), (*START, 9)]
    first, length = step(texts), step.cache.length
    np.testing.assert_array_equal(step(texts[::1]), first)
    assert step.cache.length == length


# Beam search


@pytest.mark.parametrize("width", [1, 2, 5])
def test_beams_in_a_batch_equal_beams_one_by_one(tiny, width):
    one_by_one = beam_search(read_anew(tiny), START, width, 6)
    batched = beam_search(Branches(tiny, START, 6), START, width, 6, batched=True)
    assert [[beam.ids for beam in beams] for beams in batched.rounds] == [
        [beam.ids for beam in beams] for beams in one_by_one.rounds
    ]
    for one, other in zip(one_by_one.beams, batched.beams, strict=True):
        assert one.log_probability == pytest.approx(other.log_probability, abs=1e-9)


@pytest.mark.model
def test_beams_in_a_batch_equal_beams_one_by_one_in_the_real_model(smollm2):
    one_by_one = beam_search(read_anew(smollm2), SENTENCE, 3, 4)
    _, (found,) = side_by_side(smollm2, SENTENCE, [], 4, [beams_from(SENTENCE, 3)])
    assert [beam.ids for beam in found.rounds[-1]] == [beam.ids for beam in one_by_one.beams]
    for one, other in zip(one_by_one.beams, found.rounds[-1], strict=True):
        assert one.log_probability == pytest.approx(other.log_probability, abs=2e-3)


def test_no_other_continuation_of_that_length_is_likelier_than_the_best_of_all_beams(tiny):
    """With as many beams as there are texts, beam search is a search through all of them."""
    _, (found,) = side_by_side(tiny, START, [], 2, [beams_from(START, CONFIG.vocabulary**2)])
    first = log_softmax(tiny.forward(START, last_only=True)[0])
    pairs = [(a, b) for a in (0, 1, 50, 95) for b in (0, 33, 95)]
    log_p = {beam.ids[-2:]: beam.log_probability for beam in found.rounds[-1] if len(beam.ids) == len(START) + 2}
    for a, b in pairs:
        if a in decoding.END_IDS:
            continue
        second = log_softmax(tiny.forward((*START, a), last_only=True)[0])
        assert log_p[a, b] == pytest.approx(first[a] + second[b], abs=1e-9)
    best = max(beam.log_probability for beam in found.rounds[-1])
    assert found.rounds[-1][0].log_probability == best


# Lines


def test_lines_side_by_side_equal_the_models_own_generation(tiny):
    lines = [Line(START, likeliest), Line(START, drawn(5, 1.3)), Line(START, penalised(1.4))]
    (greedy, random, penal), _ = side_by_side(tiny, START, lines, 8, [beams_from(START, 3)])
    assert greedy.ids == tuple(step.id for step in tiny.generate(START, 8))
    alone = drawn(5, 1.3)
    assert random.ids == tuple(step.id for step in tiny.generate(START, 8, choose=alone, cached=False))
    by_hand = tiny.generate(START, 8, choose=lambda z, ids: int(np.argmax(repetition_penalty(z, ids, 1.4))))
    assert penal.ids == tuple(step.id for step in by_hand)


def test_log_probabilities_are_those_of_reading_the_finished_text(tiny):
    (greedy, random), _ = side_by_side(tiny, START, [Line(START, likeliest), Line(START, drawn(1, 2.0))], 6)
    for line in (greedy, random):
        np.testing.assert_allclose(line.log_p, -tiny.surprisal((*START, *line.ids))[len(START) - 1 :], atol=1e-9)


@pytest.mark.model
def test_cached_side_by_side_equals_reading_anew_in_the_real_model(smollm2):
    lines, _ = side_by_side(smollm2, SENTENCE, [Line(SENTENCE, likeliest), Line(SENTENCE, drawn(3, 1.0))], 6)
    for line in lines:
        surprisal = smollm2.surprisal((*SENTENCE, *line.ids))[len(SENTENCE) - 1 :]
        np.testing.assert_allclose(line.log_p, -surprisal, atol=2e-3)
    anew = [step.id for step in smollm2.generate(SENTENCE, 3, cached=False)]
    assert list(lines[0].ids[:3]) == anew


def test_an_ended_text_grows_no_further(tiny):
    end = decoding.END_IDS[0]
    ways = [Line(START, given([9, end, 9, 9])), Line(START, given([4] * 4))]
    (ended, other), _ = side_by_side(tiny, START, ways, 4)
    assert ended.ids == (9, end)
    assert other.ids == (4,) * 4
    assert len(ended.log_p) == 2
    (alone,), _ = side_by_side(tiny, START, [Line(START, given([end]))], 4)
    assert alone.ids == (end,)


def test_the_frozen_way_is_many_draws_from_one_distribution(tiny):
    found = decoding.four_ways(tiny, START, width=2, temperature=1.0, seed=4, length=5)
    assert found.frozen.ids[0] == found.drawn.ids[0]  # the first draw is the same in both
    assert found.frozen.ids != found.drawn.ids
    read = tiny.surprisal((*START, *found.frozen.ids))[len(START) - 1 :]
    np.testing.assert_allclose(found.frozen.log_p, -read, atol=1e-9)
    one_by_one = beam_search(read_anew(tiny), START, 2, 5)
    assert [beam.ids for beam in found.beams.beams] == [beam.ids for beam in one_by_one.beams]


def test_other_draws_from_a_known_text_are_those_of_a_fresh_one(tiny):
    fresh = decoding.four_ways(
        dataclasses.replace(tiny, memo=Memo(2**20)), START, width=2, temperature=0.8, seed=9, length=5
    )
    decoding.four_ways(tiny, START, width=2, temperature=1.0, seed=4, length=5)
    after = decoding.four_ways(tiny, START, width=2, temperature=0.8, seed=9, length=5)
    for name in ("greedy", "drawn", "frozen"):
        one, other = getattr(fresh, name), getattr(after, name)
        assert one.ids == other.ids
        np.testing.assert_allclose(one.log_p, other.log_p, atol=1e-9)
    assert fresh.beams == after.beams


def test_steps_of_a_beam_are_the_log_probabilities_of_its_tokens(tiny):
    search = beam_search(Branches(tiny, START, 5), START, 3, 5, batched=True)
    for beam in search.beams:
        read = tiny.surprisal(beam.ids)[len(START) - 1 :]
        np.testing.assert_allclose(decoding.step_log_p(search, beam), -read, atol=1e-9)


def test_a_penalty_of_one_is_greedy(tiny):
    plain, strong = decoding.penalty_study(tiny, START, [1.0, 3.0], 8)
    assert plain.ids == tuple(step.id for step in tiny.generate(START, 8))
    assert strong.ids != plain.ids


def test_seen_before_and_doubled():
    assert decoding.seen_before([1, 2], [3, 2, 3, 3]) == [False, True, True, True]
    assert decoding.doubled(" so it is ") == "so it is. so it is"
    assert decoding.doubled("Go away!") == "Go away! Go away!"
    assert decoding.doubled("") == " "  # nothing to say twice
    assert [decoding.shared_start([1, 2, 3], other) for other in ([1, 2, 4], [1, 2], [], [1, 2, 3, 9])] == [2, 2, 0, 3]


def test_the_nth_draw_is_what_a_generator_gives_after_n_others():
    rng = np.random.default_rng(4)
    assert [decoding.nth_draw(4, n) for n in range(5)] == [rng.random() for _ in range(5)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [([], 0), ([1], 0), ([1, 1], 1), ([1, 2, 3], 0), ([9, 1, 2, 3, 1, 2, 3], 3), ([1, 2, 2], 1), ([1, 2, 1, 2, 1], 2)],
)
def test_the_loop_a_text_ends_in(text, expected):
    assert period(text) == expected


# One token at a time


def test_next_logits_are_those_of_every_longer_text(tiny):
    rows = next_logits(tiny, START, [7, 9])
    assert rows.shape == (3, CONFIG.vocabulary)
    for i, chosen in enumerate([(), (7,), (7, 9)]):
        np.testing.assert_allclose(rows[i], tiny.forward((*START, *chosen), last_only=True)[0], atol=1e-10)
    assert next_logits(tiny, START, [7, 9]) is rows
    with pytest.raises(ValueError, match="read-only"):
        rows[0, 0] = 1
