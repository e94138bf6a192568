"""Heads split and merged, and shared keys and values against copied ones."""

import tracemalloc

import numpy as np
import pytest

from engine.attention import attention
from engine.multi_head import grouped_query_attention, head_contributions, merge_heads, split_heads

rng = np.random.default_rng(9)


@pytest.mark.parametrize(("heads", "kv_heads"), [(9, 3), (6, 6), (4, 1), (1, 1)])
@pytest.mark.parametrize("causal", [True, False])
def test_grouped_equals_repeated_heads(heads, kv_heads, causal):
    q, k, v = (rng.normal(size=(n, 5, 8)) for n in (heads, kv_heads, kv_heads))
    grouped = grouped_query_attention(q, k, v, causal=causal)
    reads = np.arange(heads) // (heads // kv_heads)  # query head h reads key/value head h // (H / K)
    repeated = attention(q, k[reads], v[reads], causal=causal)
    for step in ("scores", "masked", "weights", "output"):
        np.testing.assert_allclose(getattr(grouped, step), getattr(repeated, step), rtol=1e-13, atol=1e-14)


def test_batch_axes_cached_queries_and_wider_values():
    q, k, v = rng.normal(size=(2, 6, 3, 4)), rng.normal(size=(2, 2, 7, 4)), rng.normal(size=(2, 2, 7, 5))
    result = grouped_query_attention(q, k, v)
    assert result.weights.shape == (2, 6, 3, 7)
    assert result.output.shape == (2, 6, 3, 5)
    single = attention(q[1, 4], k[1, 1], v[1, 1])
    np.testing.assert_allclose(result.output[1, 4], single.output, atol=1e-14)


def test_keys_and_values_are_not_copied():
    k = np.full((1, 20_000, 64), 0.1, np.float32)  # 5 MB; repeated for 64 heads it would be 328 MB
    tracemalloc.start()
    grouped_query_attention(np.ones((64, 1, 64), np.float32), k, k)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6


def test_a_tap_sees_heads_in_their_own_order():
    q, k = rng.normal(size=(6, 3, 4)), rng.normal(size=(2, 3, 4))
    seen = {}
    result = grouped_query_attention(q, k, k, tap=lambda name, value: seen.setdefault(name, value))
    assert seen["scores"].shape == (6, 3, 3)
    np.testing.assert_array_equal(seen["scores"], result.scores)
    np.testing.assert_array_equal(seen["weights"], result.weights)


def test_a_head_that_is_switched_off_changes_only_itself():
    q, k, v = rng.normal(size=(4, 3, 8)), rng.normal(size=(2, 3, 8)), rng.normal(size=(2, 3, 8))
    off = np.array([1, 0, 1, 1])[:, None, None]
    plain = grouped_query_attention(q, k, v)
    edited = grouped_query_attention(q, k, v, tap=lambda name, x: x * off if name == "weights" else x)
    np.testing.assert_array_equal(edited.output[1], 0)
    np.testing.assert_array_equal(edited.output[[0, 2, 3]], plain.output[[0, 2, 3]])


def test_split_gives_each_head_its_slice_and_merge_undoes_it():
    x = rng.normal(size=(2, 5, 12))
    heads = split_heads(x, 3)
    assert heads.shape == (2, 3, 5, 4)
    for h in range(3):
        np.testing.assert_array_equal(heads[:, h], x[:, :, 4 * h : 4 * h + 4])
    np.testing.assert_array_equal(merge_heads(heads), x)
    np.testing.assert_array_equal(merge_heads(split_heads(x[0], 1)), x[0])


def test_uneven_heads_get_a_sentence():
    with pytest.raises(ValueError, match="width of 10 cannot be split into 3"):
        split_heads(np.zeros((2, 10)), 3)
    with pytest.raises(ValueError, match="5 query heads cannot share 2"):
        grouped_query_attention(np.zeros((5, 1, 4)), np.zeros((2, 1, 4)), np.zeros((2, 1, 4)))


def test_what_heads_write_sums_to_the_joined_product():
    found, w_o = rng.normal(size=(2, 4, 5, 3)), rng.normal(size=(12, 7))
    parts = head_contributions(found, w_o)
    assert parts.shape == (2, 4, 5, 7)
    np.testing.assert_allclose(parts[1, 2, 3], found[1, 2, 3] @ w_o[6:9], atol=1e-14)
    np.testing.assert_allclose(parts.sum(axis=-3), merge_heads(found) @ w_o, atol=1e-13)
