"""Scores of heads against direct loops and made-up patterns; heads switched off against the trace taken apart."""

from __future__ import annotations

import numpy as np
import plain_llama as plain
import pytest

from engine import head_study as study
from engine.attention_study import first_token_share, previous_token_share
from engine.edits import Trace, switch_off_head
from engine.multi_head import head_contributions, split_heads
from engine.sampling import log_softmax
from engine.tokenization import encode

rng = np.random.default_rng(22)


def attention_maps(*shape: int) -> np.ndarray:
    """Random rows that sum to 1 and look only back."""
    maps = np.tril(rng.random(shape))
    return maps / maps.sum(-1, keepdims=True)


def test_random_tokens_come_twice_and_are_ordinary():
    ids = study.repeated_random_ids(3, 20)
    assert len(ids) == 40
    assert len(set(ids[:20].tolist())) == 20, "no token twice within a period, or its successor would not be certain"
    np.testing.assert_array_equal(ids[:20], ids[20:])
    assert ids.min() >= study.SPECIAL
    np.testing.assert_array_equal(ids, study.repeated_random_ids(3, 20))
    assert not np.array_equal(ids, study.repeated_random_ids(4, 20))
    with pytest.raises(ValueError, match="number 2 to"):
        study.repeated_random_ids(0, 1)


@pytest.mark.parametrize("period", [2, 3, 20])
def test_induction_score_equals_a_double_loop(period):
    weights = attention_maps(3, 2, 2 * period, 2 * period)
    tokens = rng.permutation(99)[:period].tolist() * 2
    expected = np.zeros((3, 2))
    for layer in range(3):
        for head in range(2):
            total = 0.0
            for i in range(period, 2 * period):
                for j in range(i):
                    if tokens[j] == tokens[i]:  # seen before, there
                        total += weights[layer, head, i, j + 1]
            expected[layer, head] = total / period
    np.testing.assert_allclose(study.induction_score(weights, period), expected, rtol=1e-13)


def test_a_perfect_induction_head_scores_one_and_others_what_they_should():
    period = 5
    rows = np.arange(2 * period)
    induction = np.eye(2 * period)[np.where(rows < period, 0, rows - period + 1)]
    previous = np.eye(2 * period)[np.maximum(rows - 1, 0)]
    first = np.eye(2 * period)[0 * rows]
    spread = np.tril(np.ones((10, 10))) / (rows[:, None] + 1)
    maps = np.stack([induction, previous, first, spread])
    np.testing.assert_allclose(study.induction_score(maps, period), [1, 0, 0, np.mean(1 / np.arange(6, 11))])
    np.testing.assert_allclose(previous_token_share(maps)[1:3], [1, 1 / 9])
    np.testing.assert_allclose(first_token_share(maps)[2], 1)


def test_only_a_text_of_two_periods_has_an_induction_score():
    with pytest.raises(ValueError, match="twice 4 tokens long, and is 7"):
        study.induction_score(attention_maps(7, 7), 4)


def test_ranking_and_the_random_control():
    scores = np.array([[0.1, 0.9], [0.5, 0.5], [0.0, 0.95]])
    assert study.ranked(scores) == [(2, 1), (0, 1), (1, 0), (1, 1), (0, 0), (2, 0)]
    among = study.ranked(scores)[1:]
    drawn = study.random_heads(7, 3, among)
    assert len(set(drawn)) == 3
    assert set(drawn) <= set(among)
    assert drawn == study.random_heads(7, 3, among)


def test_copying_is_measured_without_the_token_where_it_begins():
    assert study.copied(np.array([1.0, 3.0, 50.0, 0.5, 1.5])) == (2.0, 1.0)  # a b c a b c: b c | a | b c


def test_an_edit_of_heads_in_several_layers():
    assert set(study.without_heads([(3, 1), (5, 0), (3, 8)])) == {"blk.3.attn.output", "blk.5.attn.output"}
    assert study.without_heads([]) == {}


# In the real model ---------------------------------------------------------------------------------------------------

IDS = [504, 3519, 1250, 441, 4068, 260, 3984, 975, 357, 436, 1517]


