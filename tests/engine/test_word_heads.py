"""Four hand-set heads: what each was made for it does, through its projections alone; joined two ways."""

from __future__ import annotations

import numpy as np
import pytest

from engine import word_heads as words
from engine.attention import attention


@pytest.mark.parametrize("sentence", words.SENTENCES.values())
@pytest.mark.parametrize("causal", [True, False])
def test_each_head_equals_attention_with_its_own_matrices(sentence, causal):
    result = words.attend(sentence, causal=causal)
    x = words.embed(result.words)
    for head in range(4):
        q, k, v = (x @ w[head] for w in (words.W_Q, words.W_K, words.W_V))
        alone = attention(q, k, v, causal=causal)
        np.testing.assert_allclose(result.attention.weights[head], alone.weights, atol=1e-14)
        np.testing.assert_allclose(result.found[head], alone.output, atol=1e-13)


@pytest.mark.parametrize("on", [(True,) * 4, (True, False, True, True), (False,) * 4])
def test_the_parts_sum_to_the_joined_product(on):
    w_o = np.random.default_rng(0).normal(size=(12, 12))
    result = words.attend(words.SENTENCES["speeding"], on=on, w_o=w_o)
    np.testing.assert_allclose(result.parts.sum(axis=0), result.out, atol=1e-14)
    for head in range(4):
        expected = result.found[head] @ w_o[3 * head : 3 * head + 3]
        np.testing.assert_allclose(result.parts[head], expected, atol=1e-14)
        if not on[head]:
            np.testing.assert_array_equal(result.parts[head], 0)


def test_the_heads_do_what_their_names_say():
    result = words.attend(words.SENTENCES["speeding"])
    at = {word: i for i, word in enumerate(result.words)}
    back, like, who, rest = result.attention.weights
    assert all(np.argmax(back[i]) == i - 1 for i in range(1, 12))
    assert np.argmax(like[at["car"]]) == at["blue"]
    assert np.argmax(like[at["wall"]]) == at["concrete"]
    assert np.argmax(who[at["speeding"]]) == at["car"]
    assert np.argmax(who[at["crashed"]]) == at["car"]
    assert (rest[:, 0] > 0.9).all()
    np.testing.assert_allclose(result.parts[3], 0, atol=0.1)


def test_heads_with_the_same_projections_are_the_same_head():
    same = words.attend(words.SENTENCES["tired"], projections="same")
    for head in range(4):
        np.testing.assert_array_equal(same.attention.weights[head], same.attention.weights[0])
        np.testing.assert_array_equal(same.found[head], same.found[0])
    looks = words.attend(words.SENTENCES["tired"], projections="same-qk")
    np.testing.assert_array_equal(looks.attention.weights[0], looks.attention.weights[1])
    assert np.abs(looks.found[0] - looks.found[1]).max() > 0.1
    own, swapped = (words.attend(words.SENTENCES["tired"], projections=name) for name in ("own", "swapped"))
    np.testing.assert_array_equal(own.attention.weights[0], swapped.attention.weights[2])
    np.testing.assert_array_equal(own.found[[1, 3]], swapped.found[[1, 3]])


def test_blue_and_car():
    honest = words.typed_in(0.0, causal=False)
    score = words.SIX_QUERIES[1] @ words.SIX_KEYS[2] / np.sqrt(3)
    assert score == pytest.approx(0.820, abs=5e-4)
    assert honest.masked[1, 2] == pytest.approx(score)
    assert honest.weights[1, 2] == pytest.approx(0.206, abs=5e-4)
    assert words.typed_in(0.0, causal=True).weights[1, 2] == 0
    assert words.typed_in(3.0, causal=True).weights[1, 2] == 0, "no bonus gets past the mask"
    cheat = words.typed_in(1.45, causal=False)
    odds = np.exp(1.45) * honest.weights[1, 2] / (1 - honest.weights[1, 2])
    assert cheat.weights[1, 2] == pytest.approx(odds / (1 + odds))
    np.testing.assert_array_equal(cheat.weights[[0, 2, 3, 4, 5]], honest.weights[[0, 2, 3, 4, 5]])


def test_awkward_sentences_get_a_sentence():
    with pytest.raises(ValueError, match="“lorry” has no hand-set traits"):
        words.attend("The lorry")
    for sentence in ("", "the " * 13):
        with pytest.raises(ValueError, match="has 1 to 12 words"):
            words.attend(sentence)
