"""The cache in the real model changes nothing but the time; a window equals keys thrown away."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_model import CONFIG

from engine import cache_study
from engine.attention import attention, window_mask
from engine.block import prefill_flops
from engine.edits import sliding_window
from engine.kv_cache import bytes_per_token, positions_computed
from engine.model import Model
from engine.tokenization import encode

PROMPTS = [
    "The animal did not cross the street because it was too",
    "The capital of France is",
    "Once upon a time",
    "def fibonacci(n):\n    ",
    "1, 2, 3, 4,",
    "Roses are red, violets are",
    "The",
    "Der Hund lief über die",
    "To be, or not to be, that is the",
    "Explain why the sky is blue.",
    "¿Cómo estás? Estoy muy",
    "import numpy as",
    "Q: What is 2 + 2?\nA:",
    "She sat on the bank of the river and",
    "日本の首都は",
    "<p>Hello, <b>world</b></p>",
    "My name is Anna. I live by the sea with two cats. My name is",
    "Water boils at a temperature of",
    "🙂🙂🙂",
    "In the year 1969, people first walked on the",
]


IDS = [3, 1, 4, 1, 59, 26, 5, 35, 8, 9, 7, 93]


# With and without ----------------------------------------------------------------------------------------------------


@pytest.mark.model
@pytest.mark.parametrize("prompt", PROMPTS)
def test_cached_equals_uncached_token_by_token(smollm2, prompt):
    found = cache_study.with_and_without(smollm2, encode(prompt, "smollm2"), 8)
    assert found.same
    assert [step.id for step in found.cached] == [step.id for step in found.uncached]
    assert max(found.logit_difference) < 1e-4
    assert found.logit_difference == [
        np.abs(one.logits - other.logits).max() for one, other in zip(found.cached, found.uncached, strict=True)
    ]


@pytest.mark.model
def test_the_speed_up_grows_with_the_length_as_predicted(smollm2):
    """Times on a busy machine: the best of a few tries has to show it."""
    for _ in range(4):
        found = cache_study.step_times(smollm2, encode(PROMPTS[0], "smollm2"), [8, 64, 128])
        measured, predicted = found.uncached[-1], found.predicted[-1]
        grows = 1.5 * found.speed_up[0] < found.speed_up[1] < found.speed_up[2]
        if grows and 0.5 < measured / predicted < 2:
            return
    pytest.fail(f"speed-up {found.speed_up}, predicted {found.predicted}, measured {found.uncached}")


def test_different_tokens_are_not_shown(tiny, monkeypatch):
    other = iter([list(tiny.generate(IDS, 3, stop=())), list(tiny.generate(IDS[:5], 3, stop=()))])
    monkeypatch.setattr(Model, "generate", lambda *args, **more: iter(next(other)))
    with pytest.raises(RuntimeError, match="different tokens"):
        cache_study.with_and_without(tiny, IDS, 3)


def test_what_was_computed_is_what_is_counted(tiny):
    """A run ends when the last token is chosen, so it is one that reads a text of one token less."""
    found = cache_study.with_and_without(tiny, IDS, 5)
    assert sum(step.computed for step in found.cached) == positions_computed(len(IDS) - 1, 5, cached=True)
    assert sum(step.computed for step in found.uncached) == positions_computed(len(IDS) - 1, 5, cached=False)
    assert found.cached[-1].cache_bytes == (len(IDS) + 4) * bytes_per_token(CONFIG, 8)


def test_prediction_is_a_straight_line_in_the_arithmetic():
    lengths, price = [10, 20, 40, 80], 1e-9
    seconds = [0.5 + price * prefill_flops(CONFIG, n).total for n in lengths]
    known = (10, seconds[0]), (40, seconds[2])
    np.testing.assert_allclose(cache_study.predicted_seconds(CONFIG, lengths, *known), seconds)


def test_times_are_taken_at_each_length(tiny):
    found = cache_study.step_times(tiny, IDS, [2, 4, 30])
    assert found.lengths == (2, 4, 30)
    assert len(found.uncached) == len(found.cached) == len(found.speed_up) == 3
    assert min(found.uncached + found.cached) > 0
    np.testing.assert_allclose(np.array(found.predicted)[:2], found.uncached[:2])
    with pytest.raises(ValueError, match="Two lengths are needed"):
        cache_study.step_times(tiny, IDS, [2, 4])


def test_one_disturbed_run_does_not_count(tiny, monkeypatch):
    """Two rounds over three lengths, a run without and one with the cache each; what is slow only once is left out."""
    quiet = [2.0, 1.0, 4.0, 1.0, 8.0, 1.0]
    taken = iter([9.0, *quiet[1:], quiet[0], 7.0, *quiet[2:]])
    monkeypatch.setattr(cache_study, "_seconds", lambda *args: next(taken))
    found = cache_study.step_times(tiny, IDS, [2, 4, 8])
    assert found.uncached == (2.0, 4.0, 8.0)
    assert found.cached == (1.0, 1.0, 1.0)


def test_a_batch_of_readers(tiny):
    found = cache_study.batch_times(tiny, IDS, [1, 2, 4])
    each = (len(IDS) + 1) * bytes_per_token(CONFIG, 8)
    assert found.cache_bytes == (each, 2 * each, 4 * each)
    assert found.tokens_a_second[2] == 4 / found.seconds[2]


# A window ------------------------------------------------------------------------------------------------------------


def test_a_window_is_attention_to_the_keys_that_are_left():
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(3, 9, 4))
    for width, sinks in [(1, 0), (3, 0), (3, 2), (1, 1), (9, 0), (20, 4)]:
        bias = np.where(window_mask(9, 9, width, sinks), 0.0, -np.inf)
        masked = attention(q, k, v, bias=bias).output
        for t in range(9):
            left = [j for j in range(t + 1) if j > t - width or j < sinks]
            alone = attention(q[t : t + 1], k[left], v[left], causal=False).output
            np.testing.assert_allclose(masked[t], alone[0], rtol=1e-12)


def test_the_newest_of_many_keys():
    np.testing.assert_array_equal(window_mask(2, 6, 3)[-1], [False, False, False, True, True, True])
    np.testing.assert_array_equal(window_mask(1, 6, 2, sinks=1)[0], [True, False, False, False, True, True])
    with pytest.raises(ValueError, match="at least the token itself"):
        window_mask(3, 3, 0)


@pytest.mark.parametrize("sinks", [0, 2])
def test_keys_outside_the_window_may_be_thrown_away(tiny, sinks):
    """Token by token with what fell out overwritten by rubbish: the same logits as the masked run over everything."""
    edit, width = sliding_window(CONFIG, 4, sinks), 4
    whole = tiny.forward(IDS, edit=edit)
    cache = tiny.new_cache(len(IDS))
    for t, token in enumerate(IDS):
        gone = slice(min(sinks, t), max(t - width + 1, min(sinks, t)))
        cache.keys[..., gone, :] = cache.values[..., gone, :] = 12345.0
        np.testing.assert_allclose(tiny.forward([token], cache, edit=edit)[0], whole[t], rtol=1e-9, atol=1e-9)


def test_all_windows_in_one_batch(tiny):
    found = cache_study.through_windows(tiny, IDS, (2, 5, 12), sinks=1, tokens=4)
    for i, width in enumerate((2, 5, 12)):
        edit = sliding_window(CONFIG, width if width < 12 else 99, 1)
        np.testing.assert_allclose(found.surprisal[i], tiny.surprisal(IDS, edit), rtol=1e-9)
        assert found.loss[i] == pytest.approx(float(tiny.loss(IDS, edit)))
        steps = list(tiny.generate(IDS, 4, edit=edit, stop=()))
        assert found.continued[i] == tuple(step.id for step in steps)
        shifted = np.exp(steps[0].logits - steps[0].logits.max())
        np.testing.assert_allclose(found.next[i], shifted / shifted.sum(), rtol=1e-9)
    each = bytes_per_token(CONFIG, 8)
    assert found.kept_bytes == (3 * each, 6 * each, 12 * each)
    np.testing.assert_allclose(found.surprisal[-1], tiny.surprisal(IDS), rtol=1e-9)


def test_a_single_token_has_no_loss(tiny):
    with pytest.raises(ValueError, match="at least two tokens"):
        cache_study.through_windows(tiny, [3], (1,))


def test_widths_worth_showing():
    assert cache_study.useful_widths(11) == (1, 2, 4, 8, 11)
    assert cache_study.useful_widths(8, least=2) == (2, 4, 8)
    assert cache_study.useful_widths(2, least=2) == (2,)


@pytest.mark.model
def test_a_name_falls_out_of_the_window_and_the_sink_keeps_the_language(smollm2):
    ids = encode("Hello! My name is Anna. I live by the sea with two cats. Nice to meet you. My name is", "smollm2")
    anna = encode(" Anna", "smollm2")[0]
    bare, sink = (cache_study.through_windows(smollm2, ids, (8, len(ids)), kept) for kept in (0, 1))
    assert sink.next[0, anna] < 0.02 < 0.3 < sink.next[1, anna]
    assert bare.loss[0] > bare.loss[1] + 2, "without its sink the model breaks"
    assert sink.loss[0] < sink.loss[1] + 0.5, "with it, it only forgets"