@pytest.mark.model
def test_attention_maps_equal_a_recomputation_from_queries_and_keys(smollm2):
    trace = smollm2.trace(IDS)
    future = np.triu(np.full((len(IDS), len(IDS)), -np.inf), 1)
    for layer in range(30):
        for head in range(9):
            q = trace[f"blk.{layer}.attn.q"][head].astype(np.float64)
            k = trace[f"blk.{layer}.attn.k"][head // 3].astype(np.float64)
            powers = np.exp(q @ k.T / 8 + future)
            expected = powers / powers.sum(axis=1, keepdims=True)
            np.testing.assert_allclose(trace[f"blk.{layer}.attn.weights"][head], expected, atol=2e-5)


@pytest.mark.model
def test_what_the_heads_write_sums_to_what_attention_adds(smollm2):
    trace = smollm2.trace(IDS)
    for layer in (0, 13, 29):
        w_o = smollm2.weights.blocks[layer].w_o.rows.T
        found = split_heads(trace[f"blk.{layer}.attn.output"], 9)
        parts = head_contributions(found, w_o)
        scale = np.abs(parts).max()
        np.testing.assert_allclose(parts.sum(axis=0), trace[f"blk.{layer}.attn.out"], atol=1e-5 * scale)


@pytest.mark.model
@pytest.mark.parametrize(("layer", "head"), [(18, 6), (29, 0)])
def test_a_head_switched_off_equals_the_trace_without_its_part(smollm2, layer, head):
    trace, own = smollm2.trace(IDS), slice(64 * head, 64 * head + 64)
    part = trace[f"blk.{layer}.attn.output"][:, own] @ smollm2.weights.blocks[layer].w_o.rows.T[own]
    middle = trace[f"blk.{layer - 1}.resid"] + (trace[f"blk.{layer}.attn.out"] - part)
    edited = smollm2.edited(IDS, switch_off_head(layer, head), ("test", layer, head))
    np.testing.assert_allclose(edited[f"blk.{layer}.attn.resid"], middle, rtol=1e-4, atol=2e-3)
    rest = plain.run_from(smollm2, trace[f"blk.{layer - 1}.resid"], layer, [("head", layer, head)])
    expected = plain.log_p(plain.logits(smollm2, rest.streams[-1]))
    ablated = study.ablate(smollm2, IDS, [(layer, head)])
    np.testing.assert_allclose(log_softmax(ablated.logits), expected[-1], atol=1e-3)
    surprisals = -expected[np.arange(len(IDS) - 1), IDS[1:]]
    np.testing.assert_allclose(ablated.text, surprisals, atol=1e-3)
    assert np.abs(expected[-1] - log_softmax(trace["logits"][-1])).max() > 0.01, "the head does something"


@pytest.mark.model
def test_nothing_switched_off_is_the_model_itself(smollm2):
    ablated = study.ablate(smollm2, IDS, [], seed=1)
    np.testing.assert_allclose(ablated.text, smollm2.surprisal(IDS), atol=1e-5)
    np.testing.assert_allclose(ablated.logits, smollm2.trace(IDS)["logits"][-1], atol=1e-4)
    np.testing.assert_allclose(ablated.repeated, smollm2.surprisal(study.repeated_random_ids(1)), atol=1e-5)


@pytest.mark.model
@pytest.mark.parametrize("heads", [[(0, 3)], [(16, 0)], [(29, 8)], [(18, 6), (17, 3), (2, 1)]])
def test_starting_at_the_edited_block_equals_the_whole_run(smollm2, heads):
    ablated, edit = study.ablate(smollm2, IDS, heads, seed=1), study.without_heads(heads)
    np.testing.assert_allclose(ablated.logits, smollm2.forward(IDS, edit=edit)[-1], atol=1e-4)
    repeated = smollm2.surprisal(study.repeated_random_ids(1), edit)
    np.testing.assert_allclose(ablated.repeated, repeated, atol=1e-4)


@pytest.mark.model
def test_reading_repeated_tokens_gives_the_models_own_weights(smollm2):
    read = study.read_repeated(smollm2, 2, 20)
    trace = Trace("blk.18.attn.weights")
    logits = smollm2.forward(read.ids, trace=trace)
    np.testing.assert_array_equal(read.weights[18], trace["blk.18.attn.weights"])
    losses = -log_softmax(logits.astype(np.float64))[np.arange(39), read.ids[1:]]
    np.testing.assert_allclose(read.surprisal, losses, atol=1e-4)
    first, second = study.copied(read.surprisal)
    assert second < 0.4 * first, "the model copies"
    assert study.ranked(read.induction)[0] == (18, 6)


@pytest.mark.model
@pytest.mark.parametrize("seed", range(5))
def test_copying_needs_the_induction_heads_and_not_others(smollm2, seed):
    order = study.ranked(study.read_repeated(smollm2, seed).induction)
    others = study.random_heads(seed, 6, order[20:])
    _, whole = study.copied(study.ablate(smollm2, IDS, [], seed).repeated)
    _, without = study.copied(study.ablate(smollm2, IDS, order[:6], seed).repeated)
    _, control = study.copied(study.ablate(smollm2, IDS, others, seed).repeated)
    assert without > whole + 4
    assert control < whole + 1.5
    plain = encode("The animal did not cross the street because it was too", "smollm2")  # repeats nothing but "the"
    before, after = (study.ablate(smollm2, plain, heads, seed).text.mean() for heads in ([], order[:6]))
    assert abs(after - before) < 0.15


# What the page says of the model's heads, whichever random tokens a reader chooses ------------------------------------


@pytest.mark.model
@pytest.mark.parametrize("seed", range(5))
def test_three_strong_induction_heads_read_one_key_value_head(smollm2, seed):
    read = study.read_repeated(smollm2, seed)
    best = study.ranked(read.induction)
    assert best[0] == (18, 6)
    assert {(17, 3), (17, 4), (17, 5)} <= set(best[:5])
    assert [(17, 3), (17, 4), (17, 5)] in study.by_shared_keys(best[:6], 3)
    first, second = study.copied(read.surprisal)
    assert first > np.log(49152), "random tokens surprise it more than even guessing would"
    assert second < 0.4 * first


@pytest.mark.model
@pytest.mark.parametrize("seed", range(5))
def test_copying_also_needs_the_head_that_looks_one_token_back(smollm2, seed):
    read = study.read_repeated(smollm2, seed)
    assert study.ranked(previous_token_share(read.weights))[0] == (16, 0)
    assert read.induction[16, 0] < 0.05, "and does not attend to the copy itself"
    _, whole = study.copied(read.surprisal)
    _, without = study.copied(study.ablate(smollm2, IDS, [(16, 0)], seed).repeated)
    assert without > 1.5 * whole + 1


@pytest.mark.model
def test_the_strongest_induction_head_rests_where_nothing_repeats(smollm2):
    weights = smollm2.trace(encode("The animal did not cross the street because it was too", "smollm2"))
    assert first_token_share(weights["blk.18.attn.weights"])[6] > 0.9


@pytest.mark.model
def test_the_guesses_are_the_likeliest_tokens(smollm2):
    read = study.read_repeated(smollm2, 0)
    p = np.exp(log_softmax(smollm2.forward(read.ids).astype(np.float64)))
    np.testing.assert_allclose(read.chances, np.sort(p, axis=-1)[:, :-6:-1], rtol=1e-3)
    np.testing.assert_allclose(np.take_along_axis(p, read.guesses, -1), read.chances, rtol=1e-3)


def test_heads_that_share_keys():
    heads = [(17, 5), (18, 6), (17, 3), (2, 2), (2, 3), (18, 8)]
    assert study.by_shared_keys(heads, 3) == [[(17, 3), (17, 5)], [(18, 6), (18, 8)]]


@pytest.mark.model
def test_any_text_can_be_read_twice(smollm2):
    read = study.read_twice(smollm2, IDS)
    assert read.ids.tolist() == IDS + IDS
    np.testing.assert_allclose(read.surprisal[: len(IDS) - 1], smollm2.surprisal(IDS), atol=1e-3)
    first, second = study.copied(read.surprisal)
    assert second < first
    assert study.read_twice(smollm2, IDS).weights is read.weights, "kept"
