"""The ways to tell attention where a token stands: by definition, by gradient, and by what each of them promises."""

from functools import partial

import numpy as np
import pytest

from engine.attention import attention
from engine.backpropagation import gradient_check
from engine.positions import (
    ALIBI_HEAD,
    BASE,
    ROWS,
    SCHEMES,
    TRAINED,
    WIDTH,
    attend_at,
    learned_table,
    moved_scores,
    order_table,
    previous_token_loss,
    previous_token_weight,
    random_projections,
    rows_of,
    two_orders,
    word_vectors,
)
from engine.rope import rotate

WORDS = ["the", "small", "dog", "chased", "the", "ball"]
DOG, MAN = ["dog", "bites", "man"], ["man", "bites", "dog"]


def parts():
    return word_vectors(WORDS, 3), random_projections(3), np.arange(6) + 4, learned_table(0, 3)


def test_each_scheme_by_definition():
    """One score of each, from its formula: row 5 asks column 2, at positions 9 and 6."""
    x, head, positions, table = parts()

    def score(scheme):
        return attend_at(x, head, positions, scheme, table=table).masked[5, 2]

    def plain(a, b):
        return float((a @ head.w_q) @ (b @ head.w_k)) / np.sqrt(8)

    def wave(p):
        angles = p * 10000.0 ** (-np.arange(4) / 4)
        return np.ravel(np.stack([np.sin(angles), np.cos(angles)], axis=-1))

    q, k = ((x[i] @ w).reshape(4, 2) @ [1, 1j] for i, w in ((5, head.w_q), (2, head.w_k)))
    turned = np.real(q * np.conj(k) * np.exp(1j * (9 - 6) * BASE ** (-np.arange(4) / 4)))
    assert score("none") == pytest.approx(plain(x[5], x[2]))
    assert score("sinusoids") == pytest.approx(plain(x[5] + wave(9), x[2] + wave(6)))
    assert score("learned") == pytest.approx(plain(x[5] + table[9], x[2] + table[6]))
    assert score("alibi") == pytest.approx(plain(x[5], x[2]) - 3 * 2.0 ** -(ALIBI_HEAD + 1))
    assert score("rope") == pytest.approx(np.sum(turned) / np.sqrt(8))


def test_without_positions_it_is_plain_attention():
    x, head, positions, table = parts()
    for causal in (True, False):
        found = attend_at(x, head, positions, "none", causal=causal, table=table)
        expected = attention(x @ head.w_q, x @ head.w_k, x @ head.w_v, causal=causal)
        np.testing.assert_array_equal(found.output, expected.output)


@pytest.mark.parametrize("scheme", ["none", "alibi", "rope"])
def test_schemes_that_depend_on_the_offset_alone(scheme):
    for seed in range(5):
        for start in (1, 7, 18):
            assert moved_scores(WORDS, scheme, start, seed=seed)[1] < 1e-13


@pytest.mark.parametrize("scheme", ["sinusoids", "learned"])
@pytest.mark.parametrize("steps", [0, 40])
def test_schemes_that_depend_on_where_the_text_begins(scheme, steps):
    for start in (1, 7, 18):
        assert moved_scores(WORDS, scheme, start, steps=steps)[1] > 0.1


def test_rope_and_alibi_are_constant_along_diagonals_when_all_words_are_one():
    for scheme in ("none", "alibi", "rope"):
        scores = moved_scores(["dog"] * 6, scheme, 0)[0]
        assert max(np.ptp(np.diagonal(scores, offset)) for offset in range(-5, 6)) < 1e-13
    assert np.ptp(moved_scores(["dog"] * 6, "none", 0)[0]) < 1e-14
    assert np.ptp(moved_scores(["dog"] * 6, "rope", 0)[0]) > 0.1
    assert np.ptp(np.diagonal(moved_scores(["dog"] * 6, "sinusoids", 0)[0], -1)) > 0.1


# --- the learned table ---------------------------------------------------------------------------------------------


def test_the_gradient_that_trains_the_table():
    x, head, _, table = parts()
    check = gradient_check(partial(previous_token_loss, x=x, head=head, positions=np.arange(6)), (table,))
    assert check.worst < 1e-6
    assert max(abs(row.analytic) for row in check.rows) > 1e-3


def previous_share(table, seed, start):
    """The mean weight on the token before, over a text that training never used."""
    x = np.random.default_rng([seed, 77]).normal(size=(TRAINED, WIDTH))
    found = attend_at(x, random_projections(seed), np.arange(TRAINED) + start, "learned", causal=True, table=table)
    return float(np.mean(np.diagonal(found.weights, -1)))


