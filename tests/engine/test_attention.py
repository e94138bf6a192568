"""Attention by hand, against itself cut into pieces, and where it must break."""

import math

import numpy as np
import pytest

from engine.attention import attention, causal_mask, cost
from engine.sampling import entropy

rng = np.random.default_rng(8)


def random(*shape, dtype=np.float64):
    return rng.normal(size=shape).astype(dtype)


def test_two_tokens_by_hand():
    q = np.array([[1.0, 0.0], [0.0, 2.0]])
    k = np.array([[1.0, 1.0], [3.0, 0.0]])
    v = np.array([[10.0], [20.0]])
    result = attention(q, k, v)
    np.testing.assert_allclose(result.scores, np.array([[1.0, 3.0], [2.0, 0.0]]) / math.sqrt(2))
    assert result.masked[0, 1] == -np.inf
    second = 1 / (1 + math.exp(-2 / math.sqrt(2)))  # softmax of two is a sigmoid of the difference
    np.testing.assert_allclose(result.weights, [[1, 0], [second, 1 - second]])
    np.testing.assert_allclose(result.output, [[10], [20 - 10 * second]])


def test_first_token_attends_to_itself_alone_and_rows_sum_to_one():
    result = attention(random(3, 6, 4), random(3, 6, 4), random(3, 6, 4))
    np.testing.assert_array_equal(result.weights[:, 0], np.broadcast_to(np.eye(6)[0], (3, 6)))
    np.testing.assert_allclose(result.weights.sum(-1), 1, atol=1e-15)
    assert (result.weights[:, ~causal_mask(6, 6)] == 0).all()


def test_queries_one_by_one_equal_all_at_once():
    q, k, v = random(2, 7, 4), random(2, 7, 4), random(2, 7, 4)
    whole = attention(q, k, v)
    for t in range(7):
        step = attention(q[:, t : t + 1], k[:, : t + 1], v[:, : t + 1])
        np.testing.assert_allclose(step.output[:, 0], whole.output[:, t], atol=1e-14)
        np.testing.assert_allclose(step.weights[:, 0], whole.weights[:, t, : t + 1], atol=1e-14)


def test_without_mask_permuted_tokens_give_permuted_outputs():
    """Unmasked attention knows no order: "dog bites man" and "man bites dog" give the same set of outputs."""
    x, w_q, w_k, w_v = random(5, 6), random(6, 4), random(6, 4), random(6, 4)
    order = rng.permutation(5)

    def run(x, causal):
        return attention(x @ w_q, x @ w_k, x @ w_v, causal=causal).output

    np.testing.assert_allclose(run(x[order], False), run(x, False)[order], atol=1e-14)
    assert np.abs(run(x[order], True) - run(x, True)[order]).max() > 0.1


def test_leading_axes_broadcast():
    q, k, v = random(2, 3, 4, 8), random(1, 3, 5, 8), random(5, 6)
    result = attention(q, k, v, causal=False)
    assert result.output.shape == (2, 3, 4, 6)
    np.testing.assert_allclose(result.output[1, 2], attention(q[1, 2], k[0, 2], v, causal=False).output, atol=1e-14)


def test_bias_is_added_before_the_mask():
    q, k, v, bias = random(4, 8), random(4, 8), random(4, 8), random(4, 4)
    with_bias, without = attention(q, k, v, bias=bias), attention(q, k, v)
    np.testing.assert_array_equal(with_bias.scores, without.scores)
    seen = causal_mask(4, 4)
    np.testing.assert_allclose(with_bias.masked[seen], (without.scores + bias)[seen])
    assert (with_bias.masked[~seen] == -np.inf).all()


def test_large_scores_overflow_only_without_subtracting_the_maximum():
    q = np.full((2, 4), 10.0, np.float32)
    result = attention(q, q, q, scale=1.0)  # scores of 400; float32 exp ends at 88.7
    np.testing.assert_allclose(result.output, q)
    broken = attention(q, q, q, scale=1.0, subtract_max=False)
    assert np.isnan(broken.output).any()
    small = attention(q / 10, q, q, subtract_max=False)
    np.testing.assert_allclose(small.weights, attention(q / 10, q, q).weights, atol=1e-7)


def test_without_division_attention_is_sharper():
    q, k = random(200, 64), random(64, 64)
    soft, sharp = (entropy(attention(q, k, k, causal=False, scale=scale).weights) for scale in (None, 1.0))
    assert soft.mean() > 0.85 * np.log(64)  # near uniform: scores of size 1
    assert sharp.mean() < 0.2 * np.log(64)  # near one-hot: scores of size √64


def test_a_tap_sees_and_replaces_scores_and_weights():
    q, k, v = random(3, 4), random(3, 4), random(3, 4)
    seen = {}
    plain = attention(q, k, v, tap=lambda name, value: seen.setdefault(name, value))
    assert seen.keys() == {"scores", "weights"}
    np.testing.assert_array_equal(seen["weights"], plain.weights)
    to_first = np.eye(3)[[0, 0, 0]]
    replaced = attention(q, k, v, tap=lambda name, value: to_first if name == "weights" else value)
    np.testing.assert_array_equal(replaced.output, v[[0, 0, 0]])
    flat = attention(q, k, v, tap=lambda name, value: value * 0 if name == "scores" else value)
    np.testing.assert_allclose(flat.weights[2], 1 / 3)


def test_causal_mask_by_picture():
    np.testing.assert_array_equal(causal_mask(2, 4), np.array([[1, 1, 1, 0], [1, 1, 1, 1]], bool))
    with pytest.raises(ValueError, match="3 queries, only 2 keys"):
        causal_mask(3, 2)
    with pytest.raises(ValueError, match="3 queries, only 2 keys"):
        attention(random(3, 4), random(2, 4), random(2, 4))


def test_no_float64_slips_into_float32():
    q = random(3, 4, dtype=np.float32)
    result = attention(q, q, q, scale=np.float64(0.3), bias=np.zeros((3, 3), np.float32))
    assert {x.dtype for x in vars(result).values()} == {np.dtype(np.float32)}


def test_cost_counts_what_the_products_do():
    """2 operations for each multiply-add, counted pair by pair."""
    tokens, width, heads, kv_heads, d = 5, 12, 6, 2, 4
    pairs = sum(len(range(t + 1)) for t in range(tokens))
    found = cost(tokens, width, heads, kv_heads, d, bytes_per_value=2)
    assert found.scores == found.mix == 2 * d * heads * pairs
    shapes = [(width, heads * d), (width, kv_heads * d), (width, kv_heads * d), (heads * d, width)]
    assert found.projections == sum(2 * tokens * a * b for a, b in shapes)
    assert found.score_bytes == 2 * heads * tokens * tokens
    assert cost(tokens, width, heads, kv_heads, d, causal=False).scores == 2 * d * heads * tokens**2
