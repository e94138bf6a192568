"""The hand-set words do what the page says, by Q·K alone."""

import numpy as np
import pytest

from engine.attention import attention
from engine.attention_study import (
    first_token_share,
    mean_entropy,
    own_token_share,
    previous_token_share,
    spread,
    time_attention,
)
from engine.word_attention import SENTENCES, WORDS, attend


def strongest(sentence: str, word: str, **kwargs: bool) -> str:
    result = attend(SENTENCES[sentence], **kwargs)
    at = len(result.words) - 1 - result.words[::-1].index(word)
    return result.words[int(np.argmax(result.attention.weights[at]))]


def test_the_last_word_finds_what_it_describes() -> None:
    assert strongest("tired", "tired") == "animal"
    assert strongest("wide", "wide") == "street"
    assert strongest("speeding", "speeding") == "car"
    assert strongest("gardener", "mole") == "gardener"
    assert strongest("dermatologist", "mole") == "dermatologist"


def test_it_cannot_know_yet_under_the_mask() -> None:
    """Both candidates come before "it", what decides comes after: the two sentences agree up to there."""
    tired, wide = attend(SENTENCES["tired"]), attend(SENTENCES["wide"])
    at = tired.words.index("it")
    np.testing.assert_array_equal(tired.attention.weights[at], wide.attention.weights[at])
    animal, street = (tired.attention.weights[at, tired.words.index(word)] for word in ("animal", "street"))
    assert abs(animal - street) < 0.02


def test_first_word_attends_to_itself_alone() -> None:
    assert attend(SENTENCES["tired"]).attention.weights[0, 0] == 1.0


def test_the_profession_reaches_the_mole() -> None:
    gardener, dermatologist = attend(SENTENCES["gardener"]), attend(SENTENCES["dermatologist"])
    skin, soil = 3, 4
    assert gardener.attention.output[-1, soil] > 3 * gardener.attention.output[-1, skin]
    assert dermatologist.attention.output[-1, skin] > 3 * dermatologist.attention.output[-1, soil]


def test_all_sentences_are_made_of_known_words() -> None:
    assert {word.lower() for text in SENTENCES.values() for word in text.split()} <= set(WORDS)
    with pytest.raises(ValueError, match="no hand-set embedding"):
        attend("The zebra")


def test_spread_is_the_definition() -> None:
    wide = spread(256, divide=False, seed=3)
    assert wide.largest == pytest.approx(float(np.max(wide.result.scores)))
    assert wide.result.scores.dtype == np.float32
    assert (
        spread(256, divide=True).entropy
        > 1.0
        > 0.2
        > np.mean([spread(256, divide=False, seed=s).entropy for s in range(20)])
    )


def test_without_subtraction_float32_overflows_above_88_7() -> None:
    assert np.isfinite(spread(64, sharpness=20.0, subtract_max=True).entropy)
    broken = spread(64, sharpness=200.0, subtract_max=False)
    assert broken.largest > 88.73
    assert np.isnan(broken.entropy)


def test_studies_of_weights_by_hand() -> None:
    weights = np.array([[1.0, 0, 0], [0.25, 0.75, 0], [0.5, 0.3, 0.2]])
    assert first_token_share(weights) == pytest.approx(0.375)
    assert previous_token_share(weights) == pytest.approx((0.25 + 0.3) / 2)
    by_hand = (
        -(0.25 * np.log(0.25) + 0.75 * np.log(0.75) + 0.5 * np.log(0.5) + 0.3 * np.log(0.3) + 0.2 * np.log(0.2)) / 3
    )
    assert mean_entropy(weights) == pytest.approx(by_hand)
    for study in (first_token_share, previous_token_share):
        with pytest.raises(ValueError, match="single token"):
            study(np.ones((1, 1)))


def test_timing_measures_the_lengths_it_was_asked_for() -> None:
    timing = time_attention((16, 32, 64, 128), runs=1)
    assert timing.lengths == (16, 32, 64, 128)
    assert timing.score_bytes == tuple(4 * n * n for n in timing.lengths)
    assert all(seconds > 0 for seconds in timing.seconds)
    # A polynomial of degree two, by least squares: its residuals are orthogonal to 1, n and n².
    n = np.array(timing.lengths, float)
    residual = np.array(timing.seconds) - timing.fitted(n)
    for power in (n**0, n, n**2):
        assert abs(np.dot(residual, power)) < 1e-6 * np.dot(np.array(timing.seconds), power)


def test_same_function_as_the_model() -> None:
    result = attend(SENTENCES["wide"])
    again = attention(result.q, result.k, result.v)
    np.testing.assert_array_equal(result.attention.output, again.output)


def test_own_token_share():
    weights = np.array([[1, 0, 0], [0.25, 0.75, 0], [0.5, 0.25, 0.25]])
    assert own_token_share(weights) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="single token"):
        own_token_share(np.ones((1, 1)))
