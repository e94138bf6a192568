"""The real model with parts off, its lens and its attention maps, against a plain second implementation of a Llama."""

import numpy as np
import plain_llama as plain
import pytest
from tiny_model import CONFIG

from engine import edits
from engine.edits import Trace
from engine.lens import kept_lens, largest, logit_lens
from engine.residual_study import PARTS, ablate, contributions, outlier, part_off, sublayers_off
from engine.sampling import log_softmax
from engine.tokenization import encode

TEXT = "The capital of France is"
IDS = [3, 1, 4, 1, 59, 26, 5, 35]
OFF = {
    "attention": lambda i: ("attention", i),
    "ffn": lambda i: ("ffn", i),
    "attention-norm": lambda i: ("norm", i, "attn"),
    "ffn-norm": lambda i: ("norm", i, "ffn"),
    "attention-residual": lambda i: ("residual", i, "attn"),
    "ffn-residual": lambda i: ("residual", i, "ffn"),
}


@pytest.fixture(scope="module")
def ids():
    return encode(TEXT, "smollm2")


# On a tiny model of random weights, in float64: every part of every block -------------------------------------------


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("block", range(CONFIG.layers))
def test_any_part_off_equals_the_plain_llama(tiny, part, block):
    expected = plain.run_from(tiny, tiny.weights.embedding[IDS], off=[OFF[part](block)])
    found = tiny.edited(IDS, part_off(part, block), ("off", part, block))
    for i, stream in enumerate(expected.streams):
        np.testing.assert_allclose(found[f"blk.{i}.resid"], stream, atol=1e-9)
    np.testing.assert_allclose(found["logits"], plain.logits(tiny, expected.streams[-1]), atol=1e-9)


@pytest.mark.parametrize("block", range(CONFIG.layers))
def test_any_heads_off_equal_the_plain_llama(tiny, block):
    off = [("head", block, 1), ("head", block, 2), ("head", 2, 0)]
    edit = edits.switch_off_head(block, 1, 2) | edits.switch_off_head(2, *((0, 1, 2) if block == 2 else (0,)))
    expected = plain.run_from(tiny, tiny.weights.embedding[IDS], off=off)
    found = plain.logits(tiny, expected.streams[-1])
    np.testing.assert_allclose(tiny.forward(IDS, edit=edit), found, atol=1e-9)


def test_attention_maps_of_the_tiny_model(tiny):
    expected = plain.run_from(tiny, tiny.weights.embedding[IDS])
    trace = tiny.trace(IDS)
    for (block, head), weights_there in expected.maps.items():
        np.testing.assert_allclose(trace[f"blk.{block}.attn.weights"][head], weights_there, atol=1e-12)


def test_every_sublayer_off_at_once_equals_one_at_a_time(tiny):
    found = sublayers_off(tiny, IDS, 0, CONFIG.layers)
    for block in range(CONFIG.layers):
        for k, part in enumerate(("attention", "ffn")):
            np.testing.assert_allclose(found[block, k], tiny.surprisal(IDS, part_off(part, block)), atol=1e-10)
    np.testing.assert_allclose(sublayers_off(tiny, IDS, 1, 2)[0], found[1], atol=1e-12)
    with pytest.raises(ValueError, match="at least two tokens"):
        sublayers_off(tiny, IDS[:1], 0, 1)


def test_shares_and_lengths_by_their_definition(tiny):
    trace = tiny.trace(IDS)
    found = contributions(trace, CONFIG.layers)
    total = found.embedding_share + found.attention_shares.sum(0) + found.ffn_shares.sum(0)
    np.testing.assert_allclose(total, 1, atol=1e-12)
    for t in range(len(IDS)):
        final = trace["blk.2.resid"][t]
        cosine = trace["blk.1.ffn.out"][t] @ final / np.linalg.norm(final) ** 2
        assert found.ffn_shares[1, t] == pytest.approx(cosine)
        assert found.lengths[2, t] == pytest.approx(np.sqrt((trace["blk.1.resid"][t] ** 2).sum()))
        assert found.attention[0, t] == pytest.approx(np.sqrt((trace["blk.0.attn.out"][t] ** 2).sum()))


