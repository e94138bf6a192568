"""The hand-sized block: it gets agreement right for the right reason, and every number equals a plain recomputation."""

import math

import numpy as np
import pytest

from engine.small_block import ANSWERS, BLOCK, CHANNELS, SENTENCES, WORDS, run_small

PLURAL = {"keys": "are", "key": "is", "cats": "are", "cat": "is"}


@pytest.mark.parametrize("name", SENTENCES)
def test_the_verb_agrees_with_the_first_noun(name):
    run = run_small(SENTENCES[name])
    assert ANSWERS[int(np.argmax(run.probabilities[-1]))] == PLURAL[name]
    assert run.probabilities[-1].max() > 0.8
    joins = [t for t, word in enumerate(run.words) if WORDS[word][3]]
    assert all(ANSWERS[int(np.argmax(run.probabilities[t]))] == "a noun" for t in joins)


@pytest.mark.parametrize("off", ["attention", "ffn"])
def test_without_a_sublayer_it_cannot_tell(off):
    p = run_small(SENTENCES["keys"], off=[off]).probabilities[-1]
    assert p[0] == pytest.approx(p[1])


def test_every_step_written_out():
    run = run_small(SENTENCES["keys"], scale=0.7)
    x = [[0.7 * v for v in (*WORDS[word], 0, 0, 0, 0)] for word in run.words]
    normed = [[v / math.sqrt(sum(u * u for u in row) / 8 + 1e-5) for v in row] for row in x]
    np.testing.assert_allclose(run.steps["attn.norm"], normed)
    q, k, v = (np.array(normed) @ w for w in (BLOCK.w_q, BLOCK.w_k, BLOCK.w_v))
    scores = [q[3] @ k[s] / math.sqrt(2) for s in range(4)]
    weights = np.exp(scores) / np.exp(scores).sum()
    np.testing.assert_allclose(run.steps["attn.weights"][0, 3], weights)
    middle = x[3] + weights @ v @ BLOCK.w_o
    np.testing.assert_allclose(run.steps["attn.resid"][3], middle)
    again = middle / math.sqrt(float(middle @ middle) / 8 + 1e-5)
    gate, up = again @ BLOCK.w_gate, again @ BLOCK.w_up
    np.testing.assert_allclose(run.y[3], middle + gate / (1 + np.exp(-gate)) * up @ BLOCK.w_down)


def test_the_norm_makes_the_size_of_the_stream_irrelevant_to_what_is_added():
    one, ten = run_small(SENTENCES["keys"]), run_small(SENTENCES["keys"], scale=10)
    np.testing.assert_allclose(one.steps["attn.out"], ten.steps["attn.out"], rtol=1e-3)
    off = ["attention-norm", "ffn-norm"]
    plain, large = run_small(SENTENCES["keys"], off=off), run_small(SENTENCES["keys"], off=off, scale=10)
    assert np.abs(large.steps["ffn.out"]).max() > 20 * np.abs(plain.steps["ffn.out"]).max()


def test_switches_do_what_they_say():
    run = run_small(SENTENCES["cat"], off=["attention-residual"])
    np.testing.assert_array_equal(run.steps["attn.resid"], run.steps["attn.out"])
    run = run_small(SENTENCES["cat"], off=["ffn-residual", "ffn-norm"])
    np.testing.assert_array_equal(run.y, run.steps["ffn.out"])
    np.testing.assert_array_equal(run.steps["ffn.norm"], run.steps["attn.resid"])
    assert len(CHANNELS) == run.x.shape[1]


def test_an_unknown_word_is_a_sentence():
    with pytest.raises(ValueError, match="“dog” has no hand-set embedding"):
        run_small("Keys in the dog")
    with pytest.raises(ValueError, match="no part called"):
        run_small("Keys", off=["head"])
