"""Built-in sentences are usable, and guesses are sorted into the right bins."""

from __future__ import annotations

import numpy as np
import pytest

from engine.known_facts import Guess, Known, calibration, guess, guesses, known_facts
from engine.sampling import softmax
from engine.tokenization import encode


def test_right_answers_begin_with_tokens_of_their_own():
    facts = known_facts()
    assert len({fact.begins for fact in facts}) == len(facts)
    for fact in facts:
        assert len(encode(f" {fact.right}", "smollm2")) == 1, fact


def test_bins():
    def sure(p, right):
        q = np.full(49152, (1 - p) / 49151)
        q[encode(" Paris", "smollm2")[0] if right else 500] = p
        return Guess(Known("x", "Paris"), q)

    found = calibration((sure(0.1, True), sure(0.2, False), sure(0.9, True), sure(1.0, False), sure(0.5, True)))
    assert found.counts == (1, 1, 1, 0, 2)
    assert found.right == (1, 0, 1, 0, 1)


@pytest.mark.model
def test_a_guess_is_the_likeliest_next_token(smollm2):
    found = guess(smollm2, Known("The capital of France is", "Paris"))
    logits = smollm2.forward(encode("The capital of France is", "smollm2"))[-1]
    np.testing.assert_allclose(found.probabilities, softmax(logits), atol=1e-6)
    assert found.is_right
    assert found.said == "Paris"
    assert found.sure == pytest.approx(0.773, abs=0.01)


@pytest.mark.model
def test_the_page_has_right_and_wrong_guesses(smollm2):
    right = [found.is_right for found in guesses(smollm2)]
    assert 5 <= sum(right) <= len(right) - 3
