"""The synthetic language: its entropy is exact, by two ways that share no code with the recursion over states."""

import itertools
import math

import numpy as np
import pytest

from engine.grammar import START, STOP, choices, grammar


def sentences(state=START, words=(), p=1.0):
    """Every sentence with its probability, straight from the rules."""
    for phrase, share, after in choices(state):
        longer = (*words, *phrase.split())
        if after == START:
            yield longer, p * share
        else:
            yield from sentences(after, longer, p * share)


def prefix_probabilities(length):
    """The probability of every text of `length` words, by putting sentences one after the other."""
    found: dict[tuple[str, ...], float] = {}
    waiting = [((), 1.0)]
    every = list(sentences())
    while waiting:
        text, p = waiting.pop()
        for sentence, share in every:
            longer = text + sentence
            if len(longer) < length:
                waiting.append((longer, p * share))
            else:
                found[longer[:length]] = found.get(longer[:length], 0.0) + p * share
    return found


def test_probabilities_of_each_state_and_of_all_sentences_sum_to_one():
    np.testing.assert_allclose(grammar().probabilities.sum(axis=1), 1, atol=1e-12)
    assert math.fsum(p for _, p in sentences()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("length", [1, 3, 5, 7])
def test_floor_is_the_entropy_of_all_texts_written_out(length):
    joint = prefix_probabilities(length)
    assert math.fsum(joint.values()) == pytest.approx(1, abs=1e-12)
    entropy = -math.fsum(p * math.log(p) for p in joint.values())
    assert grammar().floor(length) == pytest.approx(entropy / length, abs=1e-10)


def test_floor_is_what_the_true_probabilities_lose_on_samples():
    texts = grammar().sample(np.random.default_rng(1), 4000, 64)
    lost = grammar().surprisal(texts).mean(axis=1)
    error = lost.std() / math.sqrt(len(lost))
    assert error < 0.005
    assert abs(lost.mean() - grammar().floor(64)) < 4 * error


def test_floor_for_long_texts_is_entropy_of_a_sentence_over_its_mean_length():
    """The renewal theorem: sentences are independent, so far from the start the rate is their ratio."""
    entropy = -math.fsum(p * math.log(p) for _, p in sentences())
    words = math.fsum(p * len(sentence) for sentence, p in sentences())
    far = grammar().occupation(400)[-50:] @ grammar().entropies
    assert np.mean(far) == pytest.approx(entropy / words, rel=1e-3)


def test_shallow_floor_is_the_entropy_of_pairs_counted_in_samples():
    g = grammar()
    texts = g.sample(np.random.default_rng(2), 20000, 16)
    before = np.concatenate([np.full((len(texts), 1), g.vocabulary.index(STOP)), texts[:, :-1]], axis=1)
    counts = np.bincount((before * len(g.vocabulary) + texts).reshape(-1), minlength=len(g.vocabulary) ** 2)
    joint = counts.reshape(len(g.vocabulary), -1) / texts.size
    p = joint[joint > 0]
    rows = joint.sum(axis=1)
    rows = rows[rows > 0]
    assert g.shallow_floor(16) == pytest.approx(-(p @ np.log(p)) + rows @ np.log(rows), abs=5e-3)
    assert g.shallow_floor(16) > 1.5 * g.floor(16)


def test_samples_are_sentences_of_the_grammar_with_their_probabilities():
    g = grammar()
    known = dict(sentences())
    texts = g.sample(np.random.default_rng(3), 300, 40)
    for text, lost in zip(texts, g.surprisal(texts), strict=True):
        words = [g.vocabulary[i] for i in text]
        end = words.index(STOP) + 1
        assert known[tuple(words[:end])] == pytest.approx(math.exp(-lost[:end].sum()), rel=1e-9)


def test_a_wrong_word_is_impossible():
    g = grammar()
    text = np.array([[g.vocabulary.index(word) for word in ["the", "keys", "near", "the", "box", "falls"]]])
    assert np.isinf(g.surprisal(text)[0]).tolist() == [False] * 5 + [True]


def test_same_seed_same_text_and_choices_differ_in_their_first_word():
    first, second = (grammar().sample(np.random.default_rng(5), 3, 9) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    for row, p in zip(grammar().words, grammar().probabilities, strict=True):
        assert len(set(row[p > 0])) == np.sum(p > 0)
    with pytest.raises(ValueError, match="no state"):
        choices(("nowhere",))
    assert len(set(itertools.chain(*(words for words, _ in sentences())))) == len(grammar().vocabulary)