def test_an_ablation_compares_the_two_runs(tiny):
    found = ablate(tiny, IDS, "ffn", 1)
    after = tiny.forward(IDS, edit=part_off("ffn", 1))
    p, q = (plain.log_p(x)[-1] for x in (tiny.forward(IDS), after))
    np.testing.assert_allclose(found.log_p_after, q, atol=1e-10)
    assert found.divergence == pytest.approx(sum(np.exp(a) * (a - b) for a, b in zip(p, q, strict=True)))
    np.testing.assert_allclose(found.surprisal_after, tiny.surprisal(IDS, part_off("ffn", 1)), atol=1e-10)
    np.testing.assert_array_equal(found.lens_before.ids[:2], found.lens_after.ids[:2])
    assert found.lens_after.ids[-1, 0] == np.argmax(after[-1])
    with pytest.raises(ValueError, match="no part called 'head'"):
        ablate(tiny, IDS, "head", 1)


def test_largest_finds_what_sorting_finds():
    rng = np.random.default_rng(3)
    for size in (7, 256, 300, 5000):
        rows = rng.normal(size=(6, size)).round(1)  # with many ties
        found = np.take_along_axis(rows, largest(rows, 5), -1)
        np.testing.assert_array_equal(found, -np.sort(-rows, axis=-1)[:, :5])


def test_ranks_and_probabilities_of_the_lens_of_the_tiny_model(tiny):
    trace = tiny.trace(IDS)
    lens = logit_lens(tiny, trace, k=3)
    for row, stream in enumerate([trace["embed"], *(trace[f"blk.{i}.resid"] for i in range(3))]):
        p = np.exp(plain.log_p(plain.logits(tiny, stream)))
        for t in range(len(IDS)):
            order = np.argsort(-p[t])
            np.testing.assert_array_equal(lens.top_ids[row, t], order[:3])
            np.testing.assert_allclose(lens.top_probabilities[row, t], p[t][order[:3]], rtol=1e-9)
            final = int(np.argmax(trace["logits"][t]))
            assert lens.final_ranks[row, t] == 1 + list(order).index(final)
            assert lens.final_probabilities[row, t] == pytest.approx(p[t][final])


# In SmolLM2 ---------------------------------------------------------------------------------------------------------


@pytest.mark.model
@pytest.mark.parametrize(
    ("edit", "off"),
    [
        *[(part_off(part, block), [OFF[part](block)]) for part in PARTS for block in (27, 29)],
        (edits.switch_off_head(26, 3), [("head", 26, 3)]),
        (edits.switch_off_head(27, 0, 8), [("head", 27, 0), ("head", 27, 8)]),
        (edits.switch_off_head(29, 5), [("head", 29, 5)]),
        (part_off("ffn", 26) | part_off("attention", 28), [("ffn", 26), ("attention", 28)]),
    ],
)
def test_any_part_off_in_smollm2_equals_the_plain_llama_from_the_trace_on(smollm2, ids, edit, off):
    before = smollm2.trace(ids)["blk.25.resid"]
    expected = plain.log_p(plain.logits(smollm2, plain.run_from(smollm2, before, 26, off).streams[-1]))
    for found in (smollm2.forward(ids, edit=edit), smollm2.edited(ids, edit, ("test", *off))["logits"]):
        np.testing.assert_allclose(log_softmax(found), expected, atol=2e-3)


@pytest.mark.model
@pytest.mark.parametrize("block", [0, 11, 24])
def test_an_early_part_off_equals_the_plain_llama_one_block_on(smollm2, ids, block):
    before = smollm2.trace(ids)[f"blk.{block - 1}.resid"] if block else smollm2.trace(ids)["embed"]
    for part in PARTS:
        found = smollm2.edited(ids, part_off(part, block), ("off", part, block))[f"blk.{block}.resid"]
        [expected] = plain.run_from(one_block(smollm2, block), before, 0, [OFF[part](0)]).streams
        assert np.abs(found - expected).max() < 2e-4 * np.abs(expected).max(), part


