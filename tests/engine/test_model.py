"""The real model against Hugging Face, against itself two ways, and against a plain second implementation."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import plain_llama as plain
import pytest
from tiny_model import CONFIG

from engine import edits
from engine.backpropagation import gradient_check
from engine.edits import Trace
from engine.embeddings import lookup
from engine.kv_cache import KVCache
from engine.model import Model
from engine.sampling import log_softmax
from engine.weights import Matrix

GOLDENS = dict(np.load(Path(__file__).parents[1] / "goldens" / "smollm2.npz"))
LOG_P = 1e-3  # nats, both sides in float32
FRANCE = GOLDENS["france.ids"].tolist()


IDS = [3, 1, 4, 1, 59, 26, 5, 35]


# Against Hugging Face ------------------------------------------------------------------------------------------------


@pytest.mark.model
def test_paris(smollm2):
    p = np.exp(log_softmax(smollm2.forward(FRANCE, last_only=True))[0])
    assert np.argmax(p) == 7042
    assert p[7042] == pytest.approx(0.7725, abs=5e-4)


@pytest.mark.model
def test_wrong_pairs_still_say_paris_and_read_worse(smollm2):
    wrong = edits.other_rope(smollm2.config, layout="half")
    p = np.exp(log_softmax(smollm2.forward(FRANCE, edit=wrong)[-1]))
    assert p[7042] == pytest.approx(0.721, abs=2e-3)
    assert smollm2.loss(GOLDENS["german.ids"], wrong) > smollm2.loss(GOLDENS["german.ids"]) + 0.3


# Two ways to one number, in the real model ---------------------------------------------------------------------------


@pytest.mark.model
def test_float32_everywhere(smollm2):
    trace = dict(smollm2.trace(FRANCE))
    assert {name: value.dtype for name, value in trace.items() if value.dtype != np.float32} == {
        "positions": trace["positions"].dtype
    }
    assert len(trace) == 2 + 30 * 17 + 2


@pytest.mark.model
def test_cached_equals_uncached(smollm2):
    ids = GOLDENS["sentence.ids"][:12]
    whole = log_softmax(smollm2.forward(ids))
    for cuts in ([1] * 12, [12], [7, 1, 1, 3], [11, 1]):
        cache = smollm2.new_cache(len(ids))
        parts = [smollm2.forward(part, cache) for part in np.split(ids, np.cumsum(cuts)[:-1])]
        np.testing.assert_allclose(log_softmax(np.concatenate(parts)), whole, atol=LOG_P)
        assert cache.nbytes == 46080 * len(ids)


@pytest.mark.model
def test_trace_and_edits_that_change_nothing_leave_the_logits_alone(smollm2):
    plain = smollm2.forward(FRANCE)
    trace: dict[str, np.ndarray] = {}
    np.testing.assert_array_equal(smollm2.forward(FRANCE, trace=trace), plain)
    np.testing.assert_array_equal(smollm2.forward(FRANCE, edit=trace), plain)
    np.testing.assert_allclose(smollm2.forward(FRANCE, last_only=True), plain[-1:], atol=1e-3)


@pytest.mark.model
def test_the_stream_is_the_sum_of_what_the_blocks_add(smollm2):
    trace = smollm2.trace(GOLDENS["sentence.ids"])
    stream = trace["embed"].astype(np.float64)
    for i in range(30):
        stream = stream + trace[f"blk.{i}.attn.out"]
        np.testing.assert_allclose(trace[f"blk.{i}.attn.resid"], stream, rtol=1e-4, atol=2e-3)
        stream = stream + trace[f"blk.{i}.ffn.out"]
        np.testing.assert_allclose(trace[f"blk.{i}.resid"], stream, rtol=1e-4, atol=2e-3)


@pytest.mark.model
@pytest.mark.parametrize(
    ("edit", "off"),
    [
        (edits.switch_off_head(27, 4), [("head", 27, 4)]),
        (edits.switch_off_norm(28, "attn"), [("norm", 28, "attn")]),
        (edits.switch_off_norm(27, "ffn"), [("norm", 27, "ffn")]),
        (edits.switch_off_residual(29, "attn"), [("residual", 29, "attn")]),
        (edits.switch_off_residual(28, "ffn"), [("residual", 28, "ffn")]),
        ({}, []),
    ],
)
def test_switching_off_equals_computing_on_from_the_trace(smollm2, edit, off):
    before = smollm2.trace(FRANCE)["blk.26.resid"].astype(np.float64)
    expected = plain.logits(smollm2, plain.run_from(smollm2, before, 27, off).streams[-1])
    np.testing.assert_allclose(log_softmax(smollm2.forward(FRANCE, edit=edit)), log_softmax(expected), atol=2e-3)


@pytest.mark.model
def test_only_the_distance_between_positions_counts(smollm2):
    plain = log_softmax(smollm2.forward(FRANCE))
    shifted = log_softmax(smollm2.forward(FRANCE, edit=edits.move_positions(lambda p: p + 1000)))
    np.testing.assert_allclose(shifted, plain, atol=5e-3)
    stretched = log_softmax(smollm2.forward(FRANCE, edit=edits.move_positions(lambda p: p * 7)))
    assert np.abs(stretched - plain).max() > 0.1


@pytest.mark.model
def test_gradient_through_thirty_blocks_in_float32(smollm2):
    check_directional(smollm2, step=0.02, tolerance=1e-2)


@pytest.mark.model
def test_gradient_through_thirty_blocks_in_float64(smollm2):
    check_directional(smollm2.astype(np.float64), step=2e-3, tolerance=1e-5)


def check_directional(model, step, tolerance):
    """The gradient along two directions against central differences, twice and extrapolated (Richardson)."""
    ids, rng = FRANCE, np.random.default_rng(5)
    x = lookup(model.weights.embedding, np.array(ids))
    _, gradient = model.embedding_gradient(ids)
    for direction in (gradient / np.linalg.norm(gradient), rng.normal(size=x.shape) / np.sqrt(x.size)):
        unit = direction.astype(x.dtype)

        def slope(h, unit=unit):
            losses = [float(model.loss(ids, {"embed": x + side * h * unit})) for side in (1, -1)]
            return (losses[0] - losses[1]) / (2 * h)

        measured = (4 * slope(step / 2) - slope(step)) / 3
        assert abs(measured - np.sum(gradient * unit)) < tolerance * np.linalg.norm(gradient)


@pytest.mark.model
def test_the_second_look_costs_nothing_and_cannot_be_changed(smollm2):
    first = smollm2.trace(FRANCE)
    assert smollm2.trace(np.array(FRANCE)) is first
    with pytest.raises(ValueError, match="read-only"):
        first["blk.3.attn.weights"][0, 0, 0] = 1
    with pytest.raises(TypeError):
        first["logits"] = 0


# On a tiny model of random weights, in float64 -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "off"),
    [
        ({}, []),
        (edits.switch_off_head(1, 2), [("head", 1, 2)]),
        (edits.switch_off_norm(0, "attn"), [("norm", 0, "attn")]),
        (edits.switch_off_norm(2, "attn"), [("norm", 2, "attn")]),
        (edits.switch_off_norm(1, "ffn"), [("norm", 1, "ffn")]),
        (edits.switch_off_residual(0, "attn"), [("residual", 0, "attn")]),
        (edits.switch_off_residual(2, "ffn"), [("residual", 2, "ffn")]),
        (edits.switch_off_rope(), [("rope",)]),
    ],
)
def test_every_edit_equals_the_plain_implementation(tiny, edit, off):
    x = tiny.weights.embedding[IDS]
    expected = plain.logits(tiny, plain.run_from(tiny, x, off=off).streams[-1])
    np.testing.assert_allclose(tiny.forward(IDS, edit=edit), expected, atol=1e-9)


def test_the_wrong_pairs_equal_the_plain_implementation(tiny):
    wrong = plain.run_from(tiny, tiny.weights.embedding[IDS], pairs="half").streams[-1]
    found = tiny.forward(IDS, edit=edits.other_rope(CONFIG, layout="half"))
    np.testing.assert_allclose(found, plain.logits(tiny, wrong), atol=1e-9)


def test_sublayers_off_and_activations_added(tiny):
    trace: dict[str, np.ndarray] = {}
    tiny.forward(IDS, trace=trace, edit=edits.switch_off_attention(1) | edits.switch_off_ffn(2))
    np.testing.assert_array_equal(trace["blk.1.attn.resid"], trace["blk.0.resid"])
    np.testing.assert_array_equal(trace["blk.2.resid"], trace["blk.2.attn.resid"])
    assert not trace["blk.1.attn.out"].any()
    plain, added = dict(tiny.trace(IDS)), {}
    tiny.forward(IDS, trace=added, edit=edits.add("blk.0.resid", np.arange(32.0)))
    np.testing.assert_allclose(added["blk.0.resid"] - plain["blk.0.resid"], np.tile(np.arange(32.0), (8, 1)))


def test_a_patched_attention_pattern_is_what_mixes_the_values(tiny):
    uniform = np.tril(np.ones((8, 8))) / np.arange(1, 9)[:, None]
    trace: dict[str, np.ndarray] = {}
    tiny.forward(IDS, trace=trace, edit={"blk.1.attn.weights": np.tile(uniform, (4, 1, 1))})
    means = np.cumsum(trace["blk.1.attn.v"], axis=1) / np.arange(1, 9)[:, None]
    expected = np.concatenate([means[0], means[0], means[1], means[1]], axis=1)
    np.testing.assert_allclose(trace["blk.1.attn.output"], expected, atol=1e-12)


def test_an_edit_may_look_back_and_chains_work_with_the_cache(tiny):
    edit = {"blk.2.ffn.out": lambda value, seen: seen["blk.0.ffn.out"]}
    whole = tiny.forward(IDS, edit=edit)
    assert np.abs(whole - tiny.forward(IDS)).max() > 1e-3
    cache = tiny.new_cache(8)
    parts = [tiny.forward(IDS[:5], cache, edit=edit), tiny.forward(IDS[5:], cache, edit=edit)]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-12)


def test_edits_that_do_not_fit_are_sentences(tiny):
    for edit, message in (
        ({"blk.7.attn.q": np.zeros(3)}, "no activation called blk.7.attn.q"),
        ({"blk.1.attn.q": np.zeros(3)}, r"patch for blk.1.attn.q has shape \(3,\); the activation has \(4, 8, 8\)"),
        (edits.switch_off_head(1, 4), "numbered 0 to 3"),
    ):
        with pytest.raises(ValueError, match=message):
            tiny.forward(IDS, edit=edit)
    for switch in (edits.switch_off_norm, edits.switch_off_residual):
        with pytest.raises(ValueError, match='are "attn" and "ffn", not \'mlp\''):
            switch(1, "mlp")


def test_a_patch_is_brought_to_the_models_dtype(tiny):
    small = tiny.astype(np.float32)
    trace: dict[str, np.ndarray] = {}
    logits = small.forward(IDS, trace=trace, edit={"blk.1.ffn.hidden": np.zeros((8, 64), np.float64)})
    assert logits.dtype == trace["blk.1.ffn.hidden"].dtype == np.float32
    with pytest.raises(TypeError, match="float32"):
        np.ones((2, 32)) @ small.weights.blocks[0].w_q


def test_trace_of_chosen_names(tiny):
    some = Trace("blk.*.attn.weights", "logits")
    tiny.forward(IDS, trace=some)
    assert list(some) == [f"blk.{i}.attn.weights" for i in range(3)] + ["logits"]
    np.testing.assert_array_equal(some["logits"], tiny.forward(IDS))


def test_gradient_of_the_loss_with_respect_to_the_input_and_to_any_activation(tiny):
    ids = IDS[:3]
    for name in ("embed", "blk.0.attn.weights", "blk.1.attn.v", "blk.2.attn.k_raw"):
        found = gradient_check(lambda value, name=name: tiny.loss(ids, {name: value}), (tiny.trace(ids)[name],))
        assert found.worst < 5e-6, name  # small elements lose digits through the whole model
    loss, gradient = tiny.embedding_gradient(ids)
    assert loss == pytest.approx(float(tiny.loss(ids)))
    assert gradient.shape == (3, 32)


def test_loss_is_the_mean_surprisal(tiny):
    log_p = log_softmax(plain.logits(tiny, plain.run_from(tiny, tiny.weights.embedding[IDS]).streams[-1]))
    expected = [-log_p[t, IDS[t + 1]] for t in range(7)]
    np.testing.assert_allclose(tiny.surprisal(IDS), expected, atol=1e-9)
    assert tiny.loss(IDS) == pytest.approx(np.mean(expected))
    assert tiny.loss(IDS, target=3) == pytest.approx(expected[2])
    for target in (0, 8, -1):
        with pytest.raises(ValueError, match="positions 1 to 7"):
            tiny.loss(IDS, target=target)


def test_generation_with_and_without_the_cache(tiny):
    cached, plain = (list(tiny.generate(IDS, 12, cached=cached, stop=())) for cached in (True, False))
    assert [step.id for step in cached] == [step.id for step in plain]
    assert [step.computed for step in cached] == [8] + [1] * 11
    assert [step.computed for step in plain] == list(range(8, 20))
    assert [step.position for step in cached] == list(range(8, 20))
    per_position = 2 * 3 * 2 * 8 * 8  # keys and values, blocks, heads, width, bytes of a float64
    assert [step.cache_bytes for step in cached] == [n * per_position for n in range(8, 20)]
    assert {step.cache_bytes for step in plain} == {0}
    for one, other in zip(cached, plain, strict=True):
        np.testing.assert_allclose(one.logits, other.logits, atol=1e-10)
        assert one.logits.shape == (96,)


def test_generation_chooses_as_told_and_stops(tiny):
    heard = []

    def third(logits, ids):
        heard.append(list(ids))
        return int(np.argsort(-logits)[2])

    steps = list(tiny.generate(IDS, 3, choose=third, stop=()))
    assert [step.id for step in steps] == [int(np.argsort(-step.logits)[2]) for step in steps]
    assert heard == [IDS + [step.id for step in steps[:n]] for n in range(3)]
    first = steps[0].id
    assert [step.id for step in tiny.generate(IDS, 3, choose=third, stop={first})] == [first]
    assert len(list(tiny.generate([1] * 38, 9, stop=()))) == 2  # the context holds 40
    assert list(tiny.generate([1] * 40, 9)) == []
    assert list(tiny.generate(IDS, 0)) == []
    with pytest.raises(ValueError, match="41 tokens"):
        next(tiny.generate([1] * 41, 9))


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], "at least one token"),
        (np.array([0.5]), "whole numbers"),
        (np.array([[[1, 2]]]), "at least one token"),
        (np.array(["a"]), "whole numbers"),
        ([96], "between 0 and 95"),
        ([-1], "between 0 and 95"),
        ([1] * 41, "41 tokens; the model reads only 40"),
    ],
)
def test_bad_input_is_a_sentence(tiny, ids, message):
    with pytest.raises(ValueError, match=message):
        tiny.forward(ids)


def test_loss_of_one_token_is_a_sentence(tiny):
    with pytest.raises(ValueError, match="at least two tokens"):
        tiny.loss([1])


def test_cache_is_filled_rewound_and_full(tiny):
    cache = tiny.new_cache(6)
    tiny.forward(IDS[:5], cache)
    first = tiny.forward([7], cache)
    assert (cache.length, cache.capacity) == (6, 6)
    with pytest.raises(ValueError, match="room for 6 positions, not for 7"):
        tiny.forward([7], cache)
    assert cache.length == 6
    cache.rewind(5)
    other = tiny.forward([9], cache)
    cache.rewind(5)
    np.testing.assert_array_equal(tiny.forward([7], cache), first)
    assert np.abs(other - first).max() > 1e-3
    for length in (-1, 7):
        with pytest.raises(ValueError, match="cannot go back"):
            cache.rewind(length)


def test_an_empty_cache_is_a_cache(tiny):
    cache = KVCache(3, 2, 4, 8, np.float64)
    assert cache.nbytes == 0
    tiny.forward(IDS[:4], cache)
    assert cache.length == 4


def test_threads_that_look_at_one_sentence_compute_it_once(tiny, monkeypatch):
    calls, plain = [], Model.forward

    def counted(self, *args, **kwargs):
        calls.append(1)
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(Model, "forward", counted)
    threads = [threading.Thread(target=tiny.trace, args=([9, 8, 7],)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def test_the_weights_pass_for_arrays(tiny):
    block = tiny.weights.blocks[0]
    assert isinstance(block.w_gate, Matrix)
    assert block.w_gate.shape == (32, 64)
    np.testing.assert_array_equal(tiny.weights.unembedding.rows, tiny.weights.embedding)


def test_edited_is_the_run_with_the_edit(tiny) -> None:
    """Restarting at the edited block gives every activation of the whole run, whatever is edited."""
    experiments = {
        "head": edits.switch_off_head(1, 2),
        "norm": edits.switch_off_norm(2, "attn"),
        "residual": {**edits.switch_off_residual(2, "ffn"), **edits.switch_off_ffn(1)},
        "first block": edits.switch_off_attention(0),
        "positions": edits.switch_off_rope(),
        "the end": edits.add("final.norm", np.ones(32, np.float32)),
    }
    for key, edit in experiments.items():
        whole: dict[str, np.ndarray] = {}
        tiny.forward(IDS, trace=whole, edit=edit)
        again = tiny.edited(IDS, edit, key)
        assert set(again) == set(whole)
        for name, value in whole.items():
            np.testing.assert_array_equal(again[name], value, err_msg=f"{key}: {name}")
        assert not again["logits"].flags.writeable
    assert (
        tiny.edited(IDS, experiments["head"], "head")["logits"]
        is tiny.edited(IDS, experiments["head"], "head")["logits"]
    )
    with pytest.raises(ValueError, match=r"no activation called blk\.7\.resid"):
        tiny.edited(IDS, edits.add("blk.7.resid", np.ones(32, np.float32)), "nowhere")


def test_a_batch_of_texts_is_each_text_alone(tiny) -> None:
    texts = np.array([IDS, IDS[::-1], IDS])
    together = tiny.forward(texts)
    for text, logits in zip(texts, together, strict=True):
        np.testing.assert_allclose(logits, tiny.forward(text), rtol=1e-4, atol=1e-4)


def test_beams_share_a_prompt_and_change_their_parents(tiny) -> None:
    """One prompt read once, three texts that go on from it, then two of which both continue the third."""
    cache = tiny.new_cache(len(IDS) + 2, batch=1)
    tiny.forward(np.array([IDS]), cache)
    cache.reorder([0, 0, 0])
    tiny.forward(np.array([[5], [6], [7]]), cache)
    cache.reorder([2, 2])
    logits = tiny.forward(np.array([[8], [9]]), cache)
    for last, row in zip((8, 9), logits, strict=True):
        np.testing.assert_allclose(row[-1], tiny.forward([*IDS, 7, last])[-1], rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="single text"):
        tiny.new_cache(4).reorder([0])
