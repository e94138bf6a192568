"""What the cache saves and costs: counted two ways, against published figures and against the model's own runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.block import prefill_flops
from engine.kv_cache import (
    bytes_per_token,
    cache_bytes,
    decode_flops,
    generation_flops,
    latent_bytes_per_token,
    plan,
    positions_computed,
    schemes,
)
from engine.ledger import CONFIGS

LLAMA = CONFIGS["Llama 3.1 8B"]


def test_the_long_chat():
    assert positions_computed(10_581, 63, cached=False) == 668_619
    assert positions_computed(10_581, 63, cached=True) == 10_644
    assert round(668_619 / 10_644, 1) == 62.8
    assert cache_bytes(LLAMA, 10_644) == pytest.approx(1.395e9, rel=1e-3)


def test_llama_by_the_byte():
    assert bytes_per_token(LLAMA, 2) == 131_072 == 128 * 1024
    weights = LLAMA.parameters * 2
    assert weights == pytest.approx(16.06e9, rel=1e-3)
    assert cache_bytes(LLAMA, 122_532) <= weights < cache_bytes(LLAMA, 122_533)
    assert bytes_per_token(CONFIGS["SmolLM2-135M"], 4) == 46_080
    assert cache_bytes(LLAMA, 1000, 0.5, batch=3) == 3 * 1000 * 131_072 / 4


def test_latent_attention_as_published():
    """DeepSeek-V2, table 1: 4.5 head widths a layer, as much as grouped queries with 2.25 groups."""
    assert latent_bytes_per_token(60) == 69_120
    grouped = 2 * 60 * 128 * 2  # bytes of one group
    assert latent_bytes_per_token(60) / grouped == 2.25


def test_other_kinds_of_attention_differ_in_the_cache_alone():
    multi, own, one, latent, window = schemes(LLAMA, 10_000, 2, window=4096)
    assert (multi.token_bytes, own.token_bytes, one.token_bytes) == (524_288, 131_072, 16_384)
    assert latent.token_bytes == 32 * 576 * 2
    assert (own.kept, window.kept) == (10_000, 4096)
    assert window.text_bytes == cache_bytes(LLAMA, 10_000, window=4096) == 4096 * 131_072
    assert schemes(LLAMA, 100)[4].kept == 100, "a short text fits into the window"


@given(st.integers(1, 40), st.integers(0, 30), st.booleans())
def test_the_plan_adds_up_to_the_count(prompt, generated, cached):
    steps = plan(prompt, generated, cached)
    assert steps.computed.sum() == positions_computed(prompt, generated, cached)
    assert not (steps.computed & steps.read).any()
    there = steps.computed | steps.read
    for row, seen in zip(there, there.sum(axis=1), strict=True):
        assert row[:seen].all(), "what is computed or read is the text up to here"
    if cached:
        assert (steps.computed.sum(axis=0) == 1).all(), "each position once"
        total = prompt + generated
        assert sum(steps.scores) == total * (total + 1) // 2, "all pairs that may look at each other, once"
    else:
        assert steps.scores == [n * (n + 1) // 2 for n in range(prompt + 1, prompt + generated + 1)]


@pytest.mark.parametrize(("prompt", "generated"), [(0, 3), (-1, 3), (5, -1)])
def test_counts_that_cannot_be(prompt, generated):
    with pytest.raises(ValueError, match="prompt of at least one token"):
        positions_computed(prompt, generated, True)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_cached_step_is_what_one_more_token_adds_to_a_prefill(name):
    config = CONFIGS[name]
    for length in (1, 2, 100, 10_644):
        step, longer, shorter = decode_flops(config, length), prefill_flops(config, length), None
        if length > 1:
            shorter = prefill_flops(config, length - 1)
        for part in ("projections", "scores_and_mix", "feed_forward"):
            before = getattr(shorter, part) if shorter else 0
            assert getattr(step, part) == getattr(longer, part) - before, part
        assert decode_flops(config, length, cached=False) == longer


def test_generating_with_the_cache_costs_what_reading_the_whole_text_costs():
    made, read = generation_flops(LLAMA, 500, 70, cached=True), prefill_flops(LLAMA, 570)
    assert replace(made, output=0) == replace(read, output=0)
    assert made.output == 71 * read.output, "logits once after the prompt and once a token"
    anew = generation_flops(LLAMA, 500, 70, cached=False)
    assert anew.total == sum(prefill_flops(LLAMA, 500 + i).total for i in range(1, 71))


def test_reading_the_cache_is_a_quarter_of_a_step_of_the_long_chat():
    step = decode_flops(LLAMA, 10_600)
    assert round(100 * step.scores_and_mix / (step.total - step.output)) == 28
    assert round(100 * step.scores_and_mix / step.total) == 27
    matrices = 2 * (LLAMA.parameters - LLAMA.vocabulary * LLAMA.width)  # one multiply-add a weight, embedding looked up
    assert step.total - step.scores_and_mix == pytest.approx(matrices, rel=1e-3)


def test_the_count_is_what_the_scores_of_a_triangle_need():
    steps = plan(3, 2, cached=True)
    np.testing.assert_array_equal(steps.computed.astype(int), [[1, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]])
    np.testing.assert_array_equal(steps.read.astype(int), [[0, 0, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0]])
    assert steps.scores == [6, 4, 5]