def one_block(model, block):
    """The model with a single block."""
    from dataclasses import replace

    return replace(
        model,
        config=replace(model.config, layers=1),
        weights=replace(model.weights, blocks=model.weights.blocks[block : block + 1]),
    )


@pytest.mark.model
def test_attention_maps_equal_softmax_of_the_scores_recomputed(smollm2, ids):
    trace = smollm2.trace(ids)
    for block in range(30):
        q, k = (trace[f"blk.{block}.attn.{name}"].astype(np.float64) for name in "qk")
        for head in range(9):
            for t in range(len(ids)):
                scores = [sum(q[head, t] * k[head // 3, s]) / 8 for s in range(t + 1)]
                shares = np.exp(scores) / np.exp(scores).sum()
                found = trace[f"blk.{block}.attn.weights"][head, t]
                np.testing.assert_allclose(found[: t + 1], shares, atol=2e-5)
                assert not found[t + 1 :].any()


@pytest.mark.model
def test_attention_maps_from_the_weights_on(smollm2, ids):
    for block in (0, 13, 29):
        before = smollm2.trace(ids)[f"blk.{block - 1}.resid"] if block else smollm2.trace(ids)["embed"]
        expected = plain.run_from(one_block(smollm2, block), before, 0)
        for head in range(9):
            found = smollm2.trace(ids)[f"blk.{block}.attn.weights"][head]
            np.testing.assert_allclose(found, expected.maps[0, head], atol=1e-4)


@pytest.mark.model
def test_the_lens_equals_a_direct_recomputation_from_the_trace(smollm2, ids):
    trace, lens = smollm2.trace(ids), kept_lens(smollm2, ids)
    for row in (0, 1, 12, 25, 30):
        stream = trace[f"blk.{row - 1}.resid"] if row else trace["embed"]
        expected = np.exp(plain.log_p(plain.logits(smollm2, stream.astype(np.float64))))
        np.testing.assert_array_equal(lens.ids[row], expected.argmax(-1))
        best = -np.sort(-expected, axis=-1)[:, :5]
        np.testing.assert_allclose(lens.top_probabilities[row], best, rtol=5e-3, atol=1e-6)
        own = np.take_along_axis(expected, lens.ids[-1][:, None], -1)[:, 0]
        np.testing.assert_allclose(lens.final_probabilities[row], own, rtol=5e-3, atol=1e-9)
        np.testing.assert_allclose(lens.norms[row], np.sqrt((stream.astype(float) ** 2).sum(-1)), rtol=1e-5)
    np.testing.assert_array_equal(lens.final_ranks[-1], 1)
    assert kept_lens(smollm2, ids).top_ids is lens.top_ids


@pytest.mark.model
def test_the_sweep_equals_single_runs(smollm2, ids):
    found = sublayers_off(smollm2, ids, 10, 13)
    assert found.dtype == np.float32
    for block in range(10, 13):
        for k, part in enumerate(("attention", "ffn")):
            expected = smollm2.surprisal(ids, part_off(part, block))
            np.testing.assert_allclose(found[block - 10, k], expected, atol=2e-3)


@pytest.mark.model
def test_the_huge_number_of_the_first_token(smollm2, ids):
    found = outlier(smollm2.trace(ids), 30)
    trace = smollm2.trace(ids)
    assert found.shares[12] > 0.95
    assert found.by == ("feed-forward", "feed-forward")
    written = trace[f"blk.{found.written_in}.ffn.out"][0]
    assert int(np.argmax(np.abs(written))) == found.channel
    np.testing.assert_allclose(found.values[-1], trace["blk.29.resid"][0, found.channel])
    assert found.erased_in > found.written_in


def test_a_trace_of_chosen_names_is_enough_for_the_shares(tiny):
    some = Trace("embed", "blk.*.resid", "blk.*.attn.out", "blk.*.ffn.out")
    tiny.forward(IDS, trace=some)
    np.testing.assert_array_equal(contributions(some, 3).lengths, contributions(tiny.trace(IDS), 3).lengths)