@pytest.mark.parametrize("seed", range(5))
def test_the_table_learns_and_only_where_it_was_trained(seed):
    before, after = learned_table(0, seed), learned_table(80, seed)
    assert previous_share(before, seed, 0) < 0.35
    assert previous_share(after, seed, 0) > 0.85
    np.testing.assert_array_equal(after[TRAINED:], before[TRAINED:])
    assert previous_token_weight(after, 0, seed) > 0.85
    assert previous_token_weight(after, TRAINED, seed) < 0.35
    assert previous_share(after, seed, TRAINED) == previous_share(before, seed, TRAINED) < 0.35


def test_one_step_of_descent_by_central_differences():
    """Step 1 of the table is its start minus the rate times the slope, here measured at one entry."""
    start, head = learned_table(0, 5), random_projections(5)
    text = np.random.default_rng([5, 4, 1]).normal(size=(TRAINED, WIDTH))
    nudge = np.zeros((ROWS, WIDTH))
    nudge[7, 2] = 1e-5
    up, down = (previous_token_loss(start + sign * nudge, text, head, np.arange(TRAINED)) for sign in (1, -1))
    assert learned_table(1, 5)[7, 2] - start[7, 2] == pytest.approx(-4.0 * (up - down) / 2e-5, rel=1e-6)


def test_a_learned_table_ends():
    table = learned_table(0)
    assert rows_of(table, np.arange(ROWS)).shape == (ROWS, WIDTH)
    with pytest.raises(ValueError, match="has 24 rows; there is none for position 25"):
        rows_of(table, np.arange(20, 26))
    with pytest.raises(ValueError, match="has to be learned first"):
        rows_of(None, np.arange(3))


# --- order ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_unmasked_attention_without_positions_sees_a_set(layers):
    for seed in range(5):
        for other in (MAN, ["bites", "dog", "man"]):
            found = two_orders(DOG, other, "none", causal=False, layers=layers, seed=seed)
            np.testing.assert_allclose(found.first, found.second, atol=1e-13)


def test_permuted_input_is_permuted_output():
    """The same fact without `two_orders`: permute the rows first or last."""
    x, head, positions, _ = parts()
    order = np.array([3, 0, 5, 1, 4, 2])
    permuted = attend_at(x[order], head, positions, "none").output
    np.testing.assert_allclose(permuted, attend_at(x, head, positions, "none").output[order], atol=1e-14)


def test_a_causal_mask_lets_order_through():
    """One layer cannot tell the order of what the last word sees; the second can, since those saw different words."""
    one, two = (two_orders(DOG, ["bites", "dog", "man"], "none", causal=True, layers=n).differences for n in (1, 2))
    assert one[2] < 1e-13
    assert two[2] > 0.1
    assert one[:2].min() > 0.1


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("scheme", ["sinusoids", "learned", "rope"])
def test_positions_tell_the_orders_apart(scheme, causal):
    for seed in range(5):
        assert two_orders(DOG, MAN, scheme, causal=causal, seed=seed).differences.min() > 0.02


def test_alibi_needs_the_mask_to_tell_a_sentence_from_its_mirror_image():
    """It knows how far, not on which side."""
    assert two_orders(DOG, MAN, "alibi", causal=False).differences.max() < 1e-13
    assert two_orders(DOG, ["bites", "dog", "man"], "alibi", causal=False).differences.min() > 0.01
    assert two_orders(DOG, MAN, "alibi", causal=True).differences.min() > 0.1


def test_rows_are_brought_into_the_order_of_the_first():
    found = two_orders(DOG, MAN, "rope", causal=False)
    assert found.words == ("dog", "bites", "man")
    x, head = word_vectors(MAN), random_projections(0)
    expected = x + attend_at(x, head, np.arange(3), "rope").output
    np.testing.assert_array_equal(found.second, expected[::-1])


def test_the_same_word_has_the_same_vector():
    x = word_vectors(WORDS)
    np.testing.assert_array_equal(x[0], x[4])
    assert np.abs(x[0] - x[1]).max() > 0.1
    assert np.rot90(rotate(x, np.zeros(6))).shape == (8, 6)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: attend_at(*parts()[:3], "spiral"), "The schemes are none, sinusoids"),
        (lambda: two_orders(DOG, ["dog"], "none", causal=True), "the same words, each of them once"),
        (lambda: two_orders(["a", "a"], ["a", "a"], "none", causal=True), "the same words, each of them once"),
    ],
)
def test_wrong_arguments_get_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_schemes_are_all_there_are():
    assert list(SCHEMES) == ["none", "sinusoids", "learned", "alibi", "rope"]


def test_the_table_of_all_schemes():
    every = order_table(DOG, MAN, seed=2)
    assert every.shape == (5, 2)
    assert every[4, 0] == two_orders(DOG, MAN, "rope", causal=False, seed=2).differences.max()
    assert every[0, 0] < 1e-13 < every[0, 1]
