"""Windows, targets, and what is held out."""

import numpy as np
import pytest

from engine.corpora import CORPORA, Corpus, corpus, is_held_out, text_corpus
from engine.gpt import NOT_COUNTED

OWN = "It was a bright cold day, and the clocks were striking. " * 12


@pytest.mark.parametrize("name", [*CORPORA, "own"])
@pytest.mark.parametrize("held_out", [False, True])
def test_targets_are_the_inputs_one_place_on_and_seeds_decide(name, held_out):
    c = corpus(name, OWN)
    inputs, targets = c.windows([3, 1], 5, 64, held_out)
    assert inputs.shape == targets.shape == (5, 64)
    np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])
    np.testing.assert_array_equal(inputs, c.windows([3, 1], 5, 64, held_out)[0])
    assert not np.array_equal(inputs, c.windows([3, 2], 5, 64, held_out)[0])
    assert inputs.min() >= 0
    assert max(inputs.max(), targets.max()) < len(c.vocabulary)


@pytest.mark.parametrize("name", [*CORPORA, "own"])
def test_text_comes_back_from_its_ids(name):
    c = corpus(name, OWN)
    text = c.decode(c.windows([0], 1, 40)[0][0])
    assert c.decode(c.encode(text)) == text


def test_sums_are_right_and_held_out_pairs_are_never_trained_on():
    c = corpus("arithmetic")
    for held_out in (False, True):
        for row in c.windows([0], 200, 64, held_out)[0]:
            assert c.decode(row[:1]) == "\n"
            for line in c.decode(row[1:]).split("\n")[:-1]:
                a, rest = line.split("+")
                b, total = rest.split("=")
                assert int(a) + int(b) == int(total)
                assert is_held_out(np.array(int(a)), np.array(int(b))) == held_out


def test_text_that_is_held_out_is_never_trained_on():
    text = "ab" * 500 + "cd" * 100
    c = text_corpus(text, held_share=1 / 6)
    trained, held = (set(c.windows([0], 400, 32, h)[1].reshape(-1)) for h in (False, True))
    assert "".join(c.vocabulary[i] for i in sorted(trained)) == "ab"
    assert "".join(c.vocabulary[i] for i in sorted(held)) == "cd"


def test_words_instead_of_characters():
    c = text_corpus("one two three four " * 80, words=True)
    assert c.vocabulary == ("four", "one", "three", "two")
    assert c.decode(c.encode("two  three")) == "two three"


def test_tokens_that_do_not_count_have_the_target_minus_one():
    plain = corpus("arithmetic")
    c = Corpus("last", plain.vocabulary, plain.train, plain.held_out, (0,), counted=lambda ids: np.arange(9) == 8)
    _, targets = c.windows([0], 2, 8)
    assert np.all(targets[:, :-1] == NOT_COUNTED)
    assert np.all(targets[:, -1] != NOT_COUNTED)


def test_what_cannot_be_trained_on_is_said():
    with pytest.raises(ValueError, match="windows of 64 need at least 130"):
        corpus("own", "too short")
    with pytest.raises(ValueError, match="no corpus"):
        corpus("war and peace")
    with pytest.raises(ValueError, match="no word “whale”"):
        corpus("grammar").encode("the whale waits")
    with pytest.raises(ValueError, match="no character “Ж”"):
        corpus("names").encode("Ж")
